//! Random literals, from a seed.

use fastrand::Rng;

/// Type name, its OID, and what makes a literal of it.
type Generator = (&'static str, u32, fn(&mut Rng) -> String);

pub(super) const GENERATORS: &[Generator] = &[
    ("bool", 16, |random| random.bool().to_string()),
    ("int8", 20, |random| random.i64(..).to_string()),
    ("float8", 701, |random| f64::from_bits(random.u64(..)).to_string().replace("inf", "Infinity")),
    ("float4", 700, |random| f32::from_bits(random.u32(..)).to_string().replace("inf", "Infinity")),
    ("float8", 701, |random| format!("{}e{}", random.i32(-99..99), random.i32(-300..300))),
    ("numeric", 1700, numeric),
    ("text", 25, string),
    ("bytea", 17, |random| format!("\\x{:032x}", random.u128(..))),
    ("timestamp", 1114, timestamp),
    ("timestamptz", 1184, timestamp),
    ("date", 1082, |random| timestamp(random).split(' ').next().unwrap_or_default().to_owned()),
    ("interval", 1186, |random| {
        format!("{} months {} days {} us", random.i16(..), random.i16(..), random.i32(..))
    }),
    ("uuid", 2950, |random| format!("{:032x}", random.u128(..))),
    ("json", 114, |random| json(random, 4)),
    ("json", 114, number),
    ("jsonb", 3802, |random| format!("{{\"{}\": [{}]}}", random.i8(..), numeric(random))),
    ("text[]", 1009, |random| array(random, string)),
    ("json[]", 199, |random| array(random, |random| json(random, 2))),
    ("numeric[]", 1231, |random| array(random, numeric)),
    ("timestamptz[]", 1185, |random| array(random, timestamp)),
];

fn numeric(random: &mut Rng) -> String {
    let digits = |random: &mut Rng, most| -> String {
        (0..random.usize(1..most)).map(|_| random.digit(10)).collect()
    };
    let sign = if random.bool() { "-" } else { "" };
    let (integer, fraction) = (digits(random, 60), digits(random, 60));
    let integer = integer.trim_start_matches('0');
    if random.bool() { format!("{sign}{integer}0") } else { format!("{sign}{integer}1.{fraction}") }
        .replace("-00", "-0")
}

/// A JSON number, also out of range.
fn number(random: &mut Rng) -> String {
    let exponent = match random.u8(..4) {
        0 => random.i32(-16_400..-16_300),
        1 => random.i32(131_000..131_100),
        _ => random.i32(-400..400),
    };
    let sign = if random.bool() { "-" } else { "" };
    let fraction = random.u32(..);
    match random.u8(..5) {
        0 => format!("{sign}{}", random.u64(..)),
        1 => format!("{sign}{}.{fraction:09}", random.u8(..)),
        2 => format!("{sign}{}.{fraction}e{exponent}", random.u8(..)),
        3 => format!("{sign}0.00e{exponent}"),
        _ => format!("{sign}{}E{exponent:+}", random.u16(..)),
    }
}

fn string(random: &mut Rng) -> String {
    let character = |random: &mut Rng| match random.u8(..4) {
        0 => char::from(random.u8(1..0x80)),
        1 => *random.choice(&['"', '\\', '\n', '{', '}', ',', '(', ')', ' ']).unwrap_or(&' '),
        2 => random.char('\u{80}'..),
        _ => random.alphabetic(),
    };
    (0..random.usize(..30)).map(|_| character(random)).collect()
}

fn timestamp(random: &mut Rng) -> String {
    let year = if random.bool() { random.u32(1_900..2_100) } else { random.u32(1..290_000) };
    let era = if year < 4_700 && random.u8(..4) == 0 { " BC" } else { "" };
    let (month, day) = (random.u8(1..=12), random.u8(1..=28));
    let clock = format!("{:02}:{:02}:{:02}", random.u8(..24), random.u8(..60), random.u8(..60));
    format!("{year:04}-{month:02}-{day:02} {clock}.{:06}{era}", random.u32(..1_000_000))
}

/// A JSON text: equal keys, escapes, white space; some that `jsonb` refuses.
fn json(random: &mut Rng, depth: usize) -> String {
    let space = ["", " ", "\n\t"][random.usize(..3)];
    let inner = depth.saturating_sub(1);
    let text = match random.u8(..if depth == 0 { 5 } else { 9 }) {
        0 => "null".to_owned(),
        1 => random.bool().to_string(),
        2 => format!("{}.{:03}e{}", random.i8(..), random.u8(..), random.i8(-30..30)),
        3 => serde_json::to_string(&string(random)).unwrap_or_default(),
        4 => escaped(random),
        5 | 6 => {
            let elements: Vec<String> =
                (0..random.usize(..5)).map(|_| json(random, inner)).collect();
            format!("[{space}{}{space}]", elements.join(","))
        }
        _ => {
            let keys = [1, 4, 40][random.usize(..3)];
            let member = |random: &mut Rng| {
                let key = ["\"a\"", "\"\\u0061\"", "\"\"", "\"b\\n\""][random.usize(..4)];
                let key =
                    if keys < 10 { key.to_owned() } else { format!("\"{}\"", random.u8(..30)) };
                format!("{key}{space}:{space}{}", json(random, inner))
            };
            let members: Vec<String> = (0..random.usize(..keys)).map(|_| member(random)).collect();
            format!("{{{space}{}{space}}}", members.join(","))
        }
    };
    format!("{space}{text}{space}")
}

/// A JSON string of escapes.
fn escaped(random: &mut Rng) -> String {
    let escape = |random: &mut Rng| match random.u8(..40) {
        0 => "\\u0000".to_owned(),
        1 => format!("\\ud8{:02x}", random.u8(..)),
        2..8 => format!("\\ud8{:02X}\\udc{:02x}", random.u8(..), random.u8(..)),
        8..20 => format!("\\u{:04x}", random.u16(1..0xd800)),
        20..25 => format!("\\u00{:02X}", random.u8(1..)),
        _ => {
            ["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"][random.usize(..8)].to_owned()
        }
    };
    let text: String = (0..random.usize(..8)).map(|_| escape(random)).collect();
    format!("\"{text}\"")
}

fn array(random: &mut Rng, element: impl Fn(&mut Rng) -> String) -> String {
    let quote = |text: String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let elements: Vec<String> = (0..random.usize(..5))
        .map(|_| if random.u8(..6) == 0 { "NULL".to_owned() } else { quote(element(random)) })
        .collect();
    let bound = random.i8(..);
    match elements.len() {
        0 => "{}".to_owned(),
        n if random.bool() => {
            format!("[{bound}:{}]={{{}}}", i64::from(bound) + n as i64 - 1, elements.join(","))
        }
        _ => format!("{{{0}}}", elements.join(",")),
    }
}
