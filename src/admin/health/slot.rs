//! The health of the replication slot: whether it exists, and how near it is to losing WAL. Pure.

use super::{Code, HealthVerdict, QueueHealth, share};
use crate::admin::figures::sample::SlotState;

/// Shares of the WAL that the slot may keep which must still be free.
const HEADROOM_LOW: f64 = 0.5;
const HEADROOM_VERY_LOW: f64 = 0.2;

impl QueueHealth {
    pub(super) fn slot(&mut self, slot: &SlotState) {
        let slot = match slot {
            SlotState::Known(slot) => slot,
            SlotState::Missing => {
                return self.add(
                    HealthVerdict::Unhealthy,
                    Code::SlotMissing,
                    "the replication slot does not exist: changes are not being kept for walferry",
                    "start `walferry run`, which makes it; if it was dropped, `walferry rebuild`",
                );
            }
            SlotState::Refused => {
                return self.add(
                    HealthVerdict::Degraded,
                    Code::SlotRefused,
                    "walferry's role may not read pg_replication_slots: the slot's WAL is not monitored",
                    "grant select on pg_catalog.pg_replication_slots to walferry's role",
                );
            }
        };
        match slot.wal_status.as_deref() {
            Some("lost") => self.add(
                HealthVerdict::Unhealthy,
                Code::SlotLost,
                "the replication slot has lost WAL: changes are missing",
                "run `walferry rebuild --yes`, which loads all rows anew, and start again",
            ),
            Some("unreserved") => self.add(
                HealthVerdict::Unhealthy,
                Code::SlotUnreserved,
                "the replication slot is about to lose WAL at the next checkpoint",
                "let walferry catch up now, or raise max_slot_wal_keep_size",
            ),
            _ => {}
        }
        let Some(safe) = slot.safe_bytes else { return };
        let free = share(safe, safe.saturating_add(slot.retained_bytes));
        if free < HEADROOM_LOW {
            let very = free < HEADROOM_VERY_LOW;
            self.add(
                if very { HealthVerdict::Unhealthy } else { HealthVerdict::Degraded },
                Code::SlotHeadroomLow
                    .with([(slot.retained_bytes >> 20).into(), (safe >> 20).into()]),
                format!(
                    "the slot retains {} MiB of WAL, {} MiB are left before it is lost",
                    slot.retained_bytes >> 20,
                    safe >> 20
                ),
                "see that walferry reads the slot, or raise max_slot_wal_keep_size",
            );
        }
    }
}
