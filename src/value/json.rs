//! `json` text as `jsonb` normalises it.
//!
//! Of members with the same key the last stays; escapes are decoded and written anew; numbers
//! are those of `numeric`. What `jsonb` refuses, though `json` holds it, is an error.
//!
//! Nothing recurses: the depth of the text costs heap, not stack.
//!
//! Not here: the limit on a value's size (`size`).

use smallvec::SmallVec;

use super::number::{self, NumberError};
use super::size::{OBJECT_MEMBERS_MAX, STRING_MAX};
use super::string::{escape_byte, plain_prefix};

/// Nesting beyond this is refused: where the server's stack ends depends on its build.
const DEPTH_MAX: usize = 8_192;
/// Objects with more members than this are searched for equal keys by sorting.
const MEMBERS_COMPARED_MAX: usize = 16;

/// The sentence of a [`super::Poison`].
pub(super) type Refusal = &'static str;

const MALFORMED: Refusal = "its text is not JSON";
const TOO_DEEP: Refusal = "its JSON is nested too deeply for jsonb";
const NUL: Refusal = "its JSON has the escape \\u0000, which jsonb refuses";
const SURROGATE: Refusal = "its JSON has half a surrogate pair, which jsonb refuses";
const NUMBER: Refusal = "its JSON has a number beyond the range of numeric, which jsonb refuses";
const TOO_MANY: Refusal = "its JSON has an object of too many members for jsonb";
const TOO_LONG: Refusal = "its JSON has a string too long for jsonb";

/// Appends `text`, which is to be UTF-8, as `jsonb` has it.
///
/// # Errors
/// Why `jsonb` refuses it; `out` then ends in a part of it.
pub(super) fn write_json(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    out.reserve(text.len());
    let mut writer = Writer { text, at: 0, out, frames: SmallVec::new(), keys: SmallVec::new() };
    loop {
        if writer.value()? && writer.after_value()? {
            return Ok(());
        }
    }
}

/// A container that is open.
struct Frame {
    /// Where the content of an object begins in `out`, and its first key in `keys`; `None` for
    /// an array.
    object: Option<(usize, usize)>,
}

/// Where a key stands in `out`, quotes included.
#[derive(Clone, Copy)]
struct Key {
    start: usize,
    end: usize,
}

struct Writer<'a> {
    text: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    frames: SmallVec<[Frame; 8]>,
    /// The keys of all open objects.
    keys: SmallVec<[Key; 16]>,
}

