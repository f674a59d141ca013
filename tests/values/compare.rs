//! JSON texts compared: order of keys and white space do not count, every digit does.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Whether `ours` is the JSON that the server printed. A key that comes twice in ours never is.
pub(super) fn same(ours: &str, server: &str) -> bool {
    let (ours, server) = (ours.trim(), server.trim());
    if ours == server {
        return serde_json::from_str::<serde::de::IgnoredAny>(ours).is_ok() && unique_keys(ours);
    }
    match (ours.as_bytes().first(), server.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            let (Some(ours), Some(server)) = (members(ours), members(server)) else { return false };
            ours.len() == server.len()
                && ours.iter().zip(&server).all(|((a, x), (b, y))| a == b && same(x.get(), y.get()))
        }
        (Some(b'['), Some(b'[')) => {
            let parse = |text| serde_json::from_str::<Vec<Box<RawValue>>>(text);
            let (Ok(ours), Ok(server)) = (parse(ours), parse(server)) else { return false };
            ours.len() == server.len()
                && ours.iter().zip(&server).all(|(a, b)| same(a.get(), b.get()))
        }
        (Some(b'"'), Some(b'"')) => {
            let parse = |text| serde_json::from_str::<String>(text).ok();
            parse(ours).is_some() && parse(ours) == parse(server)
        }
        // Only a number too long to write out may look different from the server's.
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            server.len() > 1_000 && ours.contains(['e', 'E']) && decimal(ours) == decimal(server)
        }
        _ => false,
    }
}

fn unique_keys(json: &str) -> bool {
    match json.as_bytes().first() {
        Some(b'{') => members(json).is_some_and(|m| m.values().all(|v| unique_keys(v.get()))),
        Some(b'[') => serde_json::from_str::<Vec<Box<RawValue>>>(json)
            .is_ok_and(|elements| elements.iter().all(|e| unique_keys(e.get()))),
        _ => true,
    }
}

/// Sign, digits without zeros at either end, and the power of ten of the first digit.
fn decimal(text: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().expect("an exponent is a number");
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{integer}{fraction}");
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_matches('0').to_owned();
    if digits.is_empty() {
        return (false, digits, 0);
    }
    let place = |digits: usize| i64::try_from(digits).expect("a text has fewer digits");
    (negative, digits, place(integer.len()) - 1 + exponent - place(leading))
}

/// The members of an object; `None` if it is none or a key comes twice.
fn members(json: &str) -> Option<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_str::<Members>(json).ok().map(|members| members.0)
}

struct Members(BTreeMap<String, Box<RawValue>>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    if members.insert(key, value).is_some() {
                        return Err(serde::de::Error::custom("a key comes twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

#[test]
fn the_comparison_sees_every_digit_and_each_repeated_key() {
    let check =
        |ours: &str, server: &str, expected| assert_eq!(same(ours, server), expected, "{ours}");
    check(r#"{"a":1,"b":[2]}"#, r#"{"b": [2], "a": 1}"#, true);
    check(r#"{"a":1,"a":1}"#, r#"{"a": 1}"#, false);
    check(r#"{"a":1,"a":1}"#, r#"{"a":1,"a":1}"#, false);
    check("1.0", "1", false);
    check("9007199254740993", "9007199254740992", false);
    check("1e2", "100", false);
    check("1e2000", &format!("1{}", "0".repeat(2_000)), true);
    check("-12e1999", &format!("-12{}", "0".repeat(1_999)), true);
    check("1e2001", &format!("1{}", "0".repeat(2_000)), false);
    check("1.5e-2000", &format!("0.{}15", "0".repeat(1_999)), true);
    check(r#""a""#, "\"\\u0061\"", true);
    check(r#""1""#, "1", false);
}
