//! The text of PostgreSQL values as JSON, exactly as `to_jsonb` gives it.
//!
//! Input is text as `pgoutput` sends it in a session with `datestyle = ISO`,
//! `timezone = UTC`, `intervalstyle = postgres`, `extra_float_digits = 3` and
//! `bytea_output = hex`. Output differs from `to_jsonb` at most in white space and in the order
//! of keys. A value that `jsonb` would refuse becomes a string, so that its row is still
//! recorded and indexed.
//!
//! Not here: rows (`wal` writes them), I/O except [`Kinds::load`].

mod json;
mod kinds;
mod nested;
mod number;
mod size;
mod string;
mod time;

use sha2::{Digest, Sha256};

pub use kinds::{Attribute, Kind, Kinds};
use size::STRING_MAX;
pub use size::fits_jsonb;
pub use string::write_string;

/// A value that is not what `to_jsonb` would give, because that would be an error, or because
/// only the server can know it. Its text was written as a JSON string instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poison {
    /// A sentence about the value, without any part of it.
    pub reason: &'static str,
}

const TOO_LARGE: &str = "it is too large for jsonb, whose limit is 256 MiB";
const OTHER_FORM: &str = "its text is not of its type's form; the type was altered meanwhile";

/// Appends the JSON of one value in text format. Always valid JSON, given that the text of a
/// `jsonb` value is; never fails.
///
/// Returns [`Poison`] where `jsonb` would refuse the value: then its text was written as a
/// string, in the place of the innermost value refused. What is too long for a string of
/// `jsonb` as well leaves its length and SHA-256.
pub fn write(kind: &Kind, text: &[u8], out: &mut Vec<u8>) -> Option<Poison> {
    let from = out.len();
    let poison = write_value(kind, text, out);
    if fits_jsonb(&out[from..]) {
        return poison;
    }
    out.truncate(from);
    Some(refuse(text, TOO_LARGE, out))
}

fn write_value(kind: &Kind, text: &[u8], out: &mut Vec<u8>) -> Option<Poison> {
    let from = out.len();
    let written = match kind {
        Kind::Bool if text == b"t" => {
            out.extend_from_slice(b"true");
            return None;
        }
        Kind::Bool if text == b"f" => {
            out.extend_from_slice(b"false");
            return None;
        }
        Kind::Number if number::write_prefix(text, out) == Ok(text.len()) => return None,
        Kind::Bool | Kind::Number | Kind::Text => {
            out.truncate(from);
            return write_text(text, out);
        }
        Kind::Timestamp => {
            time::write_timestamp(text, out);
            return None;
        }
        Kind::Timestamptz => {
            time::write_timestamptz(text, out);
            return None;
        }
        Kind::Opaque(reason) => return Some(refuse(text, reason, out)),
        // PostgreSQL printed it, so it is JSON; its encoding may be none (SQL_ASCII).
        Kind::Jsonb if std::str::from_utf8(text).is_ok() => {
            out.extend_from_slice(text);
            return None;
        }
        Kind::Json | Kind::Jsonb => match std::str::from_utf8(text) {
            Ok(_) => json::write_json(text, out).map(|()| None),
            Err(_) => {
                let text = String::from_utf8_lossy(text);
                json::write_json(text.as_bytes(), out).map(|()| None)
            }
        },
        Kind::Array { element, delimiter } => {
            nested::write_array(element, *delimiter, text, out).map_err(|_| OTHER_FORM)
        }
        Kind::Vector(element) => return nested::write_vector(element, text, out),
        Kind::Composite(attributes) => {
            nested::write_composite(attributes, text, out).map_err(|_| OTHER_FORM)
        }
        Kind::Hstore => nested::write_hstore(text, out).map_err(|_| OTHER_FORM),
    };
    written.unwrap_or_else(|reason| {
        out.truncate(from);
        Some(refuse(text, reason, out))
    })
}

/// Appends a text as a string.
#[inline]
fn write_text(text: &[u8], out: &mut Vec<u8>) -> Option<Poison> {
    if text.len() > STRING_MAX {
        return Some(refuse(text, TOO_LARGE, out));
    }
    write_string(text, out);
    None
}

