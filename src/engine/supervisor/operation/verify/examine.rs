//! One look: documents as rows give them, beside those that Elasticsearch has.
//!
//! Rows are read first, so that a document is never older than what it is compared with but by
//! changes that are not settled.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::{OperationFault, Operations};
use crate::change::TableId;
use crate::engine::document::compare::differing_fields;
use crate::engine::document::definition::SourceId;
use crate::engine::document::id::IndexId;
use crate::engine::document::plain;
use crate::engine::feed::render::wanted::{WantedBody, WantedDocument, WantedDocuments};
use crate::engine::sink::backoff::Backoff;
use crate::engine::sink::lookup::{self, FoundDocument, LookupError, WriteNumber};
use crate::storage::operation;
use crate::storage::verification::DifferenceKind;

/// Rows that are read at once.
const KEYS_MAX: usize = 500;
/// Documents of one request, and the bytes that they should have.
const DOCUMENTS_MAX: usize = 500;
const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// Between two attempts while Elasticsearch does not answer.
const AGAIN: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(10) };

/// A document to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DocumentSubject {
    pub(super) source: SourceId,
    pub(super) id: Arc<str>,
    /// The key of its row; `None` where no row can have a document of this id.
    pub(super) key: Option<Vec<String>>,
}

/// What a look has seen, to be compared with another look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// A hash of the document that the row gives.
    wanted: Option<u64>,
    found: Option<WriteNumber>,
}

/// A document that was not as its row gives it.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) subject: DocumentSubject,
    pub(super) kind: DifferenceKind,
    pub(super) fields: Vec<String>,
    pub(super) look: Look,
}

/// What a look at rows has seen.
pub(super) struct SeenRows {
    pub(super) differences: Vec<Difference>,
    /// `None` where there was no further row.
    pub(super) last_key: Option<Vec<String>>,
    pub(super) row_count: usize,
    pub(super) document_count: u64,
    /// Documents of rows that are too large.
    pub(super) undecided_count: u64,
}

/// Looks at documents and rows.
pub(super) struct Examiner<'a> {
    operations: &'a Operations,
    operation: i64,
    table: TableId,
    sources: Vec<SourceId>,
    wanted: WantedDocuments,
    hasher: foldhash::fast::FixedState,
}

impl<'a> Examiner<'a> {
    pub(super) fn new(
        operations: &'a Operations,
        operation: i64,
        table: TableId,
        sources: Vec<SourceId>,
        wanted: WantedDocuments,
    ) -> Self {
        let hasher = foldhash::fast::FixedState::default();
        Self { operations, operation, table, sources, wanted, hasher }
    }

