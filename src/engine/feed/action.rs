//! What the feed sends to the sink: actions on documents, and listings of their ids.
//!
//! Not here: how a document is identified and versioned (`engine::document::id`).

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;

use crate::ack::batch::{IndexWait, JobAck};
use crate::ack::memory::MemoryHold;
use crate::engine::document::id::{DocumentId, IndexId};

/// One document's next state. Later actions on a document are never older than earlier ones; the
/// sink may drop an action for a later one if it keeps the references and the higher version.
#[derive(Debug)]
pub struct Action {
    pub document: DocumentId,
    /// The whole document as one line of JSON; `None` deletes it.
    pub body: Option<Bytes>,
    /// Why the document must not be sent; it has no body then.
    pub refusal: Option<Arc<str>>,
    /// For `version_type=external_gte`.
    pub version: u64,
    /// The document is the same as before the jobs' changes: where Elasticsearch has it, there is
    /// nothing to send.
    pub unchanged: bool,
    /// The jobs that this action completes.
    pub jobs: SmallVec<[JobAck; 1]>,
    /// The share of the memory limit that this action uses until its verdict; dropping the action
    /// releases it.
    pub room: Option<ActionRoom>,
}

/// What an action takes of the limits.
#[derive(Debug)]
pub struct ActionRoom {
    permit: OwnedSemaphorePermit,
    memory: MemoryHold,
}

impl ActionRoom {
    /// The shares of one action.
    #[must_use]
    pub fn new(permit: OwnedSemaphorePermit, memory: MemoryHold) -> Self {
        Self { permit, memory }
    }

    /// Takes over the shares of another action on the same document.
    pub fn merge(&mut self, other: Self) {
        self.permit.merge(other.permit);
        self.memory.merge(other.memory);
    }
}

impl Action {
    /// The next state of a document, or its deletion.
    #[must_use]
    pub fn new(
        document: DocumentId,
        body: Option<Bytes>,
        version: u64,
        jobs: SmallVec<[JobAck; 1]>,
    ) -> Self {
        Self { document, body, refusal: None, version, unchanged: false, jobs, room: None }
    }

    /// Makes it one that must not be sent: the attempt of its jobs fails for this reason.
    pub fn refuse(&mut self, reason: String) {
        self.body = None;
        self.unchanged = false;
        self.refusal = Some(reason.into());
    }

    /// Bytes held, as limits count them.
    #[must_use]
    pub fn size(&self) -> usize {
        let references =
            if self.jobs.spilled() { self.jobs.len() * size_of::<JobAck>() } else { 0 };
        let body = self.body.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + self.document.id.len() + body + references
    }

    /// Whether the action may be dropped for its jobs, which render it again later.
    #[must_use]
    pub fn may_be_parked(&self) -> bool {
        !self.jobs.is_empty() && self.jobs.iter().all(JobAck::is_recorded)
    }
}

/// A page of a listing, or what the listing waits for: then it has ended, and its job is parked.
pub type ListedPage = Result<Vec<String>, Arc<IndexWait>>;

/// A request of the feed to the sink.
#[derive(Debug)]
pub enum SinkCommand {
    Act(Action),
    /// Lists the ids of an index's documents that match a term (`None`: all), in pages, after a
    /// refresh. No action on the index is in flight meanwhile. An empty page says that all have been
    /// sent; without it the listing is not complete.
    Enumerate {
        index: IndexId,
        /// Field and term.
        filter: Option<(String, String)>,
        pages: mpsc::Sender<ListedPage>,
    },
}
