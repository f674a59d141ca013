//! What a batch of changes does to documents, collapsed to one step per document. Pure.

use foldhash::HashMap;
use smallvec::SmallVec;

use crate::ack::batch::JobAck;
use crate::change::TableId;
use crate::engine::document::definition::SourceId;
use crate::engine::document::id::DocumentId;

/// What a document becomes.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// Built from the new row of the change with this number in the batch.
    Image(usize),
    /// Deleted.
    Gone,
    /// Built from the row as it is now, or deleted if there is none. Key parts.
    Read(Vec<String>),
}

/// One document's step.
#[derive(Debug)]
pub struct Step {
    pub document: DocumentId,
    pub source: SourceId,
    pub table: TableId,
    pub content: Content,
    pub version: u64,
    pub jobs: SmallVec<[JobAck; 1]>,
}

/// The steps of a batch, in the order in which their documents were first touched.
#[derive(Debug, Default)]
pub struct Plan {
    steps: Vec<Step>,
    places: HashMap<DocumentId, usize>,
}

impl Plan {
    /// Adds a step. An earlier one on the same document gives way: the later content, the higher
    /// version, all jobs. A read stays a read: its row is newer than any image of the batch.
    pub fn touch(&mut self, step: Step) {
        let Some(&place) = self.places.get(&step.document) else {
            self.places.insert(step.document.clone(), self.steps.len());
            self.steps.push(step);
            return;
        };
        let before = &mut self.steps[place];
        if !matches!(before.content, Content::Read(_)) {
            before.content = step.content;
            before.source = step.source;
        }
        before.version = before.version.max(step.version);
        before.jobs.extend(step.jobs);
    }

    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    #[must_use]
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}
