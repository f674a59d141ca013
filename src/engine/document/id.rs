//! Identity and version of a document. Pure.
//!
//! Not here: what is done to a document (`engine::feed::action`).

use std::hash::{BuildHasher as _, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::change::{Lsn, Position};

/// The number of a configured index: its place in the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IndexId(pub u16);

/// A document of one index. `id` is Elasticsearch's `_id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentId {
    pub index: IndexId,
    pub id: Arc<str>,
    /// Computed once: a document is looked up by every stage that it passes.
    hash: u64,
}

impl DocumentId {
    #[must_use]
    pub fn new(index: IndexId, id: Arc<str>) -> Self {
        let hash = FixedState::default().hash_one((index, &id));
        Self { index, id, hash }
    }
}

impl Hash for DocumentId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The external version of a change's documents: `((commit_lsn - base) >> 3) << 16 | ordinal`,
/// with the ordinal capped at 65535. `None` for a change below the index's base: the index already
/// holds a newer state.
///
/// LSNs of commits are multiples of 8 (PostgreSQL aligns WAL records to MAXALIGN); 47 bits of them
/// last for 1 PiB of WAL per index generation.
#[must_use]
pub fn version(position: Position, base: Lsn) -> Option<u64> {
    let distance = position.commit_lsn.0.checked_sub(base.0)? >> 3;
    assert!(distance < 1 << 47, "{position} is more than 1 PiB of WAL past {base}");
    Some(distance << 16 | position.ordinal.min(0xffff))
}

/// The LSN that a version was made of, less than eight bytes too low.
#[must_use]
pub fn lsn_of(version: u64, base: Lsn) -> Lsn {
    Lsn(base.0.saturating_add((version >> 16) << 3))
}

/// The version just below every change that commits at or after `lsn`.
#[must_use]
pub fn version_below(lsn: Lsn, base: Lsn) -> Option<u64> {
    version(Position { commit_lsn: lsn, ordinal: 0 }, base)?.checked_sub(1)
}
