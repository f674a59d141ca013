//! The lines of the log about operations. The events of each kind have names of their own.

use crate::storage::operation::{BegunOperation, OperationKind};

/// It begins, or goes on.
pub(super) fn begun(begun: &BegunOperation) {
    match begun.kind {
        OperationKind::Backfill => tracing::info!(
            event = "backfill_begun",
            operation = begun.id,
            table = begun.table,
            rows = begun.progress.row_count,
            "backfill"
        ),
        OperationKind::Verify => tracing::info!(
            event = "verify_begun",
            operation = begun.id,
            table = begun.table,
            rows = begun.progress.row_count,
            "verification"
        ),
    }
}

/// It has ended, or was paused or cancelled.
pub(super) fn over(begun: &BegunOperation) {
    match begun.kind {
        OperationKind::Backfill => tracing::info!(
            event = "backfill_over",
            operation = begun.id,
            table = begun.table,
            "backfill is over"
        ),
        OperationKind::Verify => tracing::info!(
            event = "verify_over",
            operation = begun.id,
            table = begun.table,
            "verification is over"
        ),
    }
}

/// It failed.
pub(super) fn failed(begun: &BegunOperation, error: &str) {
    match begun.kind {
        OperationKind::Backfill => tracing::error!(
            event = "backfill_failed",
            operation = begun.id,
            error,
            "backfill failed"
        ),
        OperationKind::Verify => tracing::error!(
            event = "verify_failed",
            operation = begun.id,
            error,
            "verification failed"
        ),
    }
}

/// It goes on later.
pub(super) fn interrupted(begun: &BegunOperation, error: &str) {
    match begun.kind {
        OperationKind::Backfill => tracing::warn!(
            event = "backfill_interrupted",
            operation = begun.id,
            error,
            "backfill is interrupted; it goes on from the last chunk that settled"
        ),
        OperationKind::Verify => tracing::warn!(
            event = "verify_interrupted",
            operation = begun.id,
            error,
            "verification is interrupted; it goes on from what is stored"
        ),
    }
}
