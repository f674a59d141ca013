//! Messages to changes, in the order of commit. Pure.
//!
//! A change's ordinal counts every row of the transaction as it is published, and each relation
//! of a TRUNCATE, whether or not the table is configured: the same change has the same position
//! at every replay and under every configuration.
//!
//! Memory is one row: changes are handed out as they arrive, transactions are never gathered.

use foldhash::HashMap;

use crate::change::{Change, Lsn, Operation, Position};
use crate::engine::wal::Captured;
use crate::engine::wal::error::TransactionError;
use crate::engine::wal::pgoutput;
use crate::engine::wal::pgoutput::{Begin, Message, Old, Tuple};
use crate::engine::wal::relation::{Altered, Shape, Tables, Taken};
use crate::value::TypeCache;

/// 2000-01-01 UTC, PostgreSQL's epoch, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
/// A scratch buffer larger than this is given back after its row.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// What a message meant for the position in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Within,
    /// A transaction with changes of ours ended here, and its `Commit` was handed out.
    Committed(Lsn),
    /// A transaction without changes of ours ended here.
    Passed(Lsn),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Assembler {
    tables: Tables,
    /// `None` for published tables that are not configured.
    relations: HashMap<u32, Option<Shape>>,
    open: Option<Open>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    begin: Begin,
    ordinal: u64,
    ours: bool,
}

impl Open {
    /// The position of the next change.
    fn next(&mut self) -> Position {
        let ordinal = self.ordinal;
        self.ordinal += 1;
        Position { commit_lsn: Lsn(self.begin.commit_lsn), ordinal }
    }

    fn change(&self, position: Position, shape: &Shape, operation: Operation) -> Change {
        Change {
            position,
            xid: self.begin.xid,
            committed_at: unix_micros(self.begin.committed_at),
            table: shape.table,
            operation,
            old: None,
            new: None,
            incomplete: false,
            note: None,
        }
    }
}

impl Assembler {
    #[must_use]
    pub fn new(tables: Tables) -> Self {
        Self { tables, relations: HashMap::default(), open: None, scratch: Vec::new() }
    }

    /// Between Begin and Commit.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The relation is one of the configured tables.
    #[must_use]
    pub fn is_configured(&self, relation: &pgoutput::Relation<'_>) -> bool {
        self.tables.find(schema(relation), relation.name).is_some()
    }

    /// Takes the next message; what it yields goes to the end of `out`.
    ///
    /// # Errors
    /// [`TransactionError`]; the assembler is of no use after it.
    pub fn apply(
        &mut self,
        message: &Message<'_>,
        kinds: &TypeCache,
        out: &mut Vec<Captured>,
    ) -> Result<Step, TransactionError> {
        match message {
            Message::Begin(begin) => {
                if self.open.is_some() {
                    return Err(TransactionError::Inside);
                }
                self.open = Some(Open { begin: *begin, ordinal: 0, ours: false });
            }
            Message::Commit(commit) => {
                let open = self.open.take().ok_or(TransactionError::Outside("Commit"))?;
                let end_lsn = Lsn(commit.end_lsn);
                if !open.ours {
                    return Ok(Step::Passed(end_lsn));
                }
                out.push(Captured::Commit {
                    commit_lsn: Lsn(commit.commit_lsn),
                    end_lsn,
                    committed_at: unix_micros(commit.committed_at),
                });
                return Ok(Step::Committed(end_lsn));
            }
            Message::Relation(relation) => {
                let table = self.tables.find(schema(relation), relation.name);
                let shape = table.map(|table| Shape::new(table, relation, kinds));
                self.relations.insert(relation.oid, shape);
            }
            Message::Insert { relation, new } => {
                self.row(*relation, Operation::Insert, (None, Some(*new)), out)?;
            }
            Message::Update { relation, old, new } => {
                self.row(*relation, Operation::Update, (*old, Some(*new)), out)?;
            }
            Message::Delete { relation, old } => {
                self.row(*relation, Operation::Delete, (Some(*old), None), out)?;
            }
            Message::Truncate { relations } => self.truncate(relations, out)?,
            Message::Origin { .. } | Message::Type { .. } | Message::Logical { .. } => {}
        }
        Ok(Step::Within)
    }

