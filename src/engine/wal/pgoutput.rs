//! Bytes of `pgoutput`, protocol version 1, to messages. Pure; borrows from the bytes.
//!
//! Tags have names, lengths are checked before anything is taken, and leftovers are an error.
//! No input makes it panic.
//!
//! Not here: versions 2 to 4 (transactions in progress), which are not asked for.

use std::fmt;

/// The bytes are not a message of `pgoutput`.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("a message ends early")]
    EndsEarly,
    #[error("a message has {0} bytes too many")]
    TrailingBytes(usize),
    #[error("unknown message tag {0:#04x}")]
    UnknownTag(u8),
    #[error("unknown tuple tag {0:#04x}")]
    UnknownTuple(u8),
    #[error("unknown column tag {0:#04x}")]
    UnknownColumn(u8),
    #[error("a name is not UTF-8")]
    NotUtf8,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Begin(Begin),
    Commit(Commit),
    /// Where the transaction was first made, under `pg_replication_origin`.
    Origin {
        name: &'a str,
    },
    Relation(Relation<'a>),
    /// A type that is not built in, before the relation that uses it.
    Type {
        oid: u32,
    },
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// From `pg_logical_emit_message`.
    Logical {
        transactional: bool,
        prefix: &'a str,
    },
}

/// A transaction begins: all of its changes follow, then its [`Commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    pub commit_lsn: u64,
    /// Microseconds since 2000-01-01 UTC.
    pub committed_at: i64,
    pub xid: u32,
}

/// A transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    pub commit_lsn: u64,
    pub end_lsn: u64,
    /// Microseconds since 2000-01-01 UTC.
    pub committed_at: i64,
}

/// A table's shape, from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    pub oid: u32,
    /// As sent: empty means `pg_catalog`.
    pub schema: &'a str,
    pub name: &'a str,
    /// `d` default, `n` nothing, `f` full, `i` index.
    pub replica_identity: u8,
    pub columns: Vec<Column<'a>>,
}

/// A published column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Part of the replica identity.
    pub is_key: bool,
    pub name: &'a str,
    pub type_oid: u32,
    pub type_modifier: i32,
}

/// The old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old<'a> {
    /// Only the columns of the replica identity; the others are sent as null.
    Key(Tuple<'a>),
    /// The whole row (REPLICA IDENTITY FULL).
    Whole(Tuple<'a>),
}

/// A row's values, checked when decoded, read when iterated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    column_count: u16,
    bytes: &'a [u8],
}

/// One value of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    /// TOASTed, not changed, and not sent.
    Unchanged,
    Text(&'a [u8]),
    /// Never sent unless asked for, and we do not ask.
    Binary(&'a [u8]),
}

const BEGIN: u8 = b'B';
const COMMIT: u8 = b'C';
const ORIGIN: u8 = b'O';
const RELATION: u8 = b'R';
const TYPE: u8 = b'Y';
const INSERT: u8 = b'I';
const UPDATE: u8 = b'U';
const DELETE: u8 = b'D';
const TRUNCATE: u8 = b'T';
const LOGICAL: u8 = b'M';

const TUPLE_KEY: u8 = b'K';
const TUPLE_OLD: u8 = b'O';
const TUPLE_NEW: u8 = b'N';

const COLUMN_NULL: u8 = b'n';
const COLUMN_UNCHANGED: u8 = b'u';
const COLUMN_TEXT: u8 = b't';
const COLUMN_BINARY: u8 = b'b';

/// Decodes one message.
///
/// # Errors
/// [`DecodeError`] where the bytes are not exactly one message.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let message = match reader.u8()? {
        BEGIN => Message::Begin(Begin {
            commit_lsn: reader.u64()?,
            committed_at: reader.i64()?,
            xid: reader.u32()?,
        }),
        COMMIT => {
            reader.u8()?; // flags, unused
            Message::Commit(Commit {
                commit_lsn: reader.u64()?,
                end_lsn: reader.u64()?,
                committed_at: reader.i64()?,
            })
        }
        ORIGIN => {
            reader.u64()?; // commit LSN on the origin
            Message::Origin { name: reader.name()? }
        }
        RELATION => Message::Relation(relation(&mut reader)?),
        TYPE => {
            let oid = reader.u32()?;
            reader.name()?;
            reader.name()?;
            Message::Type { oid }
        }
        INSERT => Message::Insert { relation: reader.u32()?, new: new_tuple(&mut reader)? },
        UPDATE => update(&mut reader)?,
        DELETE => {
            let relation = reader.u32()?;
            let tag = reader.u8()?;
            let old = old_tuple(tag, &mut reader)?.ok_or(DecodeError::UnknownTuple(tag))?;
            Message::Delete { relation, old }
        }
        TRUNCATE => {
            let count = reader.u32()?;
            reader.u8()?; // cascade, restart identity
            // A count of its own makes no room: each OID has to be there.
            let relations = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
            Message::Truncate { relations }
        }
        LOGICAL => {
            let transactional = reader.u8()? & 1 == 1;
            reader.u64()?; // LSN
            let prefix = reader.name()?;
            let length = reader.u32()?;
            reader.bytes(length as usize)?;
            Message::Logical { transactional, prefix }
        }
        tag => return Err(DecodeError::UnknownTag(tag)),
    };
    match reader.rest().len() {
        0 => Ok(message),
        left => Err(DecodeError::TrailingBytes(left)),
    }
}

