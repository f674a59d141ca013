//! The replication slot's figures as JSON.

use schemars::JsonSchema;
use serde::Serialize;

use super::sample::SlotFigures;

/// The replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Slot")]
pub struct SlotView {
    name: String,
    active: bool,
    wal_status: Option<String>,
    retained_bytes: i64,
    lag_bytes: i64,
    /// WAL that can still be written before the slot may be lost; null: unlimited.
    safe_bytes: Option<i64>,
}

impl SlotView {
    /// The figures of the slot with this name.
    #[must_use]
    pub fn new(name: &str, figures: &SlotFigures) -> Self {
        Self {
            name: name.to_owned(),
            active: figures.active,
            wal_status: figures.wal_status.clone(),
            retained_bytes: figures.retained_bytes,
            lag_bytes: figures.lag_bytes,
            safe_bytes: figures.safe_bytes,
        }
    }
}
