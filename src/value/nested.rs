//! Conversion of arrays, vectors, composite types and `hstore`, which contain other values.
//!
//! The input has the form that `array_out`, `int2vectorout`, `record_out` and `hstore_out` print.
//!
//! Not here: scalar values.

use std::borrow::Cow;

use super::category::{Attribute, JsonCategory};
use super::{Substitution, write_string, write_value};

/// The greatest number of dimensions of an array (`MAXDIM` in PostgreSQL's `array.h`).
const DIMENSIONS_MAX: usize = 6;

/// The text does not have the form of the type: the type was altered after the catalog was read.
pub(super) struct Malformed;

/// The first substitution among the contained values.
type Written = Result<Option<Substitution>, Malformed>;

/// Appends an array. Lower bounds other than 1 are dropped, as `to_jsonb` does.
pub(super) fn write_array(
    element: &JsonCategory,
    delimiter: u8,
    text: &[u8],
    out: &mut Vec<u8>,
) -> Written {
    let mut reader = TextReader { bytes: text, at: 0 };
    if reader.peek() == Some(b'[') {
        reader.at = memchr::memchr(b'=', reader.bytes).ok_or(Malformed)? + 1;
    }
    let mut array = ArrayWriter { text: reader, element, delimiter, out, substitution: None };
    array.level(DIMENSIONS_MAX)?;
    array.text.end()?;
    Ok(array.substitution)
}

struct ArrayWriter<'a> {
    text: TextReader<'a>,
    element: &'a JsonCategory,
    delimiter: u8,
    out: &'a mut Vec<u8>,
    substitution: Option<Substitution>,
}

impl ArrayWriter<'_> {
    /// Writes one pair of braces and its content. At most `dimensions` levels may follow.
    fn level(&mut self, dimensions: usize) -> Result<(), Malformed> {
        let inner = dimensions.checked_sub(1).ok_or(Malformed)?;
        self.text.expect(b'{')?;
        self.out.push(b'[');
        if self.text.peek() == Some(b'}') {
            self.text.at += 1;
            self.out.push(b']');
            return Ok(());
        }
        loop {
            match self.text.peek().ok_or(Malformed)? {
                b'{' => self.level(inner)?,
                b'"' => {
                    let value = self.text.quoted(Quoting::Backslash)?;
                    self.value(&value);
                }
                _ => match self.text.until(&[self.delimiter, b'}'])? {
                    b"NULL" => self.out.extend_from_slice(b"null"),
                    value => self.value(value),
                },
            }
            match self.text.next()? {
                b'}' => break,
                byte if byte == self.delimiter => self.out.push(b','),
                _ => return Err(Malformed),
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn value(&mut self, text: &[u8]) {
        let substitution = write_value(self.element, text, self.out);
        self.substitution = self.substitution.or(substitution);
    }
}

/// Appends elements that are separated by single spaces as an array.
pub(super) fn write_vector(
    element: &JsonCategory,
    text: &[u8],
    out: &mut Vec<u8>,
) -> Option<Substitution> {
    let mut substitution = None;
    out.push(b'[');
    for (index, value) in text.split(|&b| b == b' ').filter(|v| !v.is_empty()).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        substitution = substitution.or(write_value(element, value, out));
    }
    out.push(b']');
    substitution
}

/// Appends a value of a composite type as an object.
pub(super) fn write_composite(attributes: &[Attribute], text: &[u8], out: &mut Vec<u8>) -> Written {
    let mut reader = TextReader { bytes: text, at: 0 };
    let mut substitution = None;
    reader.expect(b'(')?;
    out.push(b'{');
    for (index, attribute) in attributes.iter().enumerate() {
        if index > 0 {
            reader.expect(b',')?;
            out.push(b',');
        }
        out.extend_from_slice(&attribute.key);
        let value = match reader.peek().ok_or(Malformed)? {
            b'"' => reader.quoted(Quoting::BackslashOrDoubled)?,
            b',' | b')' => {
                out.extend_from_slice(b"null");
                continue;
            }
            _ => Cow::Borrowed(reader.until(b",)")?),
        };
        substitution = substitution.or(write_value(&attribute.category, &value, out));
    }
    reader.expect(b')')?;
    reader.end()?;
    out.push(b'}');
    Ok(substitution)
}

/// Appends an `hstore` as an object of strings and nulls.
pub(super) fn write_hstore(text: &[u8], out: &mut Vec<u8>) -> Written {
    let mut reader = TextReader { bytes: text, at: 0 };
    out.push(b'{');
    while reader.peek().is_some() {
        if reader.at > 0 {
            reader.expect(b',')?;
            reader.expect(b' ')?;
            out.push(b',');
        }
        write_string(&reader.quoted(Quoting::Backslash)?, out);
        reader.expect(b'=')?;
        reader.expect(b'>')?;
        out.push(b':');
        if reader.peek() == Some(b'"') {
            write_string(&reader.quoted(Quoting::Backslash)?, out);
        } else if reader.until(b",").unwrap_or_else(|_| reader.rest()) == b"NULL" {
            out.extend_from_slice(b"null");
        } else {
            return Err(Malformed);
        }
    }
    out.push(b'}');
    Ok(None)
}

/// How a quoted text escapes bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// A backslash precedes the byte.
    Backslash,
    /// As [`Self::Backslash`]; a quote can also be doubled.
    BackslashOrDoubled,
}

/// A reader of the text format of one value.
struct TextReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> TextReader<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.next()? == byte { Ok(()) } else { Err(Malformed) }
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Malformed) }
    }

    /// The remaining text. Advances to its end.
    fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    /// The text before the first byte that is one of `ends`. Advances to that byte.
    fn until(&mut self, ends: &[u8]) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|byte| ends.contains(byte)).ok_or(Malformed)?;
        self.at += len;
        Ok(&rest[..len])
    }

    /// The content of a text in double quotes, without its escapes. Advances past it.
    fn quoted(&mut self, quoting: Quoting) -> Result<Cow<'a, [u8]>, Malformed> {
        self.expect(b'"')?;
        let mut value = Cow::Borrowed(&[][..]);
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = memchr::memchr2(b'"', b'\\', rest).ok_or(Malformed)?;
            let next = rest.get(plain + 1).copied();
            let unescaped = match (rest[plain], next) {
                (b'\\', Some(byte)) => byte,
                (b'\\', None) => return Err(Malformed),
                (_, Some(b'"')) if quoting == Quoting::BackslashOrDoubled => b'"',
                _ => {
                    self.at += plain + 1;
                    if value.is_empty() {
                        return Ok(Cow::Borrowed(&rest[..plain]));
                    }
                    value.to_mut().extend_from_slice(&rest[..plain]);
                    return Ok(value);
                }
            };
            let owned = value.to_mut();
            owned.extend_from_slice(&rest[..plain]);
            owned.push(unescaped);
            self.at += plain + 2;
        }
    }
}
