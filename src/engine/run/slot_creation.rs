//! Creates the replication slot, and says who holds it up.
//!
//! The server waits for every transaction that was open when it began, of any database.
//!
//! Not here: when a slot is created (`prepare`).

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;

use super::{Context, Fault};
use crate::change::Lsn;
use crate::engine::wal::Replication;
use crate::postgres::catalog::holdup::{self, Holders};
use crate::telemetry::readiness::Component;

/// The interval at which the sessions that delay the creation are listed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Creates the slot; returns its consistent point.
///
/// # Errors
/// The [`Fault`] that ends the attempt.
pub(super) async fn create(
    context: &Context,
    control: &Client,
    replication: &mut Replication,
) -> Result<Lsn, Fault> {
    let name = context.config.slot.as_str();
    tracing::info!(
        event = "slot_creating",
        slot = name,
        "creating the replication slot; this waits for transactions under way"
    );
    context.status.fault(Component::Slot, "creating; waits for transactions under way");
    let sender = replication.sender_pid();
    let mut creating = pin!(replication.create_slot(name));
    let mut known: Vec<i32> = Vec::new();
    loop {
        tokio::select! {
            created = &mut creating => return Ok(created?),
            () = sleep(LOOK_EVERY) => {}
        }
        // Who it is says nothing about whether the slot can be created.
        let Ok(Some(Holders { pids, sentence })) = holdup::holders(control, sender).await else {
            continue;
        };
        let wait = format!(
            "creating the slot waits for {sentence}; wait for its end, or end it with \
             pg_terminate_backend"
        );
        if pids != known {
            tracing::warn!(event = "slot_held_up", slot = name, holders = sentence, "{wait}");
            known = pids;
        }
        context.status.fault(Component::Slot, wait);
    }
}
