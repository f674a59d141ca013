//! The states of a job and the moves between them.
//!
//! ```text
//! (recorded) ──► pending ◄───► processing ───► completed
//!                   ▲              │
//!                   │              ▼
//!                   └─────────── failed
//! ```
//!
//! | move | made by |
//! | --- | --- |
//! | pending → processing | a claim |
//! | processing → completed, pending, failed | a settlement, or a rescue; the start of a run: → pending |
//! | failed → pending | an operator's retry |
//! | pending → failed | a claim, where the definition does not have the job's table |
//! | pending, processing → completed | a rebuild: the new load does the work of unfinished jobs |
//!
//! A job that is handed over at once is recorded as `processing`. A row of the first load has a job
//! only where its document was refused (it is recorded as `failed`) or waits for an index (`pending`).
//!
//! Not here: the statements that make the moves. Each names its own in a comment.

/// The `status` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// To be done, or to be tried again.
    Pending,
    /// Handed to the feed, or sent.
    Processing,
    /// The document, or a newer state of it, is in Elasticsearch.
    Completed,
    /// Out of attempts, with its error: a dead letter.
    Failed,
}

impl Status {
    /// In the order of the table's check.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Processing, Self::Completed, Self::Failed];

    /// The word in the table and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The status of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether a job may move from this status to `next`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => matches!(next, Self::Processing | Self::Completed | Self::Failed),
            Self::Processing => matches!(next, Self::Completed | Self::Pending | Self::Failed),
            Self::Failed => matches!(next, Self::Pending), // an operator asked for it
            Self::Completed => false,
        }
    }

    /// Whether a job may have this status from the beginning.
    #[must_use]
    pub const fn may_begin(self) -> bool {
        matches!(self, Self::Pending | Self::Processing | Self::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drawn_moves_are_legal() {
        let legal: Vec<(&str, &str)> = Status::ALL
            .into_iter()
            .flat_map(|from| Status::ALL.map(|to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .map(|(from, to)| (from.as_str(), to.as_str()))
            .collect();
        let drawn = [
            ("pending", "processing"),
            ("pending", "completed"),
            ("pending", "failed"),
            ("processing", "pending"),
            ("processing", "completed"),
            ("processing", "failed"),
            ("failed", "pending"),
        ];
        assert_eq!(legal, drawn);
    }

    #[test]
    fn the_migration_checks_for_the_same_words() {
        let words = Status::ALL.map(|status| format!("'{}'", status.as_str())).join(", ");
        let check = format!("check (status in ({words}))");
        assert!(
            include_str!("../../../migrations/0001_sync_queue.sql").contains(&check),
            "{check}"
        );
    }

    #[test]
    fn a_word_is_its_status() {
        for status in Status::ALL {
            assert_eq!(Status::from_word(status.as_str()), Some(status));
        }
        assert_eq!(Status::from_word("done"), None);
    }
}
