//! Metrics of the bytes that the pipeline holds.
//!
//! Not here: the accounting (`ack::memory`), and the memory of the process (`process`).

use prometheus::{Gauge, GaugeVec};

use super::registration::{Registration, float};
use crate::ack::memory::{Memory, MemoryPart};

/// A series for each part, and the limit of their sum.
#[derive(Clone, Debug)]
pub(super) struct MemoryMetrics {
    held: GaugeVec,
    limit: Gauge,
}

impl MemoryMetrics {
    /// Registers the metrics.
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let metrics = Self {
            held: add.optionals(
                "memory_held_bytes",
                "Bytes of rows, documents and batches that the pipeline holds.",
                &["part"],
            ),
            limit: add.float_gauge(
                "memory_limit_bytes",
                "Bytes held at which nothing more is taken in; limits.memory_max.",
            ),
        };
        metrics.refresh(&Memory::new(0));
        metrics
    }

    /// Sets the figures of now.
    pub(super) fn refresh(&self, memory: &Memory) {
        for part in MemoryPart::ALL {
            let bytes = float(u64::try_from(memory.held(part)).unwrap_or(u64::MAX));
            self.held.with_label_values(&[part.as_str()]).set(bytes);
        }
        self.limit.set(float(u64::try_from(memory.limit()).unwrap_or(u64::MAX)));
    }
}
