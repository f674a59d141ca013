//! Rows that documents embed, as read in this run and kept right by the stream.
//!
//! An entry comes from a read only, never from an image of the stream: so each entry's states
//! never go back, however far ahead of the stream its read was. The stream changes an entry
//! once it is past the read's horizon; before that it cannot tell which of the two is newer, and
//! drops the entry for a new read. Valid while every change passes through the feed's hands;
//! cleared whenever that ends. Pure.

use foldhash::HashMap;

use crate::change::{Lsn, Row, TableId};
use crate::engine::document::build::Embedded;

/// Bytes of rows kept; past it the cache starts anew, which costs a read per batch.
const BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
struct Entry {
    /// `None`: there is no such row.
    row: Option<Row>,
    horizon: Lsn,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Cache {
    tables: HashMap<TableId, HashMap<String, Entry>>,
    bytes: usize,
}

impl Cache {
    /// Whether a read is needed to know this row.
    #[must_use]
    pub fn knows(&self, table: TableId, key: &str) -> bool {
        self.tables.get(&table).is_some_and(|rows| rows.contains_key(key))
    }

    /// What a read with this horizon found.
    pub fn insert(&mut self, table: TableId, key: String, row: Option<Row>, horizon: Lsn) {
        self.bytes += row.as_ref().map_or(0, Row::size) + key.len();
        self.tables.entry(table).or_default().insert(key, Entry { row, horizon });
    }

    /// The stream says that the row is now `row`; `None` if it is gone.
    pub fn apply(&mut self, table: TableId, key: &str, row: Option<&Row>, commit_lsn: Lsn) {
        let Some(rows) = self.tables.get_mut(&table) else { return };
        let Some(entry) = rows.get_mut(key) else { return };
        if commit_lsn <= entry.horizon {
            rows.remove(key);
        } else {
            entry.row = row.cloned();
        }
    }

    /// Forgets one row.
    pub fn forget(&mut self, table: TableId, key: &str) {
        if let Some(rows) = self.tables.get_mut(&table) {
            rows.remove(key);
        }
    }

    /// Forgets all rows of a table.
    pub fn forget_table(&mut self, table: TableId) {
        self.tables.remove(&table);
    }

    /// Between batches: starts anew when too large.
    pub fn trim(&mut self) {
        if self.bytes > BYTES_MAX {
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        self.tables.clear();
        self.bytes = 0;
    }
}

impl Embedded for Cache {
    fn row(&self, table: TableId, key: &str) -> Option<&Row> {
        self.tables.get(&table)?.get(key)?.row.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId(0);

    fn row(n: u8) -> Row {
        Row::parse(&format!(r#"{{"n":{n}}}"#), None).unwrap()
    }

    fn shown(cache: &Cache) -> Option<&str> {
        cache.row(TABLE, "k").and_then(|r| std::str::from_utf8(r.get("n")?).ok())
    }

    #[test]
    fn the_stream_adds_nothing_by_itself() {
        let mut cache = Cache::default();
        cache.apply(TABLE, "k", Some(&row(1)), Lsn(5));
        assert!(!cache.knows(TABLE, "k"));
    }

    #[test]
    fn past_its_horizon_an_entry_follows_the_stream() {
        let mut cache = Cache::default();
        cache.insert(TABLE, "k".to_owned(), Some(row(1)), Lsn(10));
        cache.apply(TABLE, "k", Some(&row(2)), Lsn(11));
        assert_eq!(shown(&cache), Some("2"));
        cache.apply(TABLE, "k", None, Lsn(12));
        assert!(cache.knows(TABLE, "k"));
        assert_eq!(shown(&cache), None);
    }

    #[test]
    fn up_to_its_horizon_a_change_asks_for_a_new_read() {
        let mut cache = Cache::default();
        cache.insert(TABLE, "k".to_owned(), Some(row(3)), Lsn(10));
        cache.apply(TABLE, "k", Some(&row(2)), Lsn(10));
        assert!(!cache.knows(TABLE, "k"));
    }
}