impl Writer<'_> {
    /// Writes a scalar, an empty container or the opening of one; true if a value has ended.
    fn value(&mut self) -> Result<bool, Refusal> {
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(open @ (b'{' | b'[')) => {
                self.take(open);
                let close = open + 2; // ASCII: '{' and '}', '[' and ']'
                if self.peek() == Some(close) {
                    self.take(close);
                    return Ok(true);
                }
                if self.frames.len() == DEPTH_MAX {
                    return Err(TOO_DEEP);
                }
                let object = (open == b'{').then_some((self.out.len(), self.keys.len()));
                self.frames.push(Frame { object });
                if object.is_some() {
                    self.key()?;
                }
                return Ok(false);
            }
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                match number::write_prefix(rest, self.out) {
                    Ok(len) => self.at += len,
                    Err(NumberError::Malformed) => return Err(MALFORMED),
                    Err(NumberError::TooLarge) => return Err(NUMBER),
                }
            }
        }
        Ok(true)
    }

    /// Goes on to the next value, closing containers; true at the end of the text.
    fn after_value(&mut self) -> Result<bool, Refusal> {
        loop {
            let Some(Frame { object }) = self.frames.last() else {
                return if self.peek().is_none() { Ok(true) } else { Err(MALFORMED) };
            };
            let object = *object;
            match self.peek() {
                Some(b',') => {
                    self.take(b',');
                    if let Some((_, first)) = object {
                        if self.keys.len() - first == OBJECT_MEMBERS_MAX {
                            return Err(TOO_MANY);
                        }
                        self.key()?;
                    }
                    return Ok(false);
                }
                Some(b'}') if let Some((start, first)) = object => {
                    drop_repeated(self.out, start, &self.keys[first..]);
                    self.keys.truncate(first);
                    self.take(b'}');
                }
                Some(b']') if object.is_none() => self.take(b']'),
                _ => return Err(MALFORMED),
            }
            self.frames.pop();
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), Refusal> {
        if self.peek() != Some(b'"') {
            return Err(MALFORMED);
        }
        let start = self.out.len();
        self.string()?;
        self.keys.push(Key { start, end: self.out.len() });
        if self.peek() != Some(b':') {
            return Err(MALFORMED);
        }
        self.take(b':');
        Ok(())
    }

    /// The string whose opening quote is next.
    fn string(&mut self) -> Result<(), Refusal> {
        self.take(b'"');
        let start = self.out.len();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let (plain, rest) = rest.split_at(plain_prefix(rest));
            self.out.extend_from_slice(plain);
            self.at += plain.len();
            match rest.first() {
                Some(b'"') => break,
                Some(b'\\') => self.escape(rest)?,
                _ => return Err(MALFORMED),
            }
        }
        self.take(b'"');
        if self.out.len() - start > STRING_MAX { Err(TOO_LONG) } else { Ok(()) }
    }

    /// The escape that `rest`, the text from `at` on, begins with.
    fn escape(&mut self, rest: &[u8]) -> Result<(), Refusal> {
        let byte = match rest.get(1) {
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let (character, len) = unicode_escape(rest)?;
                self.at += len;
                match u8::try_from(character) {
                    Ok(byte) if byte.is_ascii() => escape_byte(byte, self.out),
                    _ => {
                        let utf8 = &mut [0; 4];
                        self.out.extend_from_slice(character.encode_utf8(utf8).as_bytes());
                    }
                }
                return Ok(());
            }
            _ => return Err(MALFORMED),
        };
        self.at += 2;
        escape_byte(byte, self.out);
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Refusal> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(MALFORMED);
        }
        self.out.extend_from_slice(word);
        self.at += word.len();
        Ok(())
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Writes the byte that was peeked at.
    fn take(&mut self, byte: u8) {
        self.out.push(byte);
        self.at += 1;
    }
}

/// The character of a `\u` escape, or of two that are a surrogate pair, and its length.
fn unicode_escape(rest: &[u8]) -> Result<(char, usize), Refusal> {
    let unit = |at: usize| -> Option<u32> {
        let escape = rest.get(at..at + 6)?.strip_prefix(b"\\u")?;
        escape.iter().try_fold(0, |sum, &byte| Some(sum * 16 + char::from(byte).to_digit(16)?))
    };
    let first = unit(0).ok_or(MALFORMED)?;
    match first {
        0 => Err(NUL),
        0xd800..0xdc00 => {
            let second = unit(6).filter(|u| (0xdc00..0xe000).contains(u)).ok_or(SURROGATE)?;
            let scalar = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            Ok((char::from_u32(scalar).ok_or(SURROGATE)?, 12))
        }
        _ => Ok((char::from_u32(first).ok_or(SURROGATE)?, 6)),
    }
}

