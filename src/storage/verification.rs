//! How far a verification has come, and what it has found.
//!
//! Not here: comparing (`engine::supervisor::operation::verify`), and the other columns of an
//! operation (`operation`).

use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::lease::Lease;
use super::leased_transaction::LeasedTransaction;
use super::sql::{bigint, count};
use super::{QueueError, doing};

const SAVE: &str = include_str!("operation_save.sql");

/// Findings that are listed; all are counted.
const FINDINGS_MAX: usize = 1000;
/// Fields that a finding lists.
const FIELDS_MAX: usize = 20;

/// How a document differs from its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// The row gives a document that is not there.
    Missing,
    /// The document is not the one that the row gives.
    Stale,
    /// No row gives the document.
    Orphaned,
}

impl DifferenceKind {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Orphaned => "orphaned",
        }
    }
}

/// A document that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentDifference {
    pub index: String,
    pub id: String,
    pub kind: DifferenceKind,
    /// The fields of a stale document that are not as they should be, without their values.
    pub fields: Vec<String>,
    /// It was rendered anew, and is right since.
    pub repaired: bool,
    /// It was found in the listing of the index.
    #[serde(default)]
    pub listed: bool,
}

/// Numbers of documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DifferenceCounts {
    pub missing: u64,
    pub stale: u64,
    pub orphaned: u64,
    /// Of all these, right since.
    pub repaired: u64,
    /// Not compared: they changed at each look, or their rows are too large.
    pub undecided: u64,
}

impl DifferenceCounts {
    /// All that differ, repaired or not.
    #[must_use]
    pub const fn found(&self) -> u64 {
        self.missing + self.stale + self.orphaned
    }

    /// Reads the columns of an operation.
    pub(super) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let column = |name| row.try_get::<_, i64>(name).map(count);
        Ok(Self {
            missing: column("missing_count")?,
            stale: column("stale_count")?,
            orphaned: column("orphan_count")?,
            repaired: column("repaired_count")?,
            undecided: column("undecided_count")?,
        })
    }
}

/// A document to be rendered anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamedDocument {
    /// The name of its index in the definition.
    pub index: String,
    pub id: String,
    /// The key of its row; `None` where no row can have a document of this id.
    pub key: Option<Vec<String>>,
}

/// Where a verification is, beside the last key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyWalk {
    /// The rows are done: the indices are listed for documents that no row gives.
    pub is_listing: bool,
    /// Such documents that the listing has found and that are still there. A listing that begins
    /// anew finds them again.
    pub listed_orphans: u64,
    /// Documents that are counted, and that are being rendered anew.
    pub repairing: Vec<NamedDocument>,
}

/// The stored state of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// The last key of which all is compared.
    pub last_key: Option<Vec<String>>,
    pub row_count: u64,
    pub document_count: u64,
    pub counts: DifferenceCounts,
    pub findings: Vec<DocumentDifference>,
    pub walk: VerifyWalk,
}

impl VerifyProgress {
    /// Counts a document that differs, and lists it while there is room.
    pub fn add(&mut self, mut finding: DocumentDifference) {
        match finding.kind {
            DifferenceKind::Missing => self.counts.missing += 1,
            DifferenceKind::Stale => self.counts.stale += 1,
            DifferenceKind::Orphaned => self.counts.orphaned += 1,
        }
        self.walk.listed_orphans += u64::from(finding.listed);
        if self.findings.len() < FINDINGS_MAX {
            finding.fields.truncate(FIELDS_MAX);
            self.findings.push(finding);
        }
    }

    /// Notes that what was being rendered anew is right, but for `left`.
    pub fn repaired(&mut self, left: &[NamedDocument]) {
        let repaired = std::mem::take(&mut self.walk.repairing);
        let repaired = repaired.into_iter().filter(|document| !left.contains(document));
        for document in repaired {
            self.counts.repaired += 1;
            if self.walk.is_listing {
                self.walk.listed_orphans = self.walk.listed_orphans.saturating_sub(1);
            }
            let is_same =
                |f: &&mut DocumentDifference| f.index == document.index && f.id == document.id;
            if let Some(finding) = self.findings.iter_mut().find(is_same) {
                finding.repaired = true;
            }
        }
    }

    /// Forgets what a listing has found that has not come to its end, but for what it has repaired.
    pub fn listing_begins(&mut self) {
        self.walk.is_listing = true;
        self.counts.orphaned -= self.walk.listed_orphans.min(self.counts.orphaned);
        self.walk.listed_orphans = 0;
        self.findings.retain(|finding| finding.repaired || !finding.listed);
    }