/// Appends a string in the place of a value that `jsonb` refuses.
#[cold]
fn refuse(text: &[u8], reason: &'static str, out: &mut Vec<u8>) -> Poison {
    if text.len() > STRING_MAX {
        let hash = Sha256::digest(text);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let length = text.len();
        write_string(format!("{length} bytes, SHA-256 {hash}").as_bytes(), out);
    } else {
        write_string(text, out);
    }
    Poison { reason }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn built_in(name: &str) -> Arc<Kind> {
        let is_it = |oid: &u32| {
            postgres_types::Type::from_oid(*oid).is_some_and(|built_in| built_in.name() == name)
        };
        Kinds::new().get((1..16_384).find(is_it).unwrap()).unwrap()
    }

    fn check_kind(kind: &Kind, text: &str, expected: &str) {
        let mut out = b"before".to_vec();
        let poison = write(kind, text.as_bytes(), &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), format!("before{expected}"), "{text}");
        assert_eq!(poison, None, "{text}");
    }

    fn check(name: &str, text: &str, expected: &str) {
        check_kind(&built_in(name), text, expected);
    }

    fn refused(kind: &Kind, text: &str, expected: &str) {
        let mut out = Vec::new();
        let poison = write(kind, text.as_bytes(), &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected, "{text}");
        assert!(poison.is_some(), "{text}");
    }

    fn composite(attributes: &[(&str, Kind)]) -> Kind {
        let attribute = |(name, kind): &(&str, Kind)| Attribute {
            key: format!("\"{name}\":").into_bytes().into_boxed_slice(),
            kind: Arc::new(kind.clone()),
        };
        Kind::Composite(attributes.iter().map(attribute).collect())
    }

    #[test]
    fn scalars() {
        check("bool", "t", "true");
        check("bool", "f", "false");
        check("int8", "-9223372036854775808", "-9223372036854775808");
        check("numeric", "123456789012345678901234567890.10", "123456789012345678901234567890.10");
        check("numeric", "NaN", r#""NaN""#);
        check("float8", "1e+20", "100000000000000000000");
        check("float8", "-0", "0");
        check("float4", "-Infinity", r#""-Infinity""#);
        check("oid", "26", r#""26""#);
        check("xid", "26", r#""26""#);
        check("money", "$1.00", r#""$1.00""#);
        check("text", "a\"\\\n", r#""a\"\\\n""#);
        check("bpchar", "a  ", r#""a  ""#);
        check("bytea", "\\x00ff", r#""\\x00ff""#);
        check("date", "0044-03-15 BC", r#""0044-03-15 BC""#);
        check("timestamp", "infinity", r#""infinity""#);
        check("timestamp", "20000-01-02 03:04:05", r#""20000-01-02T03:04:05""#);
        check("timestamptz", "2000-01-02 03:04:05+00", r#""2000-01-02T03:04:05+00:00""#);
        check("json", " [1e2, 1.0] ", "[100,1.0]");
        check("jsonb", r#"{"a": [1, 2]}"#, r#"{"a": [1, 2]}"#);
    }

    #[test]
    fn arrays() {
        check("_int4", "{}", "[]");
        check("_int4", "{1,NULL,-3}", "[1,null,-3]");
        check("_int4", "[-1:0][2:3]={{1,2},{3,4}}", "[[1,2],[3,4]]");
        check(
            "_text",
            r#"{a,"NULL","","a,b","x\"y\\z"," ","{"}"#,
            r#"["a","NULL","","a,b","x\"y\\z"," ","{"]"#,
        );
        check("_box", "{(1,1),(0,0);(2,2),(0,0)}", r#"["(1,1),(0,0)","(2,2),(0,0)"]"#);
        check("_json", r#"{"{\"a\":1e1}",NULL,1}"#, r#"[{"a":10},null,1]"#);
        check(
            "_timestamp",
            r#"{"2000-01-01 00:00:00",infinity}"#,
            r#"["2000-01-01T00:00:00","infinity"]"#,
        );
        check("int2vector", "1 2 3", "[1,2,3]");
        check("int2vector", "", "[]");
        check("oidvector", "1 2", r#"["1","2"]"#);
        check("_int2vector", r#"{"1 2",3,""}"#, "[[1,2],[3],[]]");
    }

    #[test]
    fn row_types() {
        let inner = composite(&[("x", Kind::Number), ("y", Kind::Text)]);
        let outer = composite(&[("in", inner.clone()), ("b", Kind::Bool)]);
        check_kind(&composite(&[]), "()", "{}");
        check_kind(&inner, "(,)", r#"{"x":null,"y":null}"#);
        check_kind(&inner, r#"(1,"")"#, r#"{"x":1,"y":""}"#);
        check_kind(&inner, r#"(1,"a""b\\c,)")"#, r#"{"x":1,"y":"a\"b\\c,)"}"#);
        check_kind(
            &outer,
            r#"("(1,""a """"q"""""")",t)"#,
            r#"{"in":{"x":1,"y":"a \"q\""},"b":true}"#,
        );
        let array = Kind::Array { element: Arc::new(inner.clone()), delimiter: b',' };
        check_kind(&array, r#"{"(1,\"a b\")",NULL}"#, r#"[{"x":1,"y":"a b"},null]"#);
        for other in ["", "(", "(1)", "(1,2,3)", "(1,2", "(1,\"2)", "(1,2)x"] {
            refused(&inner, other, &serde_json::to_string(other).unwrap());
        }
    }

    #[test]
    fn hstore() {
        check_kind(&Kind::Hstore, "", "{}");
        check_kind(
            &Kind::Hstore,
            r#""a"=>"1", "b\"\\"=>NULL, "c"=>"NULL""#,
            r#"{"a":"1","b\"\\":null,"c":"NULL"}"#,
        );
        refused(&Kind::Hstore, "\"a\"=>1", r#""\"a\"=>1""#);
    }

    #[test]
    fn a_refused_value_becomes_a_string_in_its_place() {
        refused(&Kind::Json, r#" "\u0000""#, r#"" \"\\u0000\"""#);
        refused(&Kind::Json, "1e400000", r#""1e400000""#);
        refused(&Kind::Json, r#"{"a":1"#, r#""{\"a\":1""#);
        refused(&built_in("_json"), r#"{1,"\"\\ud800\"",2}"#, r#"[1,"\"\\ud800\"",2]"#);
        refused(&built_in("_int4"), "{1,{2}", r#""{1,{2}""#);
        refused(&Kind::Opaque("reason"), "x", r#""x""#);
    }

    #[test]
    fn what_fits_no_string_leaves_its_length_and_hash() {
        let text = vec![b'x'; STRING_MAX + 1];
        let mut out = Vec::new();
        assert_eq!(write(&Kind::Text, &text, &mut out), Some(Poison { reason: TOO_LARGE }));
        let start = out.strip_prefix(b"\"268435456 bytes, SHA-256 ").unwrap();
        assert_eq!(start.len(), 65);
    }

    /// `jsonb` is left out: it is copied, since PostgreSQL has printed it.
    #[test]
    fn any_bytes_of_any_kind_give_json() {
        let mut random = fastrand::Rng::with_seed(7);
        let built_in = Kinds::new();
        let mut kinds: Vec<Arc<Kind>> = (1..16_384).filter_map(|oid| built_in.get(oid)).collect();
        let inner = composite(&[("a", Kind::Json), ("b", Kind::Text)]);
        kinds.extend([inner, Kind::Hstore, composite(&[])].map(Arc::new));
        kinds.dedup();
        let alphabet = br#"{}[](),;:="\ NULLtruefalsn0123456789.eE+-u/abT"#;
        let mut out = Vec::new();
        for round in 0..200_000 {
            let kind = &kinds[random.usize(..kinds.len())];
            if kind_contains_jsonb(kind) {
                continue;
            }
            let text: Vec<u8> = (0..random.usize(..24))
                .map(|_| match random.u8(..20) {
                    0 => random.u8(..),
                    _ => alphabet[random.usize(..alphabet.len())],
                })
                .collect();
            out.clear();
            write(kind, &text, &mut out);
            let json: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&out);
            assert!(json.is_ok(), "round {round}: {kind:?} of {text:?} gave {out:?}");
        }
    }

    fn kind_contains_jsonb(kind: &Kind) -> bool {
        match kind {
            Kind::Jsonb => true,
            Kind::Array { element, .. } => kind_contains_jsonb(element),
            _ => false,
        }
    }
}
