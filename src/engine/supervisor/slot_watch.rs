//! What the supervisor looks at every second: the server's WAL and the slot.
//!
//! Not here: what follows from it (`guard`, and the parent).

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::{Supervisor, SupervisorError};
use crate::postgres::catalog;
use crate::postgres::catalog::slot::ReplicationSlot;
use crate::telemetry::metrics::lag::{Look, Seen, seconds};
use crate::telemetry::metrics::slot::Figures;

const WAL_END: &str = "select pg_catalog.pg_wal_lsn_diff(
    pg_catalog.pg_current_wal_flush_lsn(), '0/0')::bigint as bytes";

impl Supervisor {
    /// Looks at the server and at the slot, and lets the guard know.
    ///
    /// A missing privilege costs the figure, not the run: the guard then goes by what the stream
    /// itself has received.
    pub(super) async fn watch_slot(&mut self) -> Result<(), SupervisorError> {
        let at = seconds(SystemTime::now());
        let end = self.client.query_one(WAL_END, &[]);
        let slot = catalog::slot::inspect(&self.client, &self.lease.slot);
        let (end, slot) = tokio::join!(end, slot);
        match end.map(|row| unsigned(row.get("bytes"))) {
            Ok(wal_end) => self.metrics.pipeline.look(Look { at, wal_end }, self.seen()),
            Err(error) => self.not_permitted(error)?,
        }
        let figures = match slot {
            Ok(Some(found)) => figures(found),
            Ok(None) => Figures::default(),
            Err(error) => {
                self.not_permitted(error)?;
                let seen = self.seen();
                self.observe(seen.received.saturating_sub(seen.settled));
                return Ok(());
            }
        };
        self.metrics.slot.set(&figures);
        self.observe(figures.retained_bytes);
        Ok(())
    }

    /// How far everything has come.
    pub(super) fn see(&self) {
        self.metrics.pipeline.see(SystemTime::now(), self.seen());
        self.metrics.sink.set_load(self.sink.in_flight(), self.sink.waiting());
    }

    fn seen(&self) -> Seen {
        // In this order: what was committed below `received` is in `committed`.
        let received = self.stream.received_lsn.load(Ordering::Acquire);
        Seen {
            received,
            committed: self.stream.committed_lsn.load(Ordering::Acquire),
            settled: self.progress.borrow().settled.0,
        }
    }

    fn observe(&mut self, retained_bytes: u64) {
        let was_on = self.guard.is_on();
        let on = self.guard.observe(retained_bytes);
        if on != was_on {
            tracing::warn!(event = "retention_guard", on, retained_bytes, "retention guard");
        }
    }

    /// Counts a look that the server refused; anything else ends the run.
    fn not_permitted(&mut self, error: tokio_postgres::Error) -> Result<(), SupervisorError> {
        if error.as_db_error().is_none_or(|error| error.code().code() != "42501") {
            return Err(SupervisorError::Retained(error));
        }
        self.metrics.slot.inspect_failed();
        self.metrics.slot.forget();
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(
                event = "slot_statistics_refused",
                error = crate::postgres::error::sentence(&error),
                "the slot's figures are not to be had; grant select on \
                 pg_catalog.pg_replication_slots and pg_catalog.pg_stat_replication_slots to \
                 walferry's role"
            );
        }
        Ok(())
    }
}

fn figures(slot: ReplicationSlot) -> Figures {
    Figures {
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
