//! What the supervisor queries every second: the server's WAL, the slot, and what the stream is
//! made of.
//!
//! Not here: what follows from it (`retention_guard`), and the metrics (`reporter`).

use std::sync::Arc;
use std::time::SystemTime;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::SupervisorError;
use crate::storage::source_identity::{Source, SourceError};
use crate::telemetry::metrics::slot::Figures;

const WAL_END: &str = "select pg_catalog.pg_wal_lsn_diff(
    pg_catalog.pg_current_wal_flush_lsn(), '0/0')::bigint as wal_end";

const SLOT: &str = "select s.active, s.wal_status, s.safe_wal_size,
           pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::bigint
               as retained_bytes,
           pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.confirmed_flush_lsn)::bigint
               as unconfirmed_bytes
    from pg_catalog.pg_replication_slots s where s.slot_name = $1";

/// One sample. A missing privilege costs the figure, not the run.
#[derive(Clone, Debug)]
pub struct SlotSample {
    /// When the server was asked.
    pub at: SystemTime,
    /// The flushed end of the server's WAL.
    pub wal_end: Option<u64>,
    pub slot: Option<Figures>,
}

/// Queries the slot of the run.
pub struct SlotWatch {
    session: Arc<Client>,
    slot: String,
    source: Source,
    /// The server has refused a query, which was logged.
    refusal_logged: bool,
}

impl SlotWatch {
    /// Watches this slot, and the tables and the publication of its stream.
    #[must_use]
    pub fn new(session: Arc<Client>, slot: String, source: Source) -> Self {
        Self { session, slot, source, refusal_logged: false }
    }

    /// Samples the server and the slot.
    ///
    /// # Errors
    /// [`SupervisorError::Retained`] for any error but a missing privilege.
    pub async fn sample(&mut self) -> Result<SlotSample, SupervisorError> {
        let at = SystemTime::now();
        let wal_end = self.session.query_one(WAL_END, &[]);
        let name: [&(dyn ToSql + Sync); 1] = [&self.slot];
        let (wal_end, slot) = tokio::join!(wal_end, self.session.query_opt(SLOT, &name));
        let wal_end = self.permitted(wal_end)?.map(|row| unsigned(row.get("wal_end")));
        let slot = self.permitted(slot)?.map(|row| row.as_ref().map(figures).unwrap_or_default());
        Ok(SlotSample { at, wal_end, slot })
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
                error = crate::postgres::fault::sentence(&error),
                "the slot's figures are not to be had; grant select on \
                 pg_catalog.pg_replication_slots and pg_catalog.pg_stat_replication_slots to \
                 walferry's role"
            );
        }
        Ok(None)
    }
}

fn figures(row: &Row) -> Figures {
    Figures {
        active: row.get("active"),
        wal_status: row.get("wal_status"),
        safe_bytes: row.get("safe_wal_size"),
        retained_bytes: unsigned(row.get::<_, Option<i64>>("retained_bytes").unwrap_or(0)),
        unconfirmed_bytes: unsigned(row.get::<_, Option<i64>>("unconfirmed_bytes").unwrap_or(0)),
    }
}

fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}
