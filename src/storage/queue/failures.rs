//! The failures of a settlement as its statements take them.
//!
//! Not here: the statements (`settle`).

use postgres_types::PgLsn;

use crate::ack::batch::{BatchDescriptor, JobKey, Unfinished};
use crate::change::Micros;
use crate::storage::sql::{StorableText, bigint, pg_lsn};

/// All failures of a settlement as the arrays that the statements take, but for those of jobs that
/// end with a fan-out.
pub(super) struct Failures {
    pub(super) lsns: Vec<PgLsn>,
    pub(super) ordinals: Vec<i64>,
    pub(super) errors: Vec<String>,
    pub(super) ids: Vec<i64>,
    pub(super) id_errors: Vec<String>,
    pub(super) min: Micros,
    pub(super) max: Micros,
}

impl Failures {
    pub(super) fn of(
        pending_batches: &[(BatchDescriptor, Unfinished)],
        text: StorableText,
    ) -> Self {
        let mut all = Self {
            lsns: Vec::new(),
            ordinals: Vec::new(),
            errors: Vec::new(),
            ids: Vec::new(),
            id_errors: Vec::new(),
            min: Micros(i64::MAX),
            max: Micros(i64::MIN),
        };
        for (descriptor, Unfinished { failures, .. }) in pending_batches {
            if failures.is_empty() || descriptor.fanouts.chunk.is_some() {
                continue;
            }
            let unfinished = descriptor.fanouts.unfinished_jobs();
            all.min = all.min.min(Micros(descriptor.created.min));
            all.max = all.max.max(Micros(descriptor.created.max));
            for failure in failures.iter().filter(|failure| !unfinished.contains(&failure.job)) {
                let error = text.sentence(&failure.error);
                match failure.job {
                    JobKey::At(position) => {
                        all.lsns.push(pg_lsn(position.commit_lsn));
                        all.ordinals.push(bigint(position.ordinal));
                        all.errors.push(error);
                    }
                    JobKey::Id(id) => {
                        all.ids.push(id);
                        all.id_errors.push(error);
                    }
                    // It is in its chunk (`LoadedChunk::leave`).
                    JobKey::Loaded(_) => {}
                }
            }
        }
        all
    }
}
