//! Conversion of `json` text to the text that `jsonb` prints.
//!
//! Of several members with the same key, `jsonb` keeps the last. Escapes are decoded and written
//! in `jsonb`'s form. Numbers are printed as `numeric`. Text that is valid as `json` but not as
//! `jsonb` is an error.
//!
//! The parser does not recurse, so nested text uses heap memory and not the stack.
//!
//! Not here: the limit on the size of a value (`size`).

use smallvec::SmallVec;

use super::number::{self, NumberError};
use super::size::{OBJECT_MEMBERS_MAX, STRING_MAX};
use super::string::{escape_byte, plain_prefix};

/// The greatest nesting depth that is accepted. The server's own limit follows from
/// `max_stack_depth` and differs between builds.
const DEPTH_MAX: usize = 8_192;
/// The number of members up to which keys are compared in pairs. Keys of larger objects are
/// sorted.
const MEMBERS_COMPARED_MAX: usize = 16;

/// Why `jsonb` rejects a text: the reason of a [`super::Substitution`].
pub(super) type Rejection = &'static str;

const MALFORMED: Rejection = "its text is not JSON";
const TOO_DEEP: Rejection = "its JSON is nested too deeply for jsonb";
const NUL: Rejection = "its JSON has the escape \\u0000, which jsonb refuses";
const SURROGATE: Rejection = "its JSON has half a surrogate pair, which jsonb refuses";
const NUMBER: Rejection = "its JSON has a number beyond the range of numeric, which jsonb refuses";
const TOO_MANY: Rejection = "its JSON has an object of too many members for jsonb";
const TOO_LONG: Rejection = "its JSON has a string too long for jsonb";

/// Appends the JSON text `text` in the form that `jsonb` prints. `text` must be UTF-8.
///
/// # Errors
/// The reason why `jsonb` rejects the text. An incomplete value has been appended then.
pub(super) fn write_json(text: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
    out.reserve(text.len());
    let mut writer = JsonWriter { text, at: 0, out, open: SmallVec::new(), keys: SmallVec::new() };
    loop {
        if writer.value()? && writer.after_value()? {
            return Ok(());
        }
    }
}

/// An array or object that is not closed yet.
#[derive(Clone, Copy)]
enum OpenContainer {
    Array,
    Object {
        /// The offset in the output at which the members begin.
        content_start: usize,
        /// The index of the object's first key in [`JsonWriter::keys`].
        first_key: usize,
    },
}

/// The range of a key in the output, quotes included.
#[derive(Clone, Copy)]
struct KeySpan {
    start: usize,
    end: usize,
}

/// A parser of `text` that appends each token to `out`.
struct JsonWriter<'a> {
    text: &'a [u8],
    /// The offset of the next byte of `text`.
    at: usize,
    out: &'a mut Vec<u8>,
    /// The open containers, innermost last.
    open: SmallVec<[OpenContainer; 8]>,
    /// The keys of all open objects.
    keys: SmallVec<[KeySpan; 16]>,
}

impl JsonWriter<'_> {
    /// Writes a scalar, an empty container or an opening bracket. Returns true at the end of a
    /// value.
    fn value(&mut self) -> Result<bool, Rejection> {
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(bracket @ (b'{' | b'[')) => return self.open(bracket),
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

    /// Writes an opening bracket, and the closing one if the container is empty.
    fn open(&mut self, bracket: u8) -> Result<bool, Rejection> {
        self.take(bracket);
        let closing = bracket + 2; // in ASCII: '{' and '}', '[' and ']'
        if self.peek() == Some(closing) {
            self.take(closing);
            return Ok(true);
        }
        if self.open.len() == DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        if bracket == b'[' {
            self.open.push(OpenContainer::Array);
            return Ok(false);
        }
        let content_start = self.out.len();
        self.open.push(OpenContainer::Object { content_start, first_key: self.keys.len() });
        self.key()?;
        Ok(false)
    }

    /// Closes the containers that end here and advances to the next value. Returns true at the
    /// end of the text.
    fn after_value(&mut self) -> Result<bool, Rejection> {
        loop {
            let Some(&container) = self.open.last() else {
                return if self.peek().is_none() { Ok(true) } else { Err(MALFORMED) };
            };
            match (self.peek(), container) {
                (Some(b','), OpenContainer::Array) => {
                    self.take(b',');
                    return Ok(false);
                }
                (Some(b','), OpenContainer::Object { first_key, .. }) => {
                    self.take(b',');
                    if self.keys.len() - first_key == OBJECT_MEMBERS_MAX {
                        return Err(TOO_MANY);
                    }
                    self.key()?;
                    return Ok(false);
                }
                (Some(b'}'), OpenContainer::Object { content_start, first_key }) => {
                    remove_duplicates(self.out, content_start, &self.keys[first_key..]);
                    self.keys.truncate(first_key);
                    self.take(b'}');
                }
                (Some(b']'), OpenContainer::Array) => self.take(b']'),
                _ => return Err(MALFORMED),
            }
            self.open.pop();
        }
    }

    /// Writes a key and its colon.
    fn key(&mut self) -> Result<(), Rejection> {
        if self.peek() != Some(b'"') {
            return Err(MALFORMED);
        }
        let start = self.out.len();
        self.string()?;
        self.keys.push(KeySpan { start, end: self.out.len() });
        if self.peek() != Some(b':') {
            return Err(MALFORMED);
        }
        self.take(b':');
        Ok(())
    }

    /// Writes the string that begins with the next byte, a quote.
    fn string(&mut self) -> Result<(), Rejection> {
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

    /// Writes the escape sequence at the beginning of `rest`, the text from `at` on.
    fn escape(&mut self, rest: &[u8]) -> Result<(), Rejection> {
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
                self.character(character);
                return Ok(());
            }
            _ => return Err(MALFORMED),
        };
        self.at += 2;
        escape_byte(byte, self.out);
        Ok(())
    }

    /// Writes a character, escaped if `jsonb` escapes it.
    fn character(&mut self, character: char) {
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() => escape_byte(byte, self.out),
            _ => {
                let utf8 = &mut [0; 4];
                self.out.extend_from_slice(character.encode_utf8(utf8).as_bytes());
            }
        }
    }

    /// Writes `true`, `false` or `null`.
    fn literal(&mut self, word: &[u8]) -> Result<(), Rejection> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(MALFORMED);
        }
        self.out.extend_from_slice(word);
        self.at += word.len();
        Ok(())
    }

    /// The next byte that is not white space. Advances to it.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Writes the byte that [`Self::peek`] returned and advances past it.
    fn take(&mut self, byte: u8) {
        self.out.push(byte);
        self.at += 1;
    }
}

