//! Arrays, row types, vectors and `hstore`: text that contains the text of other values.
//!
//! The forms are those of `array_out`, `record_out`, `int2vectorout` and `hstore_out`.
//!
//! Not here: values without parts.

use std::borrow::Cow;

use super::kinds::Attribute;
use super::{Kind, Poison, write_string, write_value};

/// PostgreSQL's own limit (`MAXDIM`).
const DIMENSIONS_MAX: usize = 6;

/// The text is not of the type's form, so the type is not what the catalog says.
pub(super) struct Malformed;

/// Writes one value with parts; the poison is the first of its parts'.
type Written = Result<Option<Poison>, Malformed>;

/// Appends an array. Its lower bounds are not part of the JSON.
pub(super) fn write_array(
    element: &Kind,
    delimiter: u8,
    text: &[u8],
    out: &mut Vec<u8>,
) -> Written {
    let mut text = Text { bytes: text, at: 0 };
    if text.peek() == Some(b'[') {
        text.at = memchr::memchr(b'=', text.bytes).ok_or(Malformed)? + 1;
    }
    let mut array = Array { text, element, delimiter, out, poison: None };
    array.level(DIMENSIONS_MAX)?;
    array.text.end()?;
    Ok(array.poison)
}

struct Array<'a> {
    text: Text<'a>,
    element: &'a Kind,
    delimiter: u8,
    out: &'a mut Vec<u8>,
    poison: Option<Poison>,
}

impl Array<'_> {
    /// One pair of braces; `dimensions` may yet be open.
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
                    let value = self.text.quoted(false)?;
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
        let poison = write_value(self.element, text, self.out);
        self.poison = self.poison.or(poison);
    }
}

/// Appends elements that stand between single spaces as an array.
pub(super) fn write_vector(element: &Kind, text: &[u8], out: &mut Vec<u8>) -> Option<Poison> {
    let mut poison = None;
    out.push(b'[');
    for (index, value) in text.split(|&b| b == b' ').filter(|v| !v.is_empty()).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        poison = poison.or(write_value(element, value, out));
    }
    out.push(b']');
    poison
}

/// Appends a row type's value as an object.
pub(super) fn write_composite(attributes: &[Attribute], text: &[u8], out: &mut Vec<u8>) -> Written {
    let mut text = Text { bytes: text, at: 0 };
    let mut poison = None;
    text.expect(b'(')?;
    out.push(b'{');
    for (index, attribute) in attributes.iter().enumerate() {
        if index > 0 {
            text.expect(b',')?;
            out.push(b',');
        }
        out.extend_from_slice(&attribute.key);
        let value = match text.peek().ok_or(Malformed)? {
            b'"' => text.quoted(true)?,
            b',' | b')' => {
                out.extend_from_slice(b"null");
                continue;
            }
            _ => Cow::Borrowed(text.until(b",)")?),
        };
        poison = poison.or(write_value(&attribute.kind, &value, out));
    }
    text.expect(b')')?;
    text.end()?;
    out.push(b'}');
    Ok(poison)
}

/// Appends an `hstore` as an object of strings and nulls.
pub(super) fn write_hstore(text: &[u8], out: &mut Vec<u8>) -> Written {
    let mut text = Text { bytes: text, at: 0 };
    out.push(b'{');
    while text.peek().is_some() {
        if text.at > 0 {
            text.expect(b',')?;
            text.expect(b' ')?;
            out.push(b',');
        }
        write_string(&text.quoted(false)?, out);
        text.expect(b'=')?;
        text.expect(b'>')?;
        out.push(b':');
        if text.peek() == Some(b'"') {
            write_string(&text.quoted(false)?, out);
        } else if text.until(b",").unwrap_or_else(|_| text.rest()) == b"NULL" {
            out.extend_from_slice(b"null");
        } else {
            return Err(Malformed);
        }
    }
    out.push(b'}');
    Ok(None)
}

/// Text and a place in it.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
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

    /// All that is left.
    fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    /// What precedes the first of `ends`; at least one of which follows.
    fn until(&mut self, ends: &[u8]) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|byte| ends.contains(byte)).ok_or(Malformed)?;
        self.at += len;
        Ok(&rest[..len])
    }

    /// A text in double quotes. A backslash stands before a byte that is taken as it is; with
    /// `doubled` a quote may also be written twice.
    fn quoted(&mut self, doubled: bool) -> Result<Cow<'a, [u8]>, Malformed> {
        self.expect(b'"')?;
        let mut value = Cow::Borrowed(&[][..]);
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = memchr::memchr2(b'"', b'\\', rest).ok_or(Malformed)?;
            let next = rest.get(plain + 1).copied();
            let (before, kept) = match (rest[plain], next) {
                (b'\\', Some(byte)) => (&rest[..plain], byte),
                (b'\\', None) => return Err(Malformed),
                (_, Some(b'"')) if doubled => (&rest[..plain], b'"'),
                _ => {
                    self.at += plain + 1;
                    if value.is_empty() {
                        return Ok(Cow::Borrowed(&rest[..plain]));
                    }
                    value.to_mut().extend_from_slice(&rest[..plain]);
                    return Ok(value);
                }
            };
            let value = value.to_mut();
            value.extend_from_slice(before);
            value.push(kept);
            self.at += plain + 2;
        }
    }
}
