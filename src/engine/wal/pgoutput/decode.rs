//! Decodes one `pgoutput` message. Pure; the message borrows from the bytes.

use super::message::{Begin, Column, Commit, Message, OldTuple, Relation};
use super::reader::{ByteReader, DecodeError};
use super::tuple::{Tuple, tuple};

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

/// Decodes one message.
///
/// # Errors
/// [`DecodeError`], if the bytes are not exactly one message.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = ByteReader::new(bytes);
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
        TRUNCATE => truncate(&mut reader)?,
        LOGICAL => logical(&mut reader)?,
        tag => return Err(DecodeError::UnknownTag(tag)),
    };
    match reader.rest().len() {
        0 => Ok(message),
        left => Err(DecodeError::TrailingBytes(left)),
    }
}

fn relation<'a>(reader: &mut ByteReader<'a>) -> Result<Relation<'a>, DecodeError> {
    let oid = reader.u32()?;
    let schema = reader.name()?;
    let name = reader.name()?;
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

fn update<'a>(reader: &mut ByteReader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.u32()?;
    let tag = reader.u8()?;
    if tag == TUPLE_NEW {
        return Ok(Message::Update { relation, old: None, new: tuple(reader)? });
    }
    let old = old_tuple(tag, reader)?.ok_or(DecodeError::UnknownTuple(tag))?;
    Ok(Message::Update { relation, old: Some(old), new: new_tuple(reader)? })
}

fn truncate<'a>(reader: &mut ByteReader<'a>) -> Result<Message<'a>, DecodeError> {
    let count = reader.u32()?;
    reader.u8()?; // cascade, restart identity
    // The count alone allocates nothing: each OID is read first.
    let relations = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    Ok(Message::Truncate { relations })
}

fn logical<'a>(reader: &mut ByteReader<'a>) -> Result<Message<'a>, DecodeError> {
    let transactional = reader.u8()? & 1 == 1;
    reader.u64()?; // LSN
    let prefix = reader.name()?;
    let length = reader.u32()?;
    reader.bytes(length as usize)?;
    Ok(Message::Logical { transactional, prefix })
}

fn old_tuple<'a>(
    tag: u8,
    reader: &mut ByteReader<'a>,
) -> Result<Option<OldTuple<'a>>, DecodeError> {
    Ok(match tag {
        TUPLE_KEY => Some(OldTuple::Key(tuple(reader)?)),
        TUPLE_OLD => Some(OldTuple::Whole(tuple(reader)?)),
        _ => None,
    })
}

fn new_tuple<'a>(reader: &mut ByteReader<'a>) -> Result<Tuple<'a>, DecodeError> {
    match reader.u8()? {
        TUPLE_NEW => tuple(reader),
        tag => Err(DecodeError::UnknownTuple(tag)),
    }
}