    fn row(
        &mut self,
        relation: u32,
        operation: Operation,
        (old, new): (Option<Old<'_>>, Option<Tuple<'_>>),
        out: &mut Vec<Captured>,
    ) -> Result<(), TransactionError> {
        let open = self.open.as_mut().ok_or(TransactionError::Outside(operation.as_str()))?;
        let position = open.next();
        let shape =
            self.relations.get(&relation).ok_or(TransactionError::UnknownRelation(relation))?;
        let Some(shape) = shape else { return Ok(()) };
        open.ours = true;
        let mut altered: Vec<Altered> = Vec::new();
        let mut change = open.change(position, shape, operation);
        if let Some(old) = old {
            let (tuple, taken) = match old {
                Old::Key(tuple) => (tuple, Taken::Key),
                Old::Whole(tuple) => (tuple, Taken::Whole),
            };
            let written = shape.row(tuple, taken, &mut self.scratch, &mut altered)?;
            change.old = Some(written.row);
        }
        if let Some(new) = new {
            let taken = Taken::Over(change.old.as_ref());
            let written = shape.row(new, taken, &mut self.scratch, &mut altered)?;
            change.new = Some(written.row);
            change.incomplete = !written.complete;
        }
        change.note = shape.note(&altered);
        if change.incomplete && change.note.is_none() {
            change.note =
                Some("values that did not change were not sent; see REPLICA IDENTITY".into());
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
            let shape = self.relations.get(oid).ok_or(TransactionError::UnknownRelation(*oid))?;
            if let Some(shape) = shape {
                open.ours = true;
                let change = open.change(position, shape, Operation::Truncate);
                out.push(Captured::Change(change));
            }
        }
        Ok(())
    }
}

/// The name that an empty schema stands for.
fn schema<'a>(relation: &pgoutput::Relation<'a>) -> &'a str {
    if relation.schema.is_empty() { "pg_catalog" } else { relation.schema }
}

fn unix_micros(postgres: i64) -> i64 {
    postgres.saturating_add(POSTGRES_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Row;

    const CAPTURED: &str = include_str!("../../../tests/fixtures/pgoutput/transactions.hex");

    fn messages() -> Vec<Vec<u8>> {
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        CAPTURED.lines().map(|line| line.as_bytes().chunks(2).map(pair).collect()).collect()
    }

    fn assembler(tables: &[&str]) -> Assembler {
        let names = tables.iter().map(|name| ("public".to_owned(), (*name).to_owned()));
        Assembler::new(Tables::new(names.collect()))
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

    /// One line for each thing captured; `=` and a step for transactions that are not ours.
    fn lines(tables: &[&str]) -> Vec<String> {
        let (mut assembler, kinds) = (assembler(tables), TypeCache::new());
        let mut lines = Vec::new();
        for bytes in messages() {
            let mut out = Vec::new();
            let message = pgoutput::decode(&bytes).unwrap();
            let step = assembler.apply(&message, &kinds, &mut out).unwrap();
            if let Step::Passed(end) = step {
                lines.push(format!("passed {end}"));
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
                    Captured::Idle { .. } => unreachable!("only the stream knows of idling"),
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
passed 0/102BA440
passed 0/102BA660"#;
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
        assert!(lines(&["nothing"]).iter().all(|line| line.starts_with("passed")));
    }

    #[test]
    fn the_commits_time_is_unix_time() {
        let (mut assembler, kinds) = (assembler(&["plain"]), TypeCache::new());
        let mut out = Vec::new();
        for bytes in messages().iter().take(4) {
            let message = pgoutput::decode(bytes).unwrap();
            assembler.apply(&message, &kinds, &mut out).unwrap();
        }
        let Some(Captured::Change(change)) = out.first() else { panic!("{out:?}") };
        assert_eq!((change.committed_at, change.xid), (1_795_467_988_067_641, 810));
        assert!(assembler.is_open());
    }

    #[test]
    fn messages_that_do_not_fit_are_errors() {
        fn check(messages: &[Message<'_>], expected: &str) {
            let (mut assembler, kinds) = (assembler(&["plain"]), TypeCache::new());
            let mut out = Vec::new();
            let found = messages
                .iter()
                .try_for_each(|message| assembler.apply(message, &kinds, &mut out).map(drop));
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
