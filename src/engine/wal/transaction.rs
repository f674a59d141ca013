//! Converts messages to changes, in the order of commit. Pure.
//!
//! A change's ordinal counts every published row of the transaction, and each relation of a
//! TRUNCATE, whether or not the table is configured. Thus a change has the same position at every
//! replay and with every configuration.
//!
//! Changes are returned as they arrive, so that one row is in memory, not a whole transaction.

use foldhash::{HashMap, HashSet};

use crate::change::{Change, Lsn, Operation, Position, Row, TableId};
use crate::engine::wal::Captured;
use crate::engine::wal::error::TransactionError;
use crate::engine::wal::pgoutput;
use crate::engine::wal::pgoutput::{Begin, Message, OldTuple, Tuple};
use crate::engine::wal::relation::{RelationDescriptor, ReplacedValue, Tables, TupleKind};
use crate::value::TypeCache;

/// 2000-01-01 UTC, PostgreSQL's epoch, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
/// A larger scratch buffer is freed after its row.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

const UNCHANGED_NOTE: &str = "values that did not change were not sent; see REPLICA IDENTITY";
const PARTIAL_NOTE: &str =
    "columns that the stream does not carry, such as generated ones, were read from the table";

/// The effect of a message on the position in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageEffect {
    /// The position is that of the transaction in progress.
    None,
    /// A transaction with changes of configured tables ended here; its `Commit` was returned.
    Committed(Lsn),
    /// A transaction without such changes ended here.
    Skipped(Lsn),
}

/// Decodes the transactions of a stream.
#[derive(Debug)]
pub struct TransactionDecoder {
    tables: Tables,
    /// `None` for published tables that are not configured.
    relations: HashMap<u32, Option<RelationDescriptor>>,
    /// Relations whose tables have columns that the stream does not carry.
    partial: HashSet<u32>,
    open: Option<OpenTransaction>,
    scratch: Vec<u8>,
    row_bytes_max: usize,
}

/// The transaction in progress.
#[derive(Debug)]
struct OpenTransaction {
    begin: Begin,
    ordinal: u64,
    /// A configured table has changed.
    has_changes: bool,
}

/// The old and the new tuple of a changed row.
struct RowImages<'a> {
    old: Option<OldTuple<'a>>,
    new: Option<Tuple<'a>>,
}

impl OpenTransaction {
    /// The position of the next change.
    fn next(&mut self) -> Position {
        let ordinal = self.ordinal;
        self.ordinal += 1;
        Position { commit_lsn: Lsn(self.begin.commit_lsn), ordinal }
    }

    fn change(
        &self,
        position: Position,
        relation: &RelationDescriptor,
        operation: Operation,
    ) -> Change {
        Change {
            position,
            xid: self.begin.xid,
            committed_at: unix_micros(self.begin.committed_at),
            table: relation.table,
            operation,
            old: None,
            new: None,
            incomplete: false,
            note: None,
        }
    }
}

impl TransactionDecoder {
    /// An assembler of the changes of these tables. Large values of rows with more text than
    /// `row_bytes_max` are replaced by their size and hash.
    #[must_use]
    pub fn new(tables: Tables, row_bytes_max: usize) -> Self {
        Self {
            tables,
            row_bytes_max,
            relations: HashMap::default(),
            partial: HashSet::default(),
            open: None,
            scratch: Vec::new(),
        }
    }

    /// Whether a transaction is in progress.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The configured tables.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The configured table that the relation is.
    #[must_use]
    pub fn table(&self, relation: &pgoutput::Relation<'_>) -> Option<TableId> {
        self.tables.find(relation.oid, schema(relation), relation.name)
    }

    /// Whether the table has columns that the relation, which comes next, does not. Its rows are
    /// then read, so that a document has the same fields from either source.
    pub fn note_partial(&mut self, oid: u32, is_partial: bool) {
        if is_partial {
            self.partial.insert(oid);
        } else {
            self.partial.remove(&oid);
        }
    }

