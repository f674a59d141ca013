//! The read-ahead LSN in the database: up to it, documents may have been rendered from reads.
//!
//! It is stored before an action that a read rendered is sent, so that a process that starts after
//! a crash knows of every such document.

use std::sync::Arc;

use tokio_postgres::Client;

use crate::change::Lsn;
use crate::storage::QueueError;
use crate::storage::lease::Lease;
use crate::storage::position;
use crate::telemetry::waits::{WaitName, Waits};

/// The LSN is stored this far past the snapshot, so that it is stored rarely.
const SNAPSHOT_LSN_STEP: u64 = 4 << 20;

/// The stored read-ahead LSN, and the session that raises it.
pub struct StoredReadAhead {
    session: Arc<Client>,
    lease: Lease,
    lsn: Lsn,
    waits: Waits,
}

impl StoredReadAhead {
    /// `lsn` is the LSN that is stored now.
    #[must_use]
    pub fn new(session: Arc<Client>, lease: Lease, lsn: Lsn, waits: Waits) -> Self {
        Self { session, lease, lsn, waits }
    }

    /// The LSN that is stored now.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Stores that documents are rendered from a read with this snapshot LSN.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn raise(&mut self, snapshot_lsn: Lsn) -> Result<(), QueueError> {
        if snapshot_lsn > self.lsn {
            let ahead = Lsn(snapshot_lsn.0 + SNAPSHOT_LSN_STEP);
            let raise = position::raise_read_ahead(&self.session, &self.lease, ahead);
            self.waits.during(WaitName::Progress, raise).await?;
            self.lsn = ahead;
        }
        Ok(())
    }
}
