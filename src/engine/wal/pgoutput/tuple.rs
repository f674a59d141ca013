//! The values of a row. Pure.

use std::fmt;

use super::reader::{ByteReader, DecodeError};

const COLUMN_NULL: u8 = b'n';
const COLUMN_UNCHANGED: u8 = b'u';
const COLUMN_TEXT: u8 = b't';
const COLUMN_BINARY: u8 = b'b';

/// The values of a row. Decoding checks them once; iteration reads them again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    column_count: u16,
    bytes: &'a [u8],
}

/// A value of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    /// A TOASTed value that did not change and was not sent.
    Unchanged,
    Text(&'a [u8]),
    /// Binary format, which walferry does not request.
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.column_count)
    }

    /// Whether the table has no columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.column_count == 0
    }

    /// The bytes of all values with their kinds and lengths.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The values in the order of the relation's columns.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut reader = ByteReader::new(self.bytes);
        (0..self.column_count).map_while(move |_| value(&mut reader).ok())
    }
}

impl fmt::Debug for Tuple<'_> {
    /// The kinds and lengths of the values, without the values: these must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for value in self.values() {
            match value {
                Value::Null => f.write_str("n")?,
                Value::Unchanged => f.write_str("u")?,
                Value::Text(text) => write!(f, "t{}", text.len())?,
                Value::Binary(bytes) => write!(f, "b{}", bytes.len())?,
            }
            f.write_str(" ")?;
        }
        f.write_str(")")
    }
}

/// Decodes a tuple, and checks its values so that [`Tuple::values`] cannot fail.
pub(super) fn tuple<'a>(reader: &mut ByteReader<'a>) -> Result<Tuple<'a>, DecodeError> {
    let column_count = reader.u16()?;
    let before = reader.rest();
    for _ in 0..column_count {
        value(reader)?;
    }
    let length = before.len() - reader.rest().len();
    Ok(Tuple { column_count, bytes: before.get(..length).ok_or(DecodeError::EndsEarly)? })
}

#[inline]
fn value<'a>(reader: &mut ByteReader<'a>) -> Result<Value<'a>, DecodeError> {
    Ok(match reader.u8()? {
        COLUMN_NULL => Value::Null,
        COLUMN_UNCHANGED => Value::Unchanged,
        COLUMN_TEXT => Value::Text(sized(reader)?),
        COLUMN_BINARY => Value::Binary(sized(reader)?),
        tag => return Err(DecodeError::UnknownColumn(tag)),
    })
}

/// The bytes of a value, after their length.
#[inline]
fn sized<'a>(reader: &mut ByteReader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = reader.u32()?;
    reader.bytes(length as usize)
}