    /// Reads the columns of an operation.
    pub(super) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        // All JSON was written by walferry, so it reads.
        let last_key: Option<String> = row.try_get("last_key")?;
        let findings: String = row.try_get("findings")?;
        let walk: Option<String> = row.try_get("walk")?;
        Ok(Self {
            last_key: last_key.and_then(|key| serde_json::from_str(&key).ok()),
            row_count: count(row.try_get("row_count")?),
            document_count: count(row.try_get("document_count")?),
            counts: DifferenceCounts::read(row)?,
            findings: serde_json::from_str(&findings).unwrap_or_default(),
            walk: walk.and_then(|walk| serde_json::from_str(&walk).ok()).unwrap_or_default(),
        })
    }
}

/// Stores the progress of an operation; with `is_done` it is completed.
///
/// # Errors
/// [`QueueError::LeaseLost`], [`QueueError::Database`].
pub async fn save(
    client: &Client,
    lease: &Lease,
    id: i64,
    progress: &VerifyProgress,
    is_done: bool,
) -> Result<(), QueueError> {
    let doing = doing("store the progress of an operation");
    let VerifyProgress { last_key, row_count, document_count, counts, findings, walk } = progress;
    let last_key = last_key.as_ref().map(ascii);
    let numbers = [
        *row_count,
        *document_count,
        counts.missing,
        counts.stale,
        counts.orphaned,
        counts.repaired,
        counts.undecided,
    ]
    .map(bigint);
    let [rows, documents, missing, stale, orphaned, repaired, undecided] = &numbers;
    let findings = ascii(findings);
    let walk = ascii(walk);
    let parameters: [&(dyn ToSql + Sync); 13] = [
        &lease.slot,
        &id,
        &last_key,
        rows,
        documents,
        missing,
        stale,
        orphaned,
        repaired,
        undecided,
        &findings,
        &walk,
        &is_done,
    ];
    let save = async { client.execute(SAVE, &parameters).await.map_err(doing) };
    LeasedTransaction::prepare(client, lease).await?.run(client, save).await.map(drop)
}

/// JSON that a database of any encoding can store.
fn ascii<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut stored = String::with_capacity(json.len());
    let mut units = [0; 2];
    for character in json.chars() {
        if character.is_ascii() {
            stored.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut units) {
            stored.push_str(&format!("\\u{unit:04x}"));
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &str, kind: DifferenceKind, listed: bool) -> DocumentDifference {
        let index = "i".to_owned();
        let id = id.to_owned();
        DocumentDifference { index, id, kind, fields: Vec::new(), repaired: false, listed }
    }

    fn named(id: &str) -> NamedDocument {
        NamedDocument { index: "i".to_owned(), id: id.to_owned(), key: None }
    }

    #[test]
    fn a_listing_that_begins_anew_counts_each_document_once() {
        let mut progress = VerifyProgress::default();
        progress.add(finding("a", DifferenceKind::Orphaned, false));
        progress.listing_begins();
        for id in ["b", "c"] {
            progress.add(finding(id, DifferenceKind::Orphaned, true));
        }
        assert_eq!(progress.counts.orphaned, 3);
        progress.listing_begins();
        assert_eq!(progress.counts.orphaned, 1);
        assert_eq!(progress.findings, [finding("a", DifferenceKind::Orphaned, false)]);
    }

    #[test]
    fn what_is_repaired_stays_counted_when_the_listing_begins_anew() {
        let mut progress = VerifyProgress::default();
        progress.listing_begins();
        progress.add(finding("a", DifferenceKind::Orphaned, true));
        progress.add(finding("b", DifferenceKind::Orphaned, true));
        progress.walk.repairing = vec![named("a"), named("b")];
        progress.repaired(&[named("b")]);
        assert_eq!((progress.counts.orphaned, progress.counts.repaired), (2, 1));
        progress.listing_begins();
        assert_eq!((progress.counts.orphaned, progress.counts.repaired), (1, 1));
    }

    #[test]
    fn what_is_stored_is_ascii_and_reads_as_it_was() {
        let stored = ascii(&"İ😀\"é");
        assert!(stored.is_ascii(), "{stored}");
        assert_eq!(serde_json::from_str::<String>(&stored).unwrap(), "İ😀\"é");
    }

    #[test]
    fn all_are_counted_and_the_first_are_listed() {
        let mut progress = VerifyProgress::default();
        for n in 0..=FINDINGS_MAX {
            progress.add(finding(&n.to_string(), DifferenceKind::Missing, false));
        }
        assert_eq!(progress.counts.found(), 1001);
        assert_eq!(progress.findings.len(), FINDINGS_MAX);
    }
}
