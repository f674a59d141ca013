//! What to do to one document: the word between the feed and the sink.

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::OwnedSemaphorePermit;

use crate::ack::batch::JobAck;
use crate::change::{Lsn, Position};

/// The number of a configured index: its place in the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IndexId(pub u16);

/// Which document. `id` is Elasticsearch's `_id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentId {
    pub index: IndexId,
    pub id: Box<str>,
}

/// One document's next state. Later actions on a document are never older than earlier ones; the
/// sink may drop an action for a later one if it keeps the references and the higher version.
#[derive(Debug)]
pub struct Action {
    pub document: DocumentId,
    /// The whole document as one line of JSON; `None` deletes it.
    pub body: Option<Bytes>,
    /// For `version_type=external_gte`.
    pub version: u64,
    /// The jobs that are done when this is.
    pub jobs: SmallVec<[JobAck; 1]>,
    /// The room this action takes up until its verdict; freed by dropping it.
    pub room: Option<OwnedSemaphorePermit>,
}

impl Action {
    /// Bytes held, as limits count them.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.document.id.len() + self.body.as_ref().map_or(0, Bytes::len)
    }
}

/// The external version of a change's documents: `((commit_lsn - base) >> 3) << 16 | ordinal`,
/// with the ordinal capped at 65535. `None` for what lies below the index's base: a newer state is
/// there already.
///
/// LSNs of commits are multiples of 8 (PostgreSQL aligns WAL records to MAXALIGN); 47 bits of them
/// last for 1 PiB of WAL per index generation.
#[must_use]
pub fn version(position: Position, base: Lsn) -> Option<u64> {
    let distance = position.commit_lsn.0.checked_sub(base.0)? >> 3;
    assert!(distance < 1 << 47, "{position} is more than 1 PiB of WAL past {base}");
    Some(distance << 16 | position.ordinal.min(0xffff))
}

/// The version just below every change that commits at or after `lsn`.
#[must_use]
pub fn version_below(lsn: Lsn, base: Lsn) -> Option<u64> {
    version(Position { commit_lsn: lsn, ordinal: 0 }, base)?.checked_sub(1)
}

/// What the feed asks of the sink.
#[derive(Debug)]
pub enum Command {
    Act(Action),
    /// All ids of an index's documents that match a term (`None`: all), in pages, after a
    /// refresh. Nothing is in flight meanwhile.
    Enumerate {
        index: IndexId,
        /// Field and term.
        filter: Option<(String, String)>,
        pages: tokio::sync::mpsc::Sender<Vec<String>>,
    },
}