/// Drops the members of an object whose key comes again later. The object's content begins at
/// `start` and ends with `out`.
fn drop_repeated(out: &mut Vec<u8>, start: usize, keys: &[Key]) {
    let name = |key: &Key| &out[key.start..key.end];
    let repeated: Vec<usize> = if keys.len() <= MEMBERS_COMPARED_MAX {
        let again = |(index, key): (usize, &Key)| {
            keys[index + 1..].iter().any(|later| name(later) == name(key)).then_some(index)
        };
        keys.iter().enumerate().filter_map(again).collect()
    } else {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by(|&a, &b| name(&keys[a]).cmp(name(&keys[b])).then(a.cmp(&b)));
        let mut again: Vec<usize> = order
            .windows(2)
            .filter(|pair| name(&keys[pair[0]]) == name(&keys[pair[1]]))
            .map(|pair| pair[0])
            .collect();
        again.sort_unstable();
        again
    };
    if repeated.is_empty() {
        return;
    }
    let mut kept = Vec::with_capacity(out.len() - start);
    let mut repeated = repeated.iter().peekable();
    for (index, key) in keys.iter().enumerate() {
        if repeated.next_if_eq(&&index).is_none() {
            let end = keys.get(index + 1).map_or(out.len(), |next| next.start - 1);
            kept.extend_from_slice(&out[key.start..end]);
            kept.push(b',');
        }
    }
    kept.pop();
    out.truncate(start);
    out.extend_from_slice(&kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut out = b"before".to_vec();
        assert_eq!(write_json(text.as_bytes(), &mut out), Ok(()), "{text}");
        assert_eq!(std::str::from_utf8(&out).unwrap(), format!("before{expected}"));
    }

    fn refused(text: &str, reason: Refusal) {
        assert_eq!(write_json(text.as_bytes(), &mut Vec::new()), Err(reason), "{text}");
    }

    #[test]
    fn white_space_goes() {
        check(" [ 1 , { \"a\" :\ttrue , \"b\":[ ] } ,\n{ } ] ", r#"[1,{"a":true,"b":[]},{}]"#);
        check("null", "null");
        check(" \"x\" ", r#""x""#);
    }

    #[test]
    fn the_last_of_equal_keys_stays() {
        check(r#"{"a":1,"a":2}"#, r#"{"a":2}"#);
        check(r#"{"a":1,"b":2,"\u0061":3}"#, r#"{"b":2,"a":3}"#);
        check(
            r#"{"a":{"x":1,"x":2},"a":{"y":1,"z":0,"y":[2,3]},"c":1}"#,
            r#"{"a":{"z":0,"y":[2,3]},"c":1}"#,
        );
        check(r#"[{"a":1,"a":2},{"a":3,"":4,"":5}]"#, r#"[{"a":2},{"a":3,"":5}]"#);
        let members = |from: i32| (from..20).map(|n| format!("\"{n}\":{n}")).collect::<Vec<_>>();
        check(
            &format!("{{{},\"0\":\"x\",\"1\":1}}", members(0).join(",")),
            &format!("{{{},\"0\":\"x\",\"1\":1}}", members(2).join(",")),
        );
    }

    #[test]
    fn escapes_are_written_anew() {
        check(r#""\u0041\/\u00e9\ud83d\ude00""#, r#""A/é😀""#);
        check(
            r#""\b\f\n\r\t\\\"\u000a\u0001\u007f\u0022""#,
            "\"\\b\\f\\n\\r\\t\\\\\\\"\\n\\u0001\u{7f}\\\"\"",
        );
    }

    #[test]
    fn numbers_are_those_of_numeric() {
        check("[1e2,-0,1.50,12E-1]", "[100,0,1.50,1.2]");
        refused("[1e400000]", NUMBER);
    }

    #[test]
    fn what_jsonb_refuses_is_an_error() {
        refused(r#"{"a":"\u0000","a":1}"#, NUL);
        refused(r#"{"\u0000":1}"#, NUL);
        for half in ["\\ud83d", "\\ude00\\ud83d", "\\ud83dx", "\\ud83d\\u0041", "\\ud83d\\n"] {
            refused(&format!("\"{half}\""), SURROGATE);
        }
        refused(&"[".repeat(DEPTH_MAX + 1), TOO_DEEP);
        let deep = "[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX);
        check(&deep, &deep);
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for text in [
            "",
            " ",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "{1:2}",
            "[}",
            "{]",
            "]",
            "1 2",
            "tru",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\n\"",
            "01",
            "{\"a\" 1}",
            "[1 2]",
            "{\"a\":1]",
        ] {
            refused(text, MALFORMED);
        }
    }
}