fn relation<'a>(reader: &mut Reader<'a>) -> Result<Relation<'a>, DecodeError> {
    let (oid, schema, name) = (reader.u32()?, reader.name()?, reader.name()?);
    let replica_identity = reader.u8()?;
    let count = reader.u16()?;
    let columns = (0..count)
        .map(|_| {
            Ok(Column {
                is_key: reader.u8()? & 1 == 1,
                name: reader.name()?,
                type_oid: reader.u32()?,
                type_modifier: reader.u32()?.cast_signed(),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Relation { oid, schema, name, replica_identity, columns })
}

fn update<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.u32()?;
    let tag = reader.u8()?;
    if tag == TUPLE_NEW {
        return Ok(Message::Update { relation, old: None, new: tuple(reader)? });
    }
    let old = old_tuple(tag, reader)?.ok_or(DecodeError::UnknownTuple(tag))?;
    Ok(Message::Update { relation, old: Some(old), new: new_tuple(reader)? })
}

fn old_tuple<'a>(tag: u8, reader: &mut Reader<'a>) -> Result<Option<Old<'a>>, DecodeError> {
    Ok(match tag {
        TUPLE_KEY => Some(Old::Key(tuple(reader)?)),
        TUPLE_OLD => Some(Old::Whole(tuple(reader)?)),
        _ => None,
    })
}

fn new_tuple<'a>(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
    match reader.u8()? {
        TUPLE_NEW => tuple(reader),
        tag => Err(DecodeError::UnknownTuple(tag)),
    }
}

/// Walks over the values once, so that [`Tuple::values`] meets no surprise.
fn tuple<'a>(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
    let column_count = reader.u16()?;
    let before = reader.rest();
    for _ in 0..column_count {
        value(reader)?;
    }
    let length = before.len() - reader.rest().len();
    Ok(Tuple { column_count, bytes: before.get(..length).ok_or(DecodeError::EndsEarly)? })
}

fn value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    Ok(match reader.u8()? {
        COLUMN_NULL => Value::Null,
        COLUMN_UNCHANGED => Value::Unchanged,
        COLUMN_TEXT => {
            let length = reader.u32()?;
            Value::Text(reader.bytes(length as usize)?)
        }
        COLUMN_BINARY => {
            let length = reader.u32()?;
            Value::Binary(reader.bytes(length as usize)?)
        }
        tag => return Err(DecodeError::UnknownColumn(tag)),
    })
}

impl<'a> Tuple<'a> {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.column_count)
    }

    /// A table can have no columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.column_count == 0
    }

    /// The values in the relation's order of columns.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.column_count).map_while(move |_| value(&mut reader).ok())
    }
}

impl fmt::Debug for Tuple<'_> {
    /// Shapes only: values are nobody's business in a log.
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

