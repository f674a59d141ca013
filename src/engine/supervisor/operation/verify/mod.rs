//! Compares documents with the rows that give them: first the rows in the order of their key, then
//! the ids of the indices, of which those without a row are orphans.
//!
//! What differs is only a suspect. Once all that had committed by then is settled, it is examined
//! again; it counts once it has looked the same at three such looks. So what changes meanwhile is no
//! finding. What is counted is stored with the key up to which all is compared, and then rendered
//! anew where that was asked for: a crash in between costs neither a count nor a repair.
//!
//! Not here: one look (`examine`), rendering anew (`repair`), where it is stored
//! (`storage::verification`).

mod examine;
mod repair;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_postgres::Client;

use self::examine::{Difference, DocumentSubject, Examiner};
use super::keys::without_rows;
use super::{OperationFault, Operations};
use crate::change::TableId;
use crate::engine::document::definition::SourceId;
use crate::engine::feed::render::read::RowReader;
use crate::engine::feed::render::wanted::WantedDocuments;
use crate::engine::sink::listing::{self, Listing, ListingError};
use crate::engine::sink::lookup::{self, LookupError};
use crate::postgres;
use crate::postgres::error::sentence;
use crate::storage::operation::BegunOperation;
use crate::storage::verification::{
    DifferenceKind, DocumentDifference, NamedDocument, VerifyProgress, save,
};

/// Rows of one look, and of one chunk of a repair.
const ROWS_MAX: usize = 500;
/// Looks at new rows before what differs is examined again.
const LOOKS_MAX: usize = 8;
/// Suspects that are examined again at once.
const SUSPECTS_MAX: usize = 1000;
/// Times that a suspect must look the same after the first look.
const CONFIRMED_AFTER: u32 = 2;
/// Looks after which a suspect that always looks different is left undecided.
const ROUNDS_MAX: u32 = 12;
/// Ids of one look at a listing.
const IDS_MAX: usize = 1000;

/// One verification.
pub(super) struct TableVerification<'a> {
    operations: &'a Operations,
    begun: &'a BegunOperation,
    table: TableId,
    /// The sources that are compared.
    sources: Vec<SourceId>,
    examiner: Examiner<'a>,
    /// For keys.
    client: Client,
    progress: VerifyProgress,
}

impl Operations {
    /// Compares all that the operation names, and stores what it finds.
    pub(super) async fn verify(&self, begun: &BegunOperation) -> Result<(), OperationFault> {
        let table = self.table(&begun.table)?;
        let client = self.own_session("verify").await?;
        let mut reader =
            RowReader::new(self.own_session("compare").await?.into(), self.parts.shapes.clone());
        reader.limit_rows(self.parts.row_bytes_max);
        let definition = &self.parts.definition;
        let wanted =
            WantedDocuments::new(Arc::clone(definition), self.parts.shapes.clone(), reader);
        let name = |source: &SourceId| &definition.indices[usize::from(source.index.0)].name;
        let is_meant =
            |source: &SourceId| begun.index.as_ref().is_none_or(|index| index == name(source));
        let sources: Vec<SourceId> =
            definition.sources_of(table).into_iter().filter(is_meant).collect();
        if sources.is_empty() {
            let index = begun.index.as_deref().unwrap_or_default();
            return Err(OperationFault::Refused(format!(
                "index {index} shows no row of table {} in the definition of the running walferry",
                begun.table
            )));
        }
        let examiner = Examiner::new(self, begun.id, table, sources.clone(), wanted);
        let progress = begun.progress.clone();
        let verification = TableVerification {
            operations: self,
            begun,
            table,
            sources,
            examiner,
            client,
            progress,
        };
        verification.run().await
    }

    pub(super) async fn own_session(&self, purpose: &str) -> Result<Client, OperationFault> {
        let name = self.parts.lease.application_name(purpose);
        let session = postgres::connect(&self.parts.database, &name).await;
        session.map(|session| session.client).map_err(|e| OperationFault::Passing(sentence(&e)))
    }
}

