//! JSON compared as it is written: a number equals only the same digits, a string the same
//! characters, an object the same keys in any order.
//!
//! Not here: `serde_json`. It reads numbers as binary floating point, and the feature that keeps
//! their text would change the product under test as well.

use std::collections::BTreeMap;

/// A JSON value; a number is kept as its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// Reads one value; panics on anything that is not exactly one JSON value, duplicate keys
    /// included, for both sides of a comparison come from servers.
    pub(crate) fn parse(text: &str) -> Json {
        let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
        let value = reader.value();
        reader.blank();
        assert_eq!(reader.at, text.len(), "trailing text after a JSON value");
        value
    }

    /// The member `key` of an object; `Null` where there is none.
    pub(crate) fn get(&self, key: &str) -> &Json {
        match self {
            Json::Object(members) => members.get(key).unwrap_or(&Json::Null),
            _ => &Json::Null,
        }
    }

    /// The elements of an array; none for anything else.
    pub(crate) fn elements(&self) -> &[Json] {
        match self {
            Json::Array(elements) => elements,
            _ => &[],
        }
    }

    /// The characters of a string or the digits of a number; empty for anything else.
    pub(crate) fn text(&self) -> &str {
        match self {
            Json::Text(text) | Json::Number(text) => text,
            _ => "",
        }
    }

    /// The value of a whole number; `None` for anything else.
    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Json::Number(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// One line per member that differs, as `path: expected …, found …`.
pub(crate) fn differences(expected: &Json, found: &Json) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", expected, found, &mut lines);
    lines
}

fn compare(path: &str, expected: &Json, found: &Json, lines: &mut Vec<String>) {
    match (expected, found) {
        (Json::Object(left), Json::Object(right)) => {
            for (key, value) in left {
                match right.get(key) {
                    Some(other) => compare(&format!("{path}.{key}"), value, other, lines),
                    None => lines.push(format!("{path}.{key}: missing, expected {}", brief(value))),
                }
            }
            for key in right.keys().filter(|key| !left.contains_key(*key)) {
                lines.push(format!("{path}.{key}: unexpected"));
            }
        }
        (Json::Array(left), Json::Array(right)) if left.len() == right.len() => {
            for (n, (value, other)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}[{n}]"), value, other, lines);
            }
        }
        _ if expected == found => {}
        _ => lines.push(format!("{path}: expected {}, found {}", brief(expected), brief(found))),
    }
}

fn brief(value: &Json) -> String {
    let text: String = format!("{value:?}").chars().take(120).collect();
    text
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Json {
        match self.next_visible() {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => Json::Text(self.string()),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self) -> Json {
        let mut members = BTreeMap::new();
        self.at += 1;
        while self.next_visible() != b'}' {
            let key = self.string();
            assert_eq!(self.next_visible(), b':', "an object's key needs a colon");
            self.at += 1;
            let value = self.value();
            assert!(members.insert(key.clone(), value).is_none(), "key {key:?} stands twice");
            self.comma(b'}');
        }
        self.at += 1;
        Json::Object(members)
    }

    fn array(&mut self) -> Json {
        let mut elements = Vec::new();
        self.at += 1;
        while self.next_visible() != b']' {
            elements.push(self.value());
            self.comma(b']');
        }
        self.at += 1;
        Json::Array(elements)
    }

    fn comma(&mut self, end: u8) {
        match self.next_visible() {
            b',' => self.at += 1,
            other => assert_eq!(other, end, "expected a comma or the end at byte {}", self.at),
        }
    }

    fn string(&mut self) -> String {
        assert_eq!(self.next_visible(), b'"', "expected a string at byte {}", self.at);
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let byte = self.take();
            match byte {
                b'"' => return String::from_utf8(bytes).expect("servers send UTF-8"),
                b'\\' => self.escape(&mut bytes),
                _ => bytes.push(byte),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) {
        let plain = match self.take() {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let unit = self.unit();
                let code = if (0xd800..0xdc00).contains(&unit) {
                    assert_eq!((self.take(), self.take()), (b'\\', b'u'), "half a surrogate pair");
                    0x10000 + ((unit - 0xd800) << 10) + (self.unit() - 0xdc00)
                } else {
                    unit
                };
                let letter = char::from_u32(code).expect("an escape names a character");
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return;
            }
            other => other,
        };
        bytes.push(plain);
    }

    fn unit(&mut self) -> u32 {
        let digits = std::str::from_utf8(&self.bytes[self.at..self.at + 4]).expect("four digits");
        self.at += 4;
        u32::from_str_radix(digits, 16).expect("four hexadecimal digits")
    }

    fn number(&mut self) -> Json {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(|b| b"+-.0123456789eE".contains(b)) {
            self.at += 1;
        }
        assert!(self.at > start, "expected a JSON value at byte {start}");
        let text = std::str::from_utf8(&self.bytes[start..self.at]).expect("ASCII");
        Json::Number(text.to_owned())
    }

    fn word(&mut self, word: &str, value: Json) -> Json {
        assert!(self.bytes[self.at..].starts_with(word.as_bytes()), "expected {word}");
        self.at += word.len();
        value
    }

    fn next_visible(&mut self) -> u8 {
        self.blank();
        *self.bytes.get(self.at).expect("JSON ends early")
    }

    fn blank(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self) -> u8 {
        let byte = *self.bytes.get(self.at).expect("JSON ends early");
        self.at += 1;
        byte
    }
}

#[test]
fn a_difference_names_its_place() {
    let check = |left: &str, right: &str, expected: &[&str]| {
        assert_eq!(differences(&Json::parse(left), &Json::parse(right)), expected);
    };
    check(r#"{"a": 1, "b": [true, null]}"#, r#"{"b":[true,null],"a":1}"#, &[]);
    check(r#"{"t": "\u00e7\ud83d\ude00\n\"\\"}"#, "{\"t\": \"ç😀\\u000a\\u0022\\\\\"}", &[]);
    check("1.50", "1.5", &[r#": expected Number("1.50"), found Number("1.5")"#]);
    check("[{}, []]", "[{}, [ ]]", &[]);
    check(r#"{"a":{"b":1}}"#, r#"{"a":{}}"#, &[r#".a.b: missing, expected Number("1")"#]);
    check(r#"{"a":{}}"#, r#"{"a":{"b":1}}"#, &[".a.b: unexpected"]);
    check(
        "[1]",
        "[1,2]",
        &[r#": expected Array([Number("1")]), found Array([Number("1"), Number("2")])"#],
    );
    check(
        "90071992547409931",
        "90071992547409930",
        &[r#": expected Number("90071992547409931"), found Number("90071992547409930")"#],
    );
}