    /// Decodes the next message, and appends its changes to `out`.
    ///
    /// # Errors
    /// [`TransactionError`]; the decoder must not be used after it.
    pub fn apply(
        &mut self,
        message: &Message<'_>,
        types: &TypeCache,
        out: &mut Vec<Captured>,
    ) -> Result<MessageEffect, TransactionError> {
        match message {
            Message::Begin(begin) => {
                if self.open.is_some() {
                    return Err(TransactionError::Inside);
                }
                self.open = Some(OpenTransaction { begin: *begin, ordinal: 0, has_changes: false });
            }
            Message::Commit(commit) => {
                let open = self.open.take().ok_or(TransactionError::Outside("Commit"))?;
                let end_lsn = Lsn(commit.end_lsn);
                if !open.has_changes {
                    return Ok(MessageEffect::Skipped(end_lsn));
                }
                out.push(Captured::Commit {
                    commit_lsn: Lsn(commit.commit_lsn),
                    end_lsn,
                    committed_at: unix_micros(commit.committed_at),
                });
                return Ok(MessageEffect::Committed(end_lsn));
            }
            Message::Relation(relation) => {
                let is_partial = self.partial.contains(&relation.oid);
                let row_bytes_max = self.row_bytes_max;
                let descriptor = self.table(relation).map(|table| {
                    RelationDescriptor::new(table, relation, types, is_partial, row_bytes_max)
                });
                self.relations.insert(relation.oid, descriptor);
            }
            Message::Insert { relation, new } => {
                let images = RowImages { old: None, new: Some(*new) };
                self.row(*relation, Operation::Insert, images, out)?;
            }
            Message::Update { relation, old, new } => {
                let images = RowImages { old: *old, new: Some(*new) };
                self.row(*relation, Operation::Update, images, out)?;
            }
            Message::Delete { relation, old } => {
                let images = RowImages { old: Some(*old), new: None };
                self.row(*relation, Operation::Delete, images, out)?;
            }
            Message::Truncate { relations } => self.truncate(relations, out)?,
            Message::Origin { .. } | Message::Type { .. } | Message::Logical { .. } => {}
        }
        Ok(MessageEffect::None)
    }

    fn row(
        &mut self,
        relation: u32,
        operation: Operation,
        images: RowImages<'_>,
        out: &mut Vec<Captured>,
    ) -> Result<(), TransactionError> {
        let open = self.open.as_mut().ok_or(TransactionError::Outside(operation.as_str()))?;
        let position = open.next();
        let relation =
            self.relations.get(&relation).ok_or(TransactionError::UnknownRelation(relation))?;
        let Some(relation) = relation else { return Ok(()) };
        open.has_changes = true;
        let mut replaced: Vec<ReplacedValue> = Vec::new();
        let mut change = open.change(position, relation, operation);
        if let Some(old) = images.old {
            let (tuple, kind) = match old {
                OldTuple::Key(tuple) => (tuple, TupleKind::Key),
                OldTuple::Whole(tuple) => (tuple, TupleKind::Full),
            };
            let decoded = relation.row(tuple, kind, &mut self.scratch, &mut replaced)?;
            change.old = Some(decoded.row);
        }
        if let Some(new) = images.new {
            let kind = TupleKind::New(change.old.as_ref());
            let decoded = relation.row(new, kind, &mut self.scratch, &mut replaced)?;
            change.new = Some(decoded.row);
            let is_altered = replaced.iter().any(|value| value.is_of_an_altered_type());
            change.incomplete = !decoded.complete || relation.partial || is_altered;
            if !decoded.complete {
                change.note = Some(UNCHANGED_NOTE.into());
            } else if relation.partial {
                change.note = Some(PARTIAL_NOTE.into());
            }
        }
        change.note = relation.note(&replaced).or(change.note);
        if let Some(cut) = [&change.old, &change.new].into_iter().flatten().find_map(Row::cut) {
            let note = cut_note(cut.row_bytes, self.row_bytes_max);
            change.note =
                Some(change.note.map_or(note.clone(), |own| format!("{note}; {own}")).into());
        }
        out.push(Captured::Change(change));
        if self.scratch.capacity() > SCRATCH_BYTES_MAX {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    fn truncate(
        &mut self,
        relations: &[u32],
        out: &mut Vec<Captured>,
    ) -> Result<(), TransactionError> {
        let open = self.open.as_mut().ok_or(TransactionError::Outside("TRUNCATE"))?;
        for oid in relations {
            let position = open.next();
            let relation =
                self.relations.get(oid).ok_or(TransactionError::UnknownRelation(*oid))?;
            if let Some(relation) = relation {
                open.has_changes = true;
                let change = open.change(position, relation, Operation::Truncate);
                out.push(Captured::Change(change));
            }
        }
        Ok(())
    }
}

/// The note of a job whose row was cut.
fn cut_note(row_bytes: usize, row_bytes_max: usize) -> String {
    format!(
        "the row has {row_bytes} bytes, more than limits.row_bytes_max ({row_bytes_max}): \
         its large values are given as size and hash"
    )
}

/// The relation's schema; an empty name stands for `pg_catalog`.
fn schema<'a>(relation: &pgoutput::Relation<'a>) -> &'a str {
    if relation.schema.is_empty() { "pg_catalog" } else { relation.schema }
}

