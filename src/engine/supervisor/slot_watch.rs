//! What the supervisor queries every second: the server's WAL, the slot, what the stream is made of,
//! and whether commits wait for it.
//!
//! The session only reads. A session that writes would wait for a synchronous standby, and this is
//! how it is noticed that walferry is one.
//!
//! Not here: what follows from it (`retention_guard`), and the metrics (`reporter`).

use std::sync::Arc;
use std::time::SystemTime;

use tokio_postgres::Client;

use super::SupervisorError;
use crate::postgres::catalog;
use crate::postgres::catalog::slot::ReplicationSlot;
use crate::postgres::catalog::standby;
use crate::storage::lease::Lease;
use crate::storage::source_identity::{Source, SourceError};
use crate::telemetry::metrics::slot::SlotStatistics;

const WAL_END: &str = "select pg_catalog.pg_wal_lsn_diff(
    pg_catalog.pg_current_wal_flush_lsn(), '0/0')::bigint as wal_end";

/// The purpose of the session that streams, in its application name.
pub const STREAM: &str = "stream";

/// One sample. A missing privilege costs the figure, not the run.
#[derive(Clone, Debug)]
pub struct SlotSample {
    /// When the server was asked.
    pub at: SystemTime,
    /// The flushed end of the server's WAL.
    pub wal_end: Option<u64>,
    pub slot: Option<SlotStatistics>,
}

/// Queries the slot of the run.
pub struct SlotWatch {
    session: Arc<Client>,
    lease: Lease,
    source: Source,
    /// The server has refused a query, which was logged.
    refusal_logged: bool,
}

impl SlotWatch {
    /// Watches the slot of this lease, and the tables and the publication of its stream.
    #[must_use]
    pub fn new(session: Arc<Client>, lease: Lease, source: Source) -> Self {
        Self { session, lease, source, refusal_logged: false }
    }

    /// Samples the server and the slot.
    ///
    /// # Errors
    /// [`SupervisorError::Retained`] for any error but a missing privilege.
    pub async fn sample(&mut self) -> Result<SlotSample, SupervisorError> {
        let at = SystemTime::now();
        let wal_end = self.session.query_one(WAL_END, &[]);
        let slot = catalog::slot::inspect(&self.session, &self.lease.slot);
        let (wal_end, slot) = tokio::join!(wal_end, slot);
        let wal_end = self.permitted(wal_end)?.map(|row| unsigned(row.get("wal_end")));
        let slot = self.permitted(slot)?.map(|slot| slot.map(statistics).unwrap_or_default());
        Ok(SlotSample { at, wal_end, slot })
    }

    /// Verifies that no commit waits for walferry.
    ///
    /// # Errors
    /// [`SupervisorError::Standby`]; [`SupervisorError::Retained`] as [`SlotWatch::sample`].
    pub async fn verify_asynchronous(&mut self) -> Result<(), SupervisorError> {
        let own_sender = self.lease.application_name(STREAM);
        let found = standby::inspect(&self.session, &own_sender).await;
        match self.permitted(found)? {
            Some(found) => Ok(found.verify()?),
            None => Ok(()),
        }
    }

    /// Verifies that the tables and the publication are those that the stream began with.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn verify_source(&self) -> Result<(), SourceError> {
        self.source.verify(&self.session).await
    }

    /// `None` where the server refuses a query for want of a privilege.
    fn permitted<T>(
        &mut self,
        answer: Result<T, tokio_postgres::Error>,
    ) -> Result<Option<T>, SupervisorError> {
        let error = match answer {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => error,
        };
        if error.as_db_error().is_none_or(|error| error.code().code() != "42501") {
            return Err(SupervisorError::Retained(error));
        }
        if !std::mem::replace(&mut self.refusal_logged, true) {
            tracing::warn!(
                event = "slot_statistics_refused",
                error = crate::postgres::error::sentence(&error),
                "the slot's figures are not to be had; grant select on \
                 pg_catalog.pg_replication_slots and pg_catalog.pg_stat_replication_slots to \
                 walferry's role"
            );
        }
        Ok(None)
    }
}

fn statistics(slot: ReplicationSlot) -> SlotStatistics {
    SlotStatistics {
        active: slot.is_active,
        wal_status: slot.wal_status,
        safe_bytes: slot.safe_wal_size,
        retained_bytes: slot.retained_bytes,
        unconfirmed_bytes: slot.unconfirmed_bytes,
    }
}

fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}
