//! Conversion of PostgreSQL's text format to JSON, equal to the result of `to_jsonb`.
//!
//! The input is text as `pgoutput` sends it in a session with `datestyle = ISO`,
//! `timezone = UTC`, `intervalstyle = postgres`, `extra_float_digits = 3` and
//! `bytea_output = hex`. The output differs from `to_jsonb` only in white space and in the order
//! of keys. A value that `jsonb` rejects is written as a string, so that its row is recorded and
//! indexed nevertheless.
//!
//! Not here: rows (`engine::wal`), and I/O except [`TypeCache::load`].

mod category;
mod hex;
mod json;
mod nested;
mod number;
mod size;
mod string;
mod time;
mod type_cache;

use sha2::{Digest, Sha256};

pub use category::{Attribute, JsonCategory};
pub use hex::hex;
use size::STRING_MAX;
pub use size::fits_jsonb;
pub use string::write_string;
pub use type_cache::TypeCache;

/// The text of a value was written as a JSON string instead of the result of `to_jsonb`: the
/// server would raise an error, or only the server can convert the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Substitution {
    /// The reason as a sentence. It contains no part of the value.
    pub reason: &'static str,
}

const TOO_LARGE: &str = "it is too large for jsonb, whose limit is 256 MiB";
/// The reason of a substitution: the type was altered after the catalog was read.
pub const OTHER_FORM: &str = "its text is not of its type's form; the type was altered meanwhile";

/// Appends the JSON of one value in PostgreSQL's text format. The output is valid JSON for any
/// input, provided that the text of a `jsonb` value is valid JSON.
///
/// Returns a [`Substitution`] if `jsonb` rejects the value. Then the text of the innermost
/// rejected value was written as a string in its place. A text that exceeds the size of a string
/// in `jsonb` is replaced by its length in bytes and its SHA-256 hash.
pub fn write(category: &JsonCategory, text: &[u8], out: &mut Vec<u8>) -> Option<Substitution> {
    let from = out.len();
    let substitution = write_value(category, text, out);
    if fits_jsonb(&out[from..]) {
        return substitution;
    }
    out.truncate(from);
    Some(substitute(text, TOO_LARGE, out))
}

/// [`write()`] without the limit on the size of the whole value.
fn write_value(category: &JsonCategory, text: &[u8], out: &mut Vec<u8>) -> Option<Substitution> {
    use JsonCategory as Category;
    let from = out.len();
    let written = match category {
        Category::Bool
        | Category::Number
        | Category::Text
        | Category::Timestamp
        | Category::Timestamptz => return write_scalar(category, text, out),
        Category::Opaque(reason) => Err(*reason),
        // The output of jsonb_out is JSON. With the encoding SQL_ASCII it need not be UTF-8.
        Category::Jsonb if simdutf8::basic::from_utf8(text).is_ok() => {
            out.extend_from_slice(text);
            return None;
        }
        Category::Json | Category::Jsonb => {
            json::write_json(String::from_utf8_lossy(text).as_bytes(), out).map(|()| None)
        }
        Category::Array { element, delimiter } => {
            nested::write_array(element, *delimiter, text, out).map_err(|_| OTHER_FORM)
        }
        Category::Vector(element) => return nested::write_vector(element, text, out),
        Category::Composite(attributes) => {
            nested::write_composite(attributes, text, out).map_err(|_| OTHER_FORM)
        }
        Category::Hstore => nested::write_hstore(text, out).map_err(|_| OTHER_FORM),
    };
    written.unwrap_or_else(|reason| {
        out.truncate(from);
        Some(substitute(text, reason, out))
    })
}

/// Appends a boolean, a number, a timestamp or a string. A text that is not a boolean or a number
/// is written as a string.
fn write_scalar(category: &JsonCategory, text: &[u8], out: &mut Vec<u8>) -> Option<Substitution> {
    let from = out.len();
    match category {
        JsonCategory::Bool if text == b"t" => out.extend_from_slice(b"true"),
        JsonCategory::Bool if text == b"f" => out.extend_from_slice(b"false"),
        JsonCategory::Number if number::write_prefix(text, out) == Ok(text.len()) => {}
        JsonCategory::Timestamp => time::write_timestamp(text, out),
        JsonCategory::Timestamptz => time::write_timestamptz(text, out),
        _ => {
            out.truncate(from);
            return write_text(text, out);
        }
    }
    None
}

/// Appends a text as a JSON string.
#[inline]
fn write_text(text: &[u8], out: &mut Vec<u8>) -> Option<Substitution> {
    if text.len() > STRING_MAX {
        return Some(substitute(text, TOO_LARGE, out));
    }
    write_string(text, out);
    None
}

/// Appends the string that is written instead of a value that `jsonb` rejects.
#[cold]
fn substitute(text: &[u8], reason: &'static str, out: &mut Vec<u8>) -> Substitution {
    if text.len() > STRING_MAX {
        let hash = hex(&Sha256::digest(text));
        let length = text.len();
        write_string(format!("{length} bytes, SHA-256 {hash}").as_bytes(), out);
    } else {
        write_string(text, out);
    }
    Substitution { reason }
}

