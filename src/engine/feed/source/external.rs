//! The position of jobs that the stream did not deliver.
//!
//! A row that an operator made `pending`, or that another program inserted, has no position in the
//! stream. It gets the insert LSN of a moment just now, if every transaction from before that
//! moment has ended: everything that committed before it is in the read, and everything that
//! commits after it has a higher version. So a document that was edited by hand, which raised its
//! version by one, is repaired. While a long transaction is running such rows wait, a minute at
//! most. Then they get the position of the last change that the feed worked on; the read shows its
//! transaction as a whole, hence the highest ordinal.
//!
//! Not here: claiming such rows (`storage::queue::claim`), and when (`due`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::moment::EndingMoment;
use crate::change::Position;
use crate::engine::feed::render::read::ReadError;
use crate::telemetry::waits::{WaitGuard, WaitName, Waits};

/// Attempts to see the end of all transactions from before a moment; while a long one is running
/// there is none to be seen.
const ATTEMPTS_MAX: u32 = 3;
const ATTEMPT_AGAIN: Duration = Duration::from_millis(10);
/// Jobs without a position wait this long for the end of a long transaction.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Assigns positions to jobs that have none. A position that it assigns is never lower than one
/// that it assigned before.
pub struct ExternalPosition {
    session: Arc<Client>,
    assigned: AssignedPosition,
    waits: Waits,
    /// Held while jobs wait for a position.
    waiting: Option<WaitGuard>,
}

impl ExternalPosition {
    /// `recorded` is the position of the last change that earlier runs recorded.
    #[must_use]
    pub fn new(session: Arc<Client>, recorded: Position, waits: Waits) -> Self {
        Self { session, assigned: AssignedPosition::new(recorded), waits, waiting: None }
    }

    /// The position that was assigned last.
    #[must_use]
    pub fn assigned(&self) -> Position {
        self.assigned.position()
    }

    /// No job waits for a position.
    pub fn none_waits(&mut self) {
        self.assigned.none_waits();
        self.waiting = None;
    }

    /// Assigns the position for the jobs that wait now; false if they must go on waiting.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn assign(&mut self, last_fed_position: Position) -> Result<bool, ReadError> {
        let current = self.current_position().await?;
        let is_assigned = self.assigned.assign(current, last_fed_position, Instant::now());
        if is_assigned {
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.waiting = Some(self.waits.begin(WaitName::ExternalPosition));
        }
        Ok(is_assigned)
    }

    /// The insert LSN of now, if every transaction that may have committed before it has ended.
    async fn current_position(&self) -> Result<Option<Position>, ReadError> {
        let moment = EndingMoment::now(&self.session).await?;
        for _ in 0..ATTEMPTS_MAX {
            if moment.is_settled(&self.session).await? {
                return Ok(Some(Position { commit_lsn: moment.lsn, ordinal: 0 }));
            }
            tokio::time::sleep(ATTEMPT_AGAIN).await;
        }
        Ok(None)
    }
}

/// The position that was assigned last. Pure; the caller supplies the time.
#[derive(Clone, Copy, Debug)]
pub struct AssignedPosition {
    position: Position,
    /// Since when no position could be assigned.
    waiting_since: Option<Instant>,
}

impl AssignedPosition {
    /// `recorded` is the position of the last change that earlier runs recorded.
    #[must_use]
    pub fn new(recorded: Position) -> Self {
        Self { position: recorded, waiting_since: None }
    }

    /// The position that was assigned last.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// No job waits for a position.
    pub fn none_waits(&mut self) {
        self.waiting_since = None;
    }

    /// Assigns the current position, or without one after a minute that of the last change fed;
    /// false if jobs must go on waiting.
    pub fn assign(
        &mut self,
        current: Option<Position>,
        last_fed_position: Position,
        now: Instant,
    ) -> bool {
        if let Some(position) = current {
            self.position = self.position.max(position);
            self.waiting_since = None;
            return true;
        }
        let since = *self.waiting_since.get_or_insert_with(|| {
            tracing::debug!(
                event = "unplaced_jobs_wait",
                "jobs without a position in the stream wait for the end of an older transaction"
            );
            now
        });
        if now.saturating_duration_since(since) < WAIT_MAX {
            return false;
        }
        let whole_transaction = Position { ordinal: u64::from(u16::MAX), ..last_fed_position };
        self.position = self.position.max(whole_transaction);
        true
    }
}