    /// Looks at the documents of the next rows.
    pub(super) async fn rows_after(
        &mut self,
        after: Option<&[String]>,
        limit: usize,
    ) -> Result<SeenRows, OperationFault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let chunk = self.wanted.after(self.table, after, limit).await?;
        let mut seen = self.documents(chunk.documents).await?;
        seen.last_key = chunk.last_key;
        seen.row_count = chunk.row_count;
        Ok(seen)
    }

    /// Looks at the documents of the rows with these keys.
    pub(super) async fn rows_of(
        &mut self,
        keys: &[Vec<String>],
    ) -> Result<SeenRows, OperationFault> {
        let documents = self.wanted.of_keys(self.table, keys).await?;
        self.documents(documents).await
    }

    /// Looks at these documents.
    pub(super) async fn subjects(
        &mut self,
        subjects: Vec<DocumentSubject>,
    ) -> Result<Vec<Difference>, OperationFault> {
        let meant: HashSet<(SourceId, &str)> =
            subjects.iter().map(|subject| (subject.source, &*subject.id)).collect();
        let mut keys: Vec<Vec<String>> = subjects.iter().filter_map(|s| s.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut differences = Vec::new();
        for chunk in keys.chunks(KEYS_MAX) {
            let mut documents = self.wanted.of_keys(self.table, chunk).await?;
            documents.retain(|document| meant.contains(&(document.source, &*document.id)));
            differences.extend(self.documents(documents).await?.differences);
        }
        let nameless = subjects.iter().filter(|subject| subject.key.is_none());
        let wanted = nameless.map(|DocumentSubject { source, id, .. }| WantedDocument {
            source: *source,
            key: None,
            id: Arc::clone(id),
            body: WantedBody::Absent,
        });
        differences.extend(self.documents(wanted.collect()).await?.differences);
        Ok(differences)
    }

    async fn documents(&self, wanted: Vec<WantedDocument>) -> Result<SeenRows, OperationFault> {
        let mut seen = SeenRows {
            differences: Vec::new(),
            last_key: None,
            row_count: 0,
            document_count: 0,
            undecided_count: 0,
        };
        let mut by_index: BTreeMap<IndexId, Vec<WantedDocument>> = BTreeMap::new();
        for document in wanted {
            if !self.sources.contains(&document.source) {
                continue;
            }
            if document.body == WantedBody::Unknown {
                seen.undecided_count += 1;
                continue;
            }
            by_index.entry(document.source.index).or_default().push(document);
        }
        for (index, documents) in by_index {
            for part in parts(&documents) {
                let ids: Vec<&str> = part.iter().map(|document| &*document.id).collect();
                let found = self.look_up(index, &ids).await?;
                seen.document_count += part.len() as u64;
                let pairs = part.iter().zip(found);
                let differences =
                    pairs.filter_map(|(wanted, found)| self.difference(wanted, found));
                seen.differences.extend(differences);
            }
        }
        Ok(seen)
    }

    /// What Elasticsearch has, once it answers.
    async fn look_up(
        &self,
        index: IndexId,
        ids: &[&str],
    ) -> Result<Vec<Option<FoundDocument>>, OperationFault> {
        let parts = &self.operations.parts;
        let name = &parts.index_names[usize::from(index.0)];
        let mut attempts = 0;
        loop {
            match lookup::documents(&parts.elasticsearch, name, ids).await {
                Err(LookupError::Unavailable(reason)) => {
                    attempts += 1;
                    let note = format!("Elasticsearch: {reason}");
                    operation::note_wait(&parts.session, self.operation, &note).await?;
                    sleep(AGAIN.delay(attempts, fastrand::f64())).await;
                }
                result => return Ok(result?),
            }
        }
    }

    fn difference(
        &self,
        wanted: &WantedDocument,
        found: Option<FoundDocument>,
    ) -> Option<Difference> {
        let WantedDocument { source, key, id, body } = wanted;
        let (kind, fields) = match (body, &found) {
            (WantedBody::Unknown, _) | (WantedBody::Absent, None) => return None,
            (WantedBody::Absent, Some(_)) => (DifferenceKind::Orphaned, Vec::new()),
            (WantedBody::Json(_), None) => (DifferenceKind::Missing, Vec::new()),
            (WantedBody::Json(json), Some(found)) => {
                (DifferenceKind::Stale, stale_fields(json, found.source.get())?)
            }
        };
        let wanted = match body {
            WantedBody::Json(json) => {
                Some(std::hash::BuildHasher::hash_one(&self.hasher, json.as_slice()))
            }
            _ => None,
        };
        let look = Look { wanted, found: found.map(|found| found.written) };
        let subject = DocumentSubject { source: *source, id: Arc::clone(id), key: key.clone() };
        Some(Difference { subject, kind, fields, look })
    }
}

/// The fields that differ; `None` if the document is as the row gives it, in one of the two ways in
/// which it may have been written.
fn stale_fields(wanted: &[u8], found: &str) -> Option<Vec<String>> {
    let fields = |json: &[u8]| differing_fields(&String::from_utf8_lossy(json), found);
    let differing = Some(fields(wanted)).filter(|fields| !fields.is_empty())?;
    match plain::readable(wanted) {
        Some(escaped) if fields(&escaped).is_empty() => None,
        _ => Some(differing),
    }
}

/// Parts of documents that one request may ask for.
fn parts(documents: &[WantedDocument]) -> Vec<&[WantedDocument]> {
    let mut parts = Vec::new();
    let mut rest = documents;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(DOCUMENTS_MAX).take_while(|document| {
            bytes += match &document.body {
                WantedBody::Json(json) => json.len(),
                _ => 0,
            };
            bytes <= DOCUMENT_BYTES_MAX
        });
        let (part, more) = rest.split_at(fits.count().max(1));
        parts.push(part);
        rest = more;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_may_be_written_in_either_way() {
        let long = format!(r#"{{"n":{},"s":"x"}}"#, "1".repeat(1001));
        let escaped = format!(r#"{{"s":"x","n":"{}"}}"#, "1".repeat(1001));
        assert_eq!(stale_fields(long.as_bytes(), &escaped), None);
        assert_eq!(stale_fields(long.as_bytes(), &long), None);
        let other = escaped.replace('x', "y");
        assert_eq!(stale_fields(long.as_bytes(), &other), Some(vec!["n".into(), "s".into()]));
    }

    #[test]
    fn parts_are_bounded_and_never_empty() {
        let document = |bytes: usize| WantedDocument {
            source: SourceId { index: IndexId(0), number: 0 },
            key: None,
            id: "a".into(),
            body: WantedBody::Json(vec![b' '; bytes]),
        };
        let documents: Vec<WantedDocument> =
            [9 << 20, 4 << 20, 4 << 20, 1].into_iter().map(document).collect();
        let sizes: Vec<usize> = parts(&documents).iter().map(|part| part.len()).collect();
        assert_eq!(sizes, [1, 2, 1]);
        assert!(parts(&[]).is_empty());
    }
}
