//! Which documents were rendered from rows that may be ahead of the stream.
//!
//! A read sees rows as they are now. Until the stream has passed the server's insert LSN at the
//! time of the read (its snapshot LSN), an image from the stream may be older than what was sent,
//! so every action on that document is rendered by a read as well. Pure.

use foldhash::HashMap;

use crate::change::Lsn;
use crate::engine::document::id::DocumentId;

/// How many documents are remembered one by one; past it, all count as read ahead.
const DOCUMENTS_MAX: usize = 65_536;

/// The documents, each with the snapshot LSN of the newest read.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// Everything at or below is rendered by reads, whichever document it is.
    all_until: Lsn,
    documents: HashMap<DocumentId, Lsn>,
    /// The highest snapshot LSN among `documents`.
    highest: Lsn,
}

impl ReadAhead {
    /// What a new run knows: the stored read-ahead LSN of earlier runs.
    #[must_use]
    pub fn starting_at(stored: Lsn) -> Self {
        Self { all_until: stored, ..Self::default() }
    }

    /// One document was rendered by a read with this snapshot LSN.
    pub fn note(&mut self, document: &DocumentId, snapshot_lsn: Lsn) {
        if snapshot_lsn <= self.all_until {
            return;
        }
        if self.documents.len() >= DOCUMENTS_MAX {
            self.note_all(self.highest.max(snapshot_lsn));
            return;
        }
        self.highest = self.highest.max(snapshot_lsn);
        self.documents.insert(document.clone(), snapshot_lsn);
    }

    /// Any document may have been rendered by a read with this snapshot LSN.
    pub fn note_all(&mut self, snapshot_lsn: Lsn) {
        self.all_until = self.all_until.max(snapshot_lsn).max(self.highest);
        self.documents.clear();
        self.highest = Lsn(0);
    }

    /// The stream stands at `commit_lsn`. Forgets all documents once the stream has passed the
    /// highest snapshot LSN.
    pub fn passed(&mut self, commit_lsn: Lsn) {
        if commit_lsn > self.highest && !self.documents.is_empty() {
            self.documents.clear();
            self.highest = Lsn(0);
        }
    }

    /// The bytes of what is remembered one by one.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // An id has 36 bytes mostly.
        self.documents.capacity() * (size_of::<(DocumentId, Lsn)>() + 36)
    }

    /// Whether a change of this document at this position must be rendered by a read.
    #[must_use]
    pub fn covers(&self, document: &DocumentId, commit_lsn: Lsn) -> bool {
        commit_lsn <= self.all_until
            || (!self.documents.is_empty()
                && self.documents.get(document).is_some_and(|&until| commit_lsn <= until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::document::id::IndexId;

    fn document(id: &str) -> DocumentId {
        DocumentId::new(IndexId(0), id.into())
    }

    #[test]
    fn a_document_is_covered_up_to_its_snapshot_lsn() {
        let mut ahead = ReadAhead::default();
        ahead.note(&document("a"), Lsn(100));
        assert!(ahead.covers(&document("a"), Lsn(100)));
        assert!(!ahead.covers(&document("a"), Lsn(101)));
        assert!(!ahead.covers(&document("b"), Lsn(50)));
    }

    #[test]
    fn the_stream_passing_the_highest_snapshot_lsn_forgets_all() {
        let mut ahead = ReadAhead::default();
        ahead.note(&document("a"), Lsn(100));
        ahead.note(&document("b"), Lsn(200));
        ahead.passed(Lsn(150));
        assert!(ahead.covers(&document("b"), Lsn(200)));
        ahead.passed(Lsn(201));
        assert!(ahead.documents.is_empty());
    }

    #[test]
    fn a_new_run_starts_with_the_stored_lsn() {
        let ahead = ReadAhead::starting_at(Lsn(70));
        assert!(ahead.covers(&document("x"), Lsn(70)));
        assert!(!ahead.covers(&document("x"), Lsn(71)));
    }

    #[test]
    fn too_many_documents_cover_everything() {
        let mut ahead = ReadAhead::default();
        for n in 0..=DOCUMENTS_MAX {
            ahead.note(&document(&n.to_string()), Lsn(100));
        }
        assert!(ahead.covers(&document("never seen"), Lsn(100)));
        assert!(!ahead.covers(&document("never seen"), Lsn(101)));
    }
}