impl TableVerification<'_> {
    async fn run(mut self) -> Result<(), OperationFault> {
        self.repair().await?;
        if !self.progress.walk.is_listing {
            match &self.begun.keys {
                Some(keys) => self.compare_keys(keys).await?,
                None => self.compare_rows().await?,
            }
        }
        self.progress.listing_begins();
        self.save(false).await?;
        let sources = self.sources.clone();
        for source in sources {
            self.compare_ids(source).await?;
        }
        self.save(true).await
    }

    async fn save(&self, is_done: bool) -> Result<(), OperationFault> {
        let parts = &self.operations.parts;
        let _storing = self.operations.storing.lock().await;
        Ok(save(&parts.session, &parts.lease, self.begun.id, &self.progress, is_done).await?)
    }

    /// The rows after the last key, to the end of the table.
    async fn compare_rows(&mut self) -> Result<(), OperationFault> {
        let mut after = self.progress.last_key.clone();
        let mut suspects = Vec::new();
        let mut looks = 0;
        loop {
            let seen = self.examiner.rows_after(after.as_deref(), ROWS_MAX).await?;
            // What is inserted behind the end meanwhile is not chased.
            let is_end = seen.row_count < ROWS_MAX;
            self.progress.row_count += seen.row_count as u64;
            self.progress.document_count += seen.document_count;
            self.progress.counts.undecided += seen.undecided_count;
            suspects.extend(seen.differences);
            looks += 1;
            if let Some(last_key) = seen.last_key {
                after = Some(last_key);
            }
            if is_end || looks == LOOKS_MAX || suspects.len() > SUSPECTS_MAX {
                self.progress.last_key.clone_from(&after);
                self.conclude(std::mem::take(&mut suspects)).await?;
                looks = 0;
            }
            if is_end {
                return Ok(());
            }
        }
    }

    /// The rows of a list, from where it was left.
    async fn compare_keys(&mut self, keys: &[Vec<String>]) -> Result<(), OperationFault> {
        let done = usize::try_from(self.progress.row_count).unwrap_or(usize::MAX);
        for chunk in keys.get(done..).unwrap_or_default().chunks(ROWS_MAX) {
            let seen = self.examiner.rows_of(chunk).await?;
            self.progress.row_count += chunk.len() as u64;
            self.progress.document_count += seen.document_count;
            self.progress.counts.undecided += seen.undecided_count;
            self.conclude(seen.differences).await?;
        }
        Ok(())
    }

    /// The ids of a source's index, all or a sample.
    async fn compare_ids(&mut self, source: SourceId) -> Result<(), OperationFault> {
        let parts = &self.operations.parts;
        let index = parts.index_names[usize::from(source.index.0)].clone();
        let elasticsearch = Arc::clone(&parts.elasticsearch);
        if let Some(keys) = &self.begun.keys {
            let size = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            let ids = lookup::sample(&elasticsearch, &index, size).await?;
            for page in ids.chunks(IDS_MAX) {
                let suspects = self.without_rows(source, page).await?;
                self.conclude(suspects).await?;
            }
            return Ok(());
        }
        let (pages, mut received) = mpsc::channel(1);
        let listing =
            Listing { index: source.index, filter: None, pages, attempts: 0, is_probe: false };
        let list = async move {
            let listed = listing::list(&elasticsearch, &index, &listing).await;
            drop(listing);
            listed.map_err(OperationFault::from)
        };
        let read = async {
            let mut suspects = Vec::new();
            while let Some(Ok(ids)) = received.recv().await {
                suspects.extend(self.without_rows(source, &ids).await?);
                if suspects.len() > SUSPECTS_MAX {
                    self.conclude(std::mem::take(&mut suspects)).await?;
                }
            }
            self.conclude(suspects).await
        };
        tokio::try_join!(list, read).map(drop)
    }

    /// Documents of a source whose rows are not there.
    async fn without_rows(
        &mut self,
        source: SourceId,
        ids: &[String],
    ) -> Result<Vec<Difference>, OperationFault> {
        let parts = &self.operations.parts;
        let definition = &parts.definition;
        let shape = parts.shapes.of(self.table);
        let index = &definition.indices[usize::from(source.index.0)];
        let mut subjects = Vec::new();
        let mut keys = Vec::new();
        let mut keyed = Vec::new();
        for id in ids {
            let subject = |key| DocumentSubject { source, id: id.as_str().into(), key };
            let Some(text) = definition.key_of(source, id) else {
                // An id that no source has is a matter of the first one.
                let is_claimed = index.sources.iter().any(|s| id.starts_with(&s.id_prefix));
                if source.number == 0 && !is_claimed {
                    subjects.push(subject(None));
                }
                continue;
            };
            let key = shape.split_key(text);
            if key.len() == shape.key.len() {
                keys.push(key);
                keyed.push(id);
            } else {
                subjects.push(subject(None));
            }
        }
        let absent = without_rows(&self.client, shape, &keys).await?;
        let subject = |number: &usize, key| DocumentSubject {
            source,
            id: keyed[*number].as_str().into(),
            key,
        };
        subjects.extend(absent.impossible.iter().map(|number| subject(number, None)));
        subjects.extend(absent.gone.iter().map(|n| subject(n, Some(keys[*n].clone()))));
        self.examiner.subjects(subjects).await
    }

    /// Examines suspects again, counts and stores what differs, and renders it anew.
    async fn conclude(&mut self, suspects: Vec<Difference>) -> Result<(), OperationFault> {
        let (confirmed, undecided) = self.confirm(suspects).await?;
        self.progress.counts.undecided += undecided;
        let is_listing = self.progress.walk.is_listing;
        for Difference { subject, kind, fields, .. } in confirmed {
            if is_listing && kind != DifferenceKind::Orphaned {
                continue; // a row that is new since the rows were compared
            }
            let DocumentSubject { source, id, key } = subject;
            let index = self.index_name(source.index);
            let id = id.to_string();
            if self.begun.is_repair {
                let index = index.clone();
                let id = id.clone();
                self.progress.walk.repairing.push(NamedDocument { index, id, key });
            }
            let listed = is_listing;
            self.progress.add(DocumentDifference {
                index,
                id,
                kind,
                fields,
                repaired: false,
                listed,
            });
        }
        self.save(false).await?;
        self.repair().await
    }

    /// The suspects that look the same again and again while all that committed before is settled,
    /// and the number of those that never did.
    async fn confirm(
        &mut self,
        suspects: Vec<Difference>,
    ) -> Result<(Vec<Difference>, u64), OperationFault> {
        let mut confirmed = Vec::new();
        let mut open: HashMap<DocumentSubject, (Difference, u32)> =
            suspects.into_iter().map(|d| (d.subject.clone(), (d, 0))).collect();
        for _ in 0..ROUNDS_MAX {
            if open.is_empty() {
                break;
            }
            let parts = &self.operations.parts;
            parts.seen.all_settled(&parts.session, self.begun.id).await?;
            let subjects = open.keys().cloned().collect();
            let mut before = std::mem::take(&mut open);
            for difference in self.examiner.subjects(subjects).await? {
                let Some((last, times)) = before.remove(&difference.subject) else { continue };
                let times = if last.look == difference.look { times + 1 } else { 0 };
                if times == CONFIRMED_AFTER {
                    confirmed.push(difference);
                } else {
                    open.insert(difference.subject.clone(), (difference, times));
                }
            }
        }
        confirmed.sort_by(|a, b| a.subject.cmp(&b.subject));
        Ok((confirmed, open.len() as u64))
    }
}

impl From<LookupError> for OperationFault {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Refused { .. } => Self::Refused(sentence(&error)),
            LookupError::Unavailable(_) => Self::Passing(sentence(&error)),
        }
    }
}

impl From<ListingError> for OperationFault {
    fn from(error: ListingError) -> Self {
        match error {
            ListingError::Unavailable => Self::Passing(sentence(&error)),
            _ => Self::Refused(sentence(&error)),
        }
    }
}
