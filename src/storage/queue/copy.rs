//! Changes as rows of `COPY … (format binary)`. Pure.
//!
//! Not here: the transaction around it (`record`), and rows that `jsonb` does not take (`lossy`).

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::record_id::TableKeys;
use super::status::Status;
use crate::change::Micros;
use crate::change::{Change, Operation, Row};
use crate::storage::sql::bigint;

/// What [`row`] writes, in its order. `id`, `retry_count` and the rest take their defaults.
pub(in crate::storage) const COPY: &str = include_str!("copy.sql");

const COLUMN_COUNT: i16 = 12;

/// Signature, flags and an empty header extension.
pub(in crate::storage) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Instead of a row's column count.
pub(in crate::storage) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// The only version of `jsonb`'s binary format: JSON text follows.
const JSONB_VERSION: u8 = 1;

/// What is the same for all rows of a batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) struct Stamp {
    pub(in crate::storage) status: Status,
    /// Written where the jobs are handed over at once.
    pub(in crate::storage) started_at: Micros,
    pub(in crate::storage) epoch: i64,
}

/// What `change_data` holds instead of the change's own text, and why.
#[derive(Debug)]
pub(in crate::storage) struct Altered {
    pub(in crate::storage) change_data: Bytes,
    pub(in crate::storage) note: String,
}

/// What one row is written from.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage) struct Source<'a> {
    pub(in crate::storage) change: &'a Change,
    /// The change's transaction id with its epoch.
    pub(in crate::storage) xid: u64,
    pub(in crate::storage) altered: Option<&'a Altered>,
}

/// A larger text is sent from where it is.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// A larger buffer is freed as soon as it has been sent.
const REUSED_BYTES_MAX: usize = 16 << 20;

/// The data of a COPY, in pieces. The text of a large row is a piece of its own that the row shares,
/// so that it is not in memory twice.
#[derive(Debug, Default)]
pub(in crate::storage) struct CopyText {
    pieces: Vec<Bytes>,
    tail: BytesMut,
}

impl CopyText {
    /// Begins anew.
    pub(in crate::storage) fn begin(&mut self) {
        self.pieces.clear();
        self.tail.clear();
        self.tail.put_slice(HEADER);
    }

    /// The pieces, ended.
    pub(in crate::storage) fn end(&mut self) -> Vec<Bytes> {
        self.tail.put_slice(TRAILER);
        let last = match self.tail.capacity() {
            // The part that stays would keep a large buffer until the next batch.
            REUSED_BYTES_MAX.. => std::mem::take(&mut self.tail),
            _ => self.tail.split(),
        };
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.push(last.freeze());
        pieces
    }

    fn share(&mut self, text: &Bytes) {
        if text.len() <= COPIED_BYTES_MAX {
            self.tail.put_slice(text);
        } else {
            self.pieces.push(self.tail.split().freeze());
            self.pieces.push(text.clone());
        }
    }
}

/// Appends one row.
pub(in crate::storage) fn row(
    text_out: &mut CopyText,
    source: Source<'_>,
    stamp: Stamp,
    keys: &TableKeys,
) {
    let Source { change, xid, altered } = source;
    let out = &mut text_out.tail;
    out.put_i16(COLUMN_COUNT);
    let key = keys.get(change.table);
    text(out, &key.name);
    text(out, change.operation.as_str());
    let keyed = change.new.as_ref().or(change.old.as_ref());
    let id = keyed.and_then(|row| key.record_id(row)).unwrap_or(Uuid::nil());
    field(out, id.as_bytes());
    match altered {
        Some(altered) => change_data(text_out, &[&altered.change_data]),
        None => own_text(text_out, change),
    }
    let out = &mut text_out.tail;
    text(out, stamp.status.as_str());
    note(out, change.note.as_deref(), altered.map(|altered| altered.note.as_str()));
    long(out, Micros(change.committed_at).to_wire());
    field(out, &change.position.commit_lsn.0.to_be_bytes());
    long(out, bigint(change.position.ordinal));
    long(out, bigint(xid));
    if stamp.status == Status::Processing {
        long(out, stamp.started_at.to_wire());
        long(out, stamp.epoch);
    } else {
        out.put_slice(&NULL);
        out.put_slice(&NULL);
    }
}

const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// `change_data` as the contract has it: the row, old and new rows, the old row, or `{}`.
fn own_text(out: &mut CopyText, change: &Change) {
    let none = Bytes::from_static(b"null");
    let old = change.old.as_ref().map_or(&none, Row::json);
    let new = change.new.as_ref().map_or(&none, Row::json);
    match change.operation {
        Operation::Insert => change_data(out, &[new]),
        Operation::Delete => change_data(out, &[old]),
        Operation::Truncate => change_data(out, &[&Bytes::from_static(b"{}")]),
        Operation::Update => {
            let [before, between, after] =
                [&b"{\"old\": "[..], b", \"new\": ", b"}"].map(Bytes::from_static);
            change_data(out, &[&before, old, &between, new, &after]);
        }
    }
}

fn change_data(out: &mut CopyText, parts: &[&Bytes]) {
    let bytes = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let length = i32::try_from(bytes)
        .expect("the recorder replaces change_data that is over its limit before it comes here");
    out.tail.put_i32(length);
    out.tail.put_u8(JSONB_VERSION);
    for part in parts {
        out.share(part);
    }
}

