//! The documents of which Elasticsearch is known to have the last state that was sent. Pure.
//!
//! It is a fixed number of places, and a document has one of them: the last document to come takes
//! it. So the set may lack a document, and has none that it should not have.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

use crate::engine::document::id::DocumentId;

/// Documents remembered at most.
const PLACES: usize = 16 * 1024;

/// Documents of which the last verdict was that they were indexed.
#[derive(Debug)]
pub struct IndexedDocuments {
    places: Vec<Option<DocumentId>>,
    hasher: FixedState,
}

impl Default for IndexedDocuments {
    fn default() -> Self {
        Self { places: vec![None; PLACES], hasher: FixedState::default() }
    }
}

impl IndexedDocuments {
    /// Whether Elasticsearch has the last state of the document that was sent.
    #[must_use]
    pub fn contains(&self, document: &DocumentId) -> bool {
        self.places[self.place(document)].as_ref() == Some(document)
    }

    /// Elasticsearch has indexed the document.
    pub fn insert(&mut self, document: DocumentId) {
        let place = self.place(&document);
        self.places[place] = Some(document);
    }

    /// The document was deleted, refused or parked, or is newer than what was sent.
    pub fn remove(&mut self, document: &DocumentId) {
        let place = self.place(document);
        if self.places[place].as_ref() == Some(document) {
            self.places[place] = None;
        }
    }

    /// Documents may have been lost.
    pub fn clear(&mut self) {
        self.places.fill(None);
    }

    fn place(&self, document: &DocumentId) -> usize {
        let hash = self.hasher.hash_one(document);
        usize::try_from(hash % PLACES as u64).expect("a place is a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::document::id::IndexId;

    fn document(number: usize) -> DocumentId {
        DocumentId::new(IndexId(0), number.to_string().into())
    }

    #[test]
    fn it_has_what_was_inserted_last_and_nothing_else() {
        let mut indexed = IndexedDocuments::default();
        assert!(!indexed.contains(&document(1)));
        indexed.insert(document(1));
        assert!(indexed.contains(&document(1)));
        indexed.remove(&document(2));
        let other = DocumentId::new(IndexId(1), document(1).id);
        assert!(indexed.contains(&document(1)) && !indexed.contains(&other));
        indexed.remove(&document(1));
        assert!(!indexed.contains(&document(1)));
        (0..4 * PLACES).for_each(|number| indexed.insert(document(number)));
        let kept = (0..4 * PLACES).filter(|number| indexed.contains(&document(*number))).count();
        assert!((PLACES / 2..=PLACES).contains(&kept), "{kept}");
        indexed.clear();
        assert!(!(0..4 * PLACES).any(|number| indexed.contains(&document(number))));
    }
}
