//! Rows that documents embed, as read in this run and kept right by the stream.
//!
//! An entry comes from a read only, never from an image of the stream: so each entry's states
//! never go back, however far ahead of the stream its read was. The stream changes an entry
//! once it is past the snapshot LSN of the read. Before that the newer of the two is unknown, and
//! the entry is dropped for a new read. The cache is valid while every change passes through the
//! feed, and is cleared when that ends. Pure.

use foldhash::HashMap;

use crate::change::{Lsn, Row, TableId};
use crate::engine::document::build::Embedded;

/// Bytes of rows kept; past it the cache starts anew, which costs a read per batch.
const BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
struct CachedRow {
    /// `None`: there is no such row.
    row: Option<Row>,
    snapshot_lsn: Lsn,
}

/// Rows by table and key text.
#[derive(Debug, Default)]
pub struct RowCache {
    tables: HashMap<TableId, HashMap<String, CachedRow>>,
    bytes: usize,
}

impl RowCache {
    /// Whether a read is needed to know this row.
    #[must_use]
    pub fn knows(&self, table: TableId, key: &str) -> bool {
        self.tables.get(&table).is_some_and(|rows| rows.contains_key(key))
    }

    /// Adds what a read with this snapshot LSN found.
    pub fn insert(&mut self, table: TableId, key: String, row: Option<Row>, snapshot_lsn: Lsn) {
        let row = row.map(Row::without_cut_values);
        self.bytes += row.as_ref().map_or(0, Row::size) + key.len();
        self.tables.entry(table).or_default().insert(key, CachedRow { row, snapshot_lsn });
    }

    /// The stream changed the row to `row`; `None` if it deleted it.
    pub fn apply(&mut self, table: TableId, key: &str, row: Option<&Row>, commit_lsn: Lsn) {
        let Some(rows) = self.tables.get_mut(&table) else { return };
        let Some(entry) = rows.get_mut(key) else { return };
        if commit_lsn <= entry.snapshot_lsn {
            rows.remove(key);
        } else {
            entry.row = row.cloned().map(Row::without_cut_values);
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

    /// The bytes of rows and keys that were added since it was empty.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets every row.
    pub fn clear(&mut self) {
        self.tables.clear();
        self.bytes = 0;
    }
}

impl Embedded for RowCache {
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

    fn shown(cache: &RowCache) -> Option<&str> {
        cache.row(TABLE, "k").and_then(|r| std::str::from_utf8(r.get("n")?).ok())
    }

    #[test]
    fn the_stream_adds_nothing_by_itself() {
        let mut cache = RowCache::default();
        cache.apply(TABLE, "k", Some(&row(1)), Lsn(5));
        assert!(!cache.knows(TABLE, "k"));
    }

    #[test]
    fn past_its_snapshot_lsn_an_entry_follows_the_stream() {
        let mut cache = RowCache::default();
        cache.insert(TABLE, "k".to_owned(), Some(row(1)), Lsn(10));
        cache.apply(TABLE, "k", Some(&row(2)), Lsn(11));
        assert_eq!(shown(&cache), Some("2"));
        cache.apply(TABLE, "k", None, Lsn(12));
        assert!(cache.knows(TABLE, "k"));
        assert_eq!(shown(&cache), None);
    }

    #[test]
    fn up_to_its_snapshot_lsn_a_change_asks_for_a_new_read() {
        let mut cache = RowCache::default();
        cache.insert(TABLE, "k".to_owned(), Some(row(3)), Lsn(10));
        cache.apply(TABLE, "k", Some(&row(2)), Lsn(10));
        assert!(!cache.knows(TABLE, "k"));
    }
}