/// The column `note`: one line on what was altered, by the decoder and by the recorder.
fn note(out: &mut BytesMut, own: Option<&str>, altered: Option<&str>) {
    if own.is_none() && altered.is_none() {
        out.put_slice(&NULL);
        return;
    }
    let both: Vec<&str> = own.into_iter().chain(altered).collect();
    text(out, &both.join("; ").replace(['\n', '\r'], " "));
}

fn text(out: &mut BytesMut, text: &str) {
    field(out, text.as_bytes());
}

fn long(out: &mut BytesMut, value: i64) {
    field(out, &value.to_be_bytes());
}

fn field(out: &mut BytesMut, bytes: &[u8]) {
    let length = i32::try_from(bytes.len()).expect("names, notes and numbers are short");
    out.put_i32(length);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Lsn, Position, TableId};
    use crate::storage::queue::record_id::TableKey;

    fn change(operation: Operation, old: Option<&str>, new: Option<&str>) -> Change {
        let parse = |text: &str| Row::parse(text, None).unwrap();
        Change {
            position: Position { commit_lsn: Lsn(0x10), ordinal: 3 },
            xid: 9,
            committed_at: 946_684_800_000_001,
            table: TableId(0),
            operation,
            old: old.map(parse),
            new: new.map(parse),
            incomplete: false,
            note: None,
        }
    }

    fn fields(mut bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut take = |n: usize| {
            let (head, tail) = bytes.split_at(n);
            bytes = tail;
            head.to_vec()
        };
        let count = i16::from_be_bytes(take(2).try_into().unwrap());
        (0..count)
            .map(|_| {
                let length = i32::from_be_bytes(take(4).try_into().unwrap());
                usize::try_from(length).ok().map(&mut take)
            })
            .collect()
    }

    fn written(change: &Change, status: Status) -> Vec<Option<Vec<u8>>> {
        let keys =
            TableKeys(vec![TableKey { name: "t".into(), columns: vec!["id".into()], uuid: true }]);
        let stamp = Stamp { status, started_at: Micros(946_684_800_000_002), epoch: 5 };
        let mut out = CopyText::default();
        out.begin();
        row(&mut out, Source { change, xid: 9, altered: None }, stamp, &keys);
        let all = out.end().concat();
        fields(&all[HEADER.len()..all.len() - TRAILER.len()])
    }

    #[test]
    fn change_data_has_the_shape_of_the_contract() {
        let check = |operation, old, new, expected: &str| {
            let row = written(&change(operation, old, new), Status::Pending);
            assert_eq!(row[3].as_deref().unwrap(), format!("\u{1}{expected}").as_bytes());
        };
        check(Operation::Insert, None, Some(r#"{"id": 1}"#), r#"{"id": 1}"#);
        check(Operation::Delete, Some(r#"{"id": 1}"#), None, r#"{"id": 1}"#);
        check(Operation::Truncate, None, None, "{}");
        let both = r#"{"old": {"a": 1}, "new": {"a": 2}}"#;
        check(Operation::Update, Some(r#"{"a": 1}"#), Some(r#"{"a": 2}"#), both);
        let new_only = r#"{"old": null, "new": {"a": 2}}"#;
        check(Operation::Update, None, Some(r#"{"a": 2}"#), new_only);
    }

    #[test]
    fn the_text_of_a_large_row_is_not_copied() {
        let text = format!(r#"{{"id": 1, "a": "{}"}}"#, "x".repeat(COPIED_BYTES_MAX));
        let change = change(Operation::Update, Some(r#"{"id": 1}"#), Some(&text));
        let expected = format!("\u{1}{{\"old\": {{\"id\": 1}}, \"new\": {text}}}");
        assert_eq!(written(&change, Status::Pending)[3].as_deref(), Some(expected.as_bytes()));
        let mut out = CopyText::default();
        own_text(&mut out, &change);
        let own = change.new.as_ref().unwrap().json().as_ptr();
        assert!(out.end().iter().any(|piece| piece.as_ptr() == own));
    }

    #[test]
    fn a_job_handed_over_carries_its_start_and_epoch() {
        let id = r#"{"id": "00000000-0000-4000-8000-00000000002a"}"#;
        let mut change = change(Operation::Insert, None, Some(id));
        change.note = Some("a\nb".into());
        let row = written(&change, Status::Processing);
        assert_eq!(row[2].as_deref().unwrap()[15], 0x2a);
        assert_eq!(row[4].as_deref(), Some(&b"processing"[..]));
        assert_eq!(row[5].as_deref(), Some(&b"a b"[..]));
        assert_eq!(row[6].as_deref(), Some(&1_i64.to_be_bytes()[..]));
        assert_eq!(row[7].as_deref(), Some(&0x10_i64.to_be_bytes()[..]));
        assert_eq!(row[8].as_deref(), Some(&3_i64.to_be_bytes()[..]));
        assert_eq!(row[10].as_deref(), Some(&2_i64.to_be_bytes()[..]));
        assert_eq!(row[11].as_deref(), Some(&5_i64.to_be_bytes()[..]));
        let row = written(&change, Status::Pending);
        assert_eq!((&row[10], &row[11]), (&None, &None));
    }

    #[test]
    fn a_truncate_names_no_row() {
        let row = written(&change(Operation::Truncate, None, None), Status::Pending);
        assert_eq!(row[2].as_deref(), Some(&[0; 16][..]));
    }
}
