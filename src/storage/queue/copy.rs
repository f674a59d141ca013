//! Changes as rows of `COPY … (format binary)`. Pure.
//!
//! Not here: the transaction around it (`record`), and rows that `jsonb` does not take (`lossy`).

use bytes::{BufMut, BytesMut};
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
    pub(in crate::storage) change_data: Vec<u8>,
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

/// Appends one row.
pub(in crate::storage) fn row(
    out: &mut BytesMut,
    source: Source<'_>,
    stamp: Stamp,
    keys: &TableKeys,
) {
    let Source { change, xid, altered } = source;
    out.put_i16(COLUMN_COUNT);
    let key = keys.get(change.table);
    text(out, &key.name);
    text(out, change.operation.as_str());
    let keyed = change.new.as_ref().or(change.old.as_ref());
    let id = keyed.and_then(|row| key.record_id(row)).unwrap_or(Uuid::nil());
    field(out, id.as_bytes());
    match altered {
        Some(altered) => change_data(out, |out| out.put_slice(&altered.change_data)),
        None => change_data(out, |out| own_text(out, change)),
    }
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
fn own_text(out: &mut BytesMut, change: &Change) {
    let json = |row: &Option<Row>, out: &mut BytesMut| match row {
        Some(row) => out.put_slice(row.json()),
        None => out.put_slice(b"null"),
    };
    match change.operation {
        Operation::Insert => json(&change.new, out),
        Operation::Delete => json(&change.old, out),
        Operation::Truncate => out.put_slice(b"{}"),
        Operation::Update => {
            out.put_slice(b"{\"old\": ");
            json(&change.old, out);
            out.put_slice(b", \"new\": ");
            json(&change.new, out);
            out.put_u8(b'}');
        }
    }
}

fn change_data(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_i32(0);
    out.put_u8(JSONB_VERSION);
    write(out);
    let length = i32::try_from(out.len() - at - 4)
        .expect("the recorder replaces change_data that is over its limit before it comes here");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
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
        let mut out = BytesMut::new();
        row(&mut out, Source { change, xid: 9, altered: None }, stamp, &keys);
        fields(&out)
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