/// Appends the size of a text and its SHA-256 hash, as a JSON object.
pub fn write_digest(text: &[u8], out: &mut Vec<u8>) {
    let hash = hex(&Sha256::digest(text));
    let digest = format!("{{\"bytes\": {}, \"sha256\": \"{hash}\"}}", text.len());
    out.extend_from_slice(digest.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::JsonCategory as Category;
    use super::*;

    fn built_in(name: &str) -> Arc<JsonCategory> {
        let is_it = |oid: &u32| {
            postgres_types::Type::from_oid(*oid).is_some_and(|built_in| built_in.name() == name)
        };
        TypeCache::new().get((1..16_384).find(is_it).unwrap()).unwrap()
    }

    fn check_category(category: &JsonCategory, text: &str, expected: &str) {
        let mut out = b"before".to_vec();
        let substitution = write(category, text.as_bytes(), &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), format!("before{expected}"), "{text}");
        assert_eq!(substitution, None, "{text}");
    }

    fn check(name: &str, text: &str, expected: &str) {
        check_category(&built_in(name), text, expected);
    }

    fn refused(category: &JsonCategory, text: &str, expected: &str) {
        let mut out = Vec::new();
        let substitution = write(category, text.as_bytes(), &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), expected, "{text}");
        assert!(substitution.is_some(), "{text}");
    }

    fn composite(attributes: &[(&str, JsonCategory)]) -> JsonCategory {
        let attribute = |(name, category): &(&str, JsonCategory)| Attribute {
            key: format!("\"{name}\":").into_bytes().into_boxed_slice(),
            category: Arc::new(category.clone()),
        };
        Category::Composite(attributes.iter().map(attribute).collect())
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
        let inner = composite(&[("x", Category::Number), ("y", Category::Text)]);
        let outer = composite(&[("in", inner.clone()), ("b", Category::Bool)]);
        check_category(&composite(&[]), "()", "{}");
        check_category(&inner, "(,)", r#"{"x":null,"y":null}"#);
        check_category(&inner, r#"(1,"")"#, r#"{"x":1,"y":""}"#);
        check_category(&inner, r#"(1,"a""b\\c,)")"#, r#"{"x":1,"y":"a\"b\\c,)"}"#);
        check_category(
            &outer,
            r#"("(1,""a """"q"""""")",t)"#,
            r#"{"in":{"x":1,"y":"a \"q\""},"b":true}"#,
        );
        let array = Category::Array { element: Arc::new(inner.clone()), delimiter: b',' };
        check_category(&array, r#"{"(1,\"a b\")",NULL}"#, r#"[{"x":1,"y":"a b"},null]"#);
        for other in ["", "(", "(1)", "(1,2,3)", "(1,2", "(1,\"2)", "(1,2)x"] {
            refused(&inner, other, &serde_json::to_string(other).unwrap());
        }
    }

    #[test]
    fn hstore() {
        check_category(&Category::Hstore, "", "{}");
        check_category(
            &Category::Hstore,
            r#""a"=>"1", "b\"\\"=>NULL, "c"=>"NULL""#,
            r#"{"a":"1","b\"\\":null,"c":"NULL"}"#,
        );
        refused(&Category::Hstore, "\"a\"=>1", r#""\"a\"=>1""#);
    }

    #[test]
    fn a_rejected_value_becomes_a_string_in_its_place() {
        refused(&Category::Json, r#" "\u0000""#, r#"" \"\\u0000\"""#);
        refused(&Category::Json, "1e400000", r#""1e400000""#);
        refused(&Category::Json, r#"{"a":1"#, r#""{\"a\":1""#);
        refused(&built_in("_json"), r#"{1,"\"\\ud800\"",2}"#, r#"[1,"\"\\ud800\"",2]"#);
        refused(&built_in("_int4"), "{1,{2}", r#""{1,{2}""#);
        refused(&Category::Opaque("reason"), "x", r#""x""#);
    }

    #[test]
    fn a_text_too_long_for_a_string_becomes_its_length_and_hash() {
        let text = vec![b'x'; STRING_MAX + 1];
        let mut out = Vec::new();
        assert_eq!(
            write(&Category::Text, &text, &mut out),
            Some(Substitution { reason: TOO_LARGE })
        );
        let start = out.strip_prefix(b"\"268435456 bytes, SHA-256 ").unwrap();
        assert_eq!(start.len(), 65);
    }

    /// `jsonb` is excluded: its text is copied, because PostgreSQL printed it.
    #[test]
    fn any_bytes_of_any_category_give_json() {
        let mut random = fastrand::Rng::with_seed(7);
        let built_in = TypeCache::new();
        let mut categories: Vec<Arc<JsonCategory>> =
            (1..16_384).filter_map(|oid| built_in.get(oid)).collect();
        let inner = composite(&[("a", Category::Json), ("b", Category::Text)]);
        categories.extend([inner, Category::Hstore, composite(&[])].map(Arc::new));
        categories.dedup();
        let alphabet = br#"{}[](),;:="\ NULLtruefalsn0123456789.eE+-u/abT"#;
        let mut out = Vec::new();
        for round in 0..200_000 {
            let category = &categories[random.usize(..categories.len())];
            if contains_jsonb(category) {
                continue;
            }
            let text: Vec<u8> = (0..random.usize(..24))
                .map(|_| match random.u8(..20) {
                    0 => random.u8(..),
                    _ => alphabet[random.usize(..alphabet.len())],
                })
                .collect();
            out.clear();
            write(category, &text, &mut out);
            let json: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&out);
            assert!(json.is_ok(), "round {round}: {category:?} of {text:?} gave {out:?}");
        }
    }

    fn contains_jsonb(category: &JsonCategory) -> bool {
        match category {
            Category::Jsonb => true,
            Category::Array { element, .. } => contains_jsonb(element),
            _ => false,
        }
    }
}