/// Takes big-endian numbers and strings from the front of bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// # Errors
    /// [`DecodeError::EndsEarly`], as all of these.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::EndsEarly)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(DecodeError::EndsEarly)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// # Errors
    /// [`DecodeError::EndsEarly`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    /// # Errors
    /// [`DecodeError::EndsEarly`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// # Errors
    /// [`DecodeError::EndsEarly`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// # Errors
    /// [`DecodeError::EndsEarly`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// # Errors
    /// [`DecodeError::EndsEarly`].
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A string that ends in a zero byte.
    ///
    /// # Errors
    /// [`DecodeError::EndsEarly`], [`DecodeError::NotUtf8`].
    pub fn name(&mut self) -> Result<&'a str, DecodeError> {
        let end = memchr::memchr(0, self.bytes).ok_or(DecodeError::EndsEarly)?;
        let text = self.bytes(end)?;
        self.u8()?;
        std::str::from_utf8(text).map_err(|_| DecodeError::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured from PostgreSQL 18 with `pg_logical_slot_get_binary_changes`.
    const CAPTURED: &str = include_str!("../../../tests/fixtures/pgoutput/transactions.hex");

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    fn check(hex: &str, expected: &str) {
        let found = match decode(&bytes(hex)) {
            Ok(message) => format!("{message:?}"),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(found, expected, "{hex}");
    }

    #[test]
    fn a_message_says_what_its_bytes_say() {
        check(
            "42 00000000102b56f0 000303f6bc6a8539 0000032a",
            "Begin(Begin { commit_lsn: 271275760, committed_at: 848783188067641, xid: 810 })",
        );
        check(
            "43 00 00000000102b56f0 00000000102b5720 000303f6bc6a8539",
            "Commit(Commit { commit_lsn: 271275760, end_lsn: 271275808, committed_at: \
             848783188067641 })",
        );
        check("4f 00000000000000ab 656c7365776865726500", "Origin { name: \"elsewhere\" }");
        check("59 000040ab 7075626c696300 6d6f6f6400", "Type { oid: 16555 }");
        check(
            "52 000040bf 7075626c696300 6f7468657200 64 0001 01 696400 00000017 ffffffff",
            "Relation(Relation { oid: 16575, schema: \"public\", name: \"other\", \
             replica_identity: 100, columns: [Column { is_key: true, name: \"id\", type_oid: 23, \
             type_modifier: -1 }] })",
        );
        check(
            "49 000040b7 4e 0003 74 00000001 39 6e 6e",
            "Insert { relation: 16567, new: (t1 n n ) }",
        );
        check(
            "55 000040af 4b 0002 74 00000001 31 6e 4e 0002 74 00000001 33 75",
            "Update { relation: 16559, old: Some(Key((t1 n ))), new: (t1 u ) }",
        );
        check(
            "55 000040af 4e 0001 74 00000001 33",
            "Update { relation: 16559, old: None, new: (t1 ) }",
        );
        check("44 000040af 4f 0001 6e", "Delete { relation: 16559, old: Whole((n )) }");
        check("54 00000002 00 000040b7 000040bf", "Truncate { relations: [16567, 16575] }");
        check(
            "4d 01 00000000102ba5b0 70726500 00000002 6869",
            "Logical { transactional: true, prefix: \"pre\" }",
        );
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        check("", "error: a message ends early");
        check("42 00000000", "error: a message ends early");
        check("7a", "error: unknown message tag 0x7a");
        check("49 000040b7 4e 0001 6e 00", "error: a message has 1 bytes too many");
        check("49 000040b7 4b 0001 6e", "error: unknown tuple tag 0x4b");
        check("44 000040b7 4e 0001 6e", "error: unknown tuple tag 0x4e");
        check("49 000040b7 4e 0001 78", "error: unknown column tag 0x78");
        check("49 000040b7 4e 0001 74 ffffffff 00", "error: a message ends early");
        check("54 ffffffff 00 00000001", "error: a message ends early");
        check("59 00000001 ff00 00", "error: a name is not UTF-8");
    }

    #[test]
    fn what_a_server_sends_is_decoded_to_the_last_byte() {
        let messages: Vec<Vec<u8>> = CAPTURED.lines().map(bytes).collect();
        assert!(messages.len() > 40);
        for message in &messages {
            decode(message).unwrap();
            for cut in 0..message.len().min(200) {
                let cut = message.get(..cut).unwrap();
                assert!(decode(cut).is_err(), "{cut:02x?}");
            }
        }
    }

    #[test]
    fn no_input_panics() {
        let messages: Vec<Vec<u8>> = CAPTURED.lines().map(bytes).collect();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..50_000 {
            let mut message = messages[random.usize(..messages.len())].clone();
            message.truncate(256);
            for _ in 0..random.usize(1..6) {
                if message.is_empty() {
                    break;
                }
                let at = random.usize(..message.len());
                match random.u8(..4) {
                    0 => message[at] = random.u8(..),
                    1 => message.truncate(at),
                    2 => message.insert(at, random.u8(..)),
                    _ => drop(message.remove(at)),
                }
            }
            if let Ok(Message::Insert { new, .. } | Message::Update { new, .. }) = decode(&message)
            {
                assert_eq!(new.values().count(), new.len());
            }
        }
    }
}