fn unix_micros(postgres: i64) -> i64 {
    postgres.saturating_add(POSTGRES_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wal::relation::StreamTable;

    const CAPTURED: &str = include_str!("../../../tests/fixtures/pgoutput/transactions.hex");

    fn messages() -> Vec<Vec<u8>> {
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        CAPTURED.lines().map(|line| line.as_bytes().chunks(2).map(pair).collect()).collect()
    }

    fn decoder(tables: &[&str]) -> TransactionDecoder {
        let tables = tables.iter().map(|name| StreamTable::by_name("public", name));
        TransactionDecoder::new(Tables::new(tables.collect()), usize::MAX)
    }

    fn shown(row: Option<&Row>) -> String {
        let Some(row) = row else { return "-".to_owned() };
        let json = String::from_utf8(row.json().to_vec()).unwrap();
        for (index, name) in row.columns().names().iter().enumerate() {
            // Spans agree with the text.
            let value: Option<serde_json::Value> =
                row.at(index).map(|value| serde_json::from_slice(value).unwrap());
            let whole: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(value.as_ref(), whole.get(name), "{json}");
        }
        json.replace(&"x".repeat(3000), "x…").replace(&"y".repeat(3000), "y…")
    }

    /// One line for each captured item, and for each skipped transaction.
    fn lines(tables: &[&str]) -> Vec<String> {
        let mut decoder = decoder(tables);
        let types = TypeCache::new();
        let mut lines = Vec::new();
        for bytes in messages() {
            let mut out = Vec::new();
            let message = pgoutput::decode(&bytes).unwrap();
            let effect = decoder.apply(&message, &types, &mut out).unwrap();
            if let MessageEffect::Skipped(end) = effect {
                lines.push(format!("skipped {end}"));
            }
            for one in out {
                lines.push(match one {
                    Captured::Change(change) => format!(
                        "{} {} {} {} {}{}",
                        change.position,
                        change.operation.as_str(),
                        change.table.0,
                        shown(change.old.as_ref()),
                        shown(change.new.as_ref()),
                        if change.incomplete { " incomplete" } else { "" },
                    ),
                    Captured::Commit { commit_lsn, end_lsn, .. } => {
                        format!("commit {commit_lsn} {end_lsn}")
                    }
                    Captured::Idle { .. } => unreachable!("only the stream emits it"),
                });
            }
        }
        lines
    }

    #[test]
    fn captured_transactions_become_these_changes() {
        let expected = r#"0/102B56F0#0 INSERT 0 - {"id":1,"t":"q\"\n\\ş","big":"x…","m":"ok"}
0/102B56F0#1 INSERT 1 - {"id":1,"t":"t","big":"y…"}
0/102B56F0#3 INSERT 0 - {"id":2,"t":null,"big":null,"m":null}
commit 0/102B56F0 0/102B5720
0/102B57C0#0 UPDATE 0 - {"id":1,"t":"neu","m":"ok"} incomplete
commit 0/102B57C0 0/102B57F0
0/102B6470#0 UPDATE 1 {"id":1,"t":"t","big":"y…"} {"id":1,"t":"neu","big":"y…"}
commit 0/102B6470 0/102B64A0
0/102B6588#0 UPDATE 0 {"id":1} {"id":3,"t":"neu","m":"ok"} incomplete
commit 0/102B6588 0/102B65B8
0/102B65F8#0 DELETE 0 {"id":2} -
commit 0/102B65F8 0/102B6628
0/102B72A0#0 DELETE 1 {"id":1,"t":"neu","big":"y…"} -
commit 0/102B72A0 0/102B72D0
0/102B9050#0 TRUNCATE 1 - -
0/102B9050#2 TRUNCATE 0 - -
0/102B9050#3 INSERT 1 - {"id":9,"t":null,"big":null}
commit 0/102B9050 0/102B9388
0/102BA0B8#0 INSERT 1 - {"id":10,"big":null,"z":7}
commit 0/102BA0B8 0/102BA0E8
skipped 0/102BA440
skipped 0/102BA660"#;
        assert_eq!(lines(&["plain", "whole"]).join("\n"), expected);
    }

    #[test]
    fn positions_do_not_depend_on_what_is_configured() {
        let of = |tables: &[&str], operation: &str| -> Vec<String> {
            let mut found = lines(tables);
            found.retain(|line| line.contains(operation));
            found.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        assert_eq!(of(&["other"], "TRUNCATE"), ["0/102B9050#1"]);
        assert_eq!(of(&["other"], "INSERT").first().unwrap(), "0/102B56F0#2");
        assert!(lines(&["nothing"]).iter().all(|line| line.starts_with("skipped")));
    }

    #[test]
    fn the_commits_time_is_unix_time() {
        let mut decoder = decoder(&["plain"]);
        let types = TypeCache::new();
        let mut out = Vec::new();
        for bytes in messages().iter().take(4) {
            let message = pgoutput::decode(bytes).unwrap();
            decoder.apply(&message, &types, &mut out).unwrap();
        }
        let Some(Captured::Change(change)) = out.first() else { panic!("{out:?}") };
        assert_eq!((change.committed_at, change.xid), (1_795_467_988_067_641, 810));
        assert!(decoder.is_open());
    }

    #[test]
    fn messages_that_do_not_fit_are_errors() {
        fn check(messages: &[Message<'_>], expected: &str) {
            let mut decoder = decoder(&["plain"]);
            let types = TypeCache::new();
            let mut out = Vec::new();
            let found = messages
                .iter()
                .try_for_each(|message| decoder.apply(message, &types, &mut out).map(drop));
            assert_eq!(found.unwrap_err().to_string(), expected);
        }
        let begin = || Message::Begin(Begin { commit_lsn: 8, committed_at: 0, xid: 1 });
        let insert = [b'I', 0, 0, 0, 1, b'N', 0, 1, b'n'];
        let insert = || pgoutput::decode(&insert).unwrap();
        let relation = || {
            Message::Relation(pgoutput::Relation {
                oid: 1,
                schema: "public",
                name: "plain",
                replica_identity: b'd',
                columns: Vec::new(),
            })
        };
        check(&[begin(), begin()], "a transaction began inside another");
        check(&[insert()], "message INSERT came outside of a transaction");
        check(
            &[begin(), insert()],
            "a change names relation 1, which the stream has not described",
        );
        check(&[begin(), relation(), insert()], "a row has 1 values, its relation 0 columns");
    }
}
