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
pub struct DocumentStep {
    pub document: DocumentId,
    pub source: SourceId,
    pub table: TableId,
    pub content: Content,
    pub version: u64,
    pub jobs: SmallVec<[JobAck; 1]>,
    /// The document is the same as before the step.
    pub unchanged: bool,
}

/// The steps of a batch, in the order in which their documents were first touched.
#[derive(Debug, Default)]
pub struct DocumentPlan {
    steps: Vec<DocumentStep>,
    index: HashMap<DocumentId, usize>,
}

impl DocumentPlan {
    /// An empty plan with room for so many steps.
    #[must_use]
    pub fn with_capacity(steps: usize) -> Self {
        let index =
            HashMap::with_capacity_and_hasher(steps, foldhash::fast::RandomState::default());
        Self { steps: Vec::with_capacity(steps), index }
    }

    /// Adds a step, merged with an earlier step on the same document: the later content, the higher
    /// version, all jobs. A read stays a read: its row is newer than any image of the batch.
    pub fn touch(&mut self, step: DocumentStep) {
        let Some(&at) = self.index.get(&step.document) else {
            self.index.insert(step.document.clone(), self.steps.len());
            self.steps.push(step);
            return;
        };
        let before = &mut self.steps[at];
        if !matches!(before.content, Content::Read(_)) {
            before.content = step.content;
            before.source = step.source;
        }
        before.unchanged &= step.unchanged;
        before.version = before.version.max(step.version);
        before.jobs.extend(step.jobs);
    }

    /// The steps so far.
    #[must_use]
    pub fn steps(&self) -> &[DocumentStep] {
        &self.steps
    }

    /// The steps, to be sent.
    #[must_use]
    pub fn into_steps(self) -> Vec<DocumentStep> {
        self.steps
    }
}