/// The character of a `\u` escape or of a surrogate pair of them, and the length of the text.
fn unicode_escape(rest: &[u8]) -> Result<(char, usize), Rejection> {
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

/// Removes the members of an object that have the key of a later member. The members begin at
/// `start` and end at the end of `out`.
fn remove_duplicates(out: &mut Vec<u8>, start: usize, keys: &[KeySpan]) {
    let duplicates = duplicates(out, keys);
    if duplicates.is_empty() {
        return;
    }
    let mut kept = Vec::with_capacity(out.len() - start);
    let mut removed = duplicates.iter().peekable();
    for (index, key) in keys.iter().enumerate() {
        if removed.next_if_eq(&&index).is_none() {
            let end = keys.get(index + 1).map_or(out.len(), |next| next.start - 1);
            kept.extend_from_slice(&out[key.start..end]);
            kept.push(b',');
        }
    }
    kept.pop();
    out.truncate(start);
    out.extend_from_slice(&kept);
}

/// The indices of the keys that occur again later, in ascending order.
fn duplicates(out: &[u8], keys: &[KeySpan]) -> Vec<usize> {
    let name = |key: &KeySpan| &out[key.start..key.end];
    if keys.len() <= MEMBERS_COMPARED_MAX {
        let occurs_later = |&index: &usize| {
            keys[index + 1..].iter().any(|later| name(later) == name(&keys[index]))
        };
        return (0..keys.len()).filter(occurs_later).collect();
    }
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_unstable_by(|&a, &b| name(&keys[a]).cmp(name(&keys[b])).then(a.cmp(&b)));
    let mut duplicates: Vec<usize> = order
        .windows(2)
        .filter(|pair| name(&keys[pair[0]]) == name(&keys[pair[1]]))
        .map(|pair| pair[0])
        .collect();
    duplicates.sort_unstable();
    duplicates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut out = b"before".to_vec();
        assert_eq!(write_json(text.as_bytes(), &mut out), Ok(()), "{text}");
        assert_eq!(std::str::from_utf8(&out).unwrap(), format!("before{expected}"));
    }

    fn refused(text: &str, reason: Rejection) {
        assert_eq!(write_json(text.as_bytes(), &mut Vec::new()), Err(reason), "{text}");
    }

    #[test]
    fn white_space_is_removed() {
        check(" [ 1 , { \"a\" :\ttrue , \"b\":[ ] } ,\n{ } ] ", r#"[1,{"a":true,"b":[]},{}]"#);
        check("null", "null");
        check(" \"x\" ", r#""x""#);
    }

    #[test]
    fn the_last_of_equal_keys_is_kept() {
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
    fn escapes_are_normalised() {
        check(r#""\u0041\/\u00e9\ud83d\ude00""#, r#""A/é😀""#);
        check(
            r#""\b\f\n\r\t\\\"\u000a\u0001\u007f\u0022""#,
            "\"\\b\\f\\n\\r\\t\\\\\\\"\\n\\u0001\u{7f}\\\"\"",
        );
    }

    #[test]
    fn numbers_are_printed_as_numeric() {
        check("[1e2,-0,1.50,12E-1]", "[100,0,1.50,1.2]");
        refused("[1e400000]", NUMBER);
    }

    #[test]
    fn a_text_that_jsonb_rejects_is_an_error() {
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
    fn a_text_other_than_json_is_an_error() {
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
