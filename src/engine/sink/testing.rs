//! Targets, batches and actions for the unit tests of this module.

use std::sync::Arc;

use bytes::Bytes;

use super::Target;
use super::index::{Pipelines, ShardHistories};
use crate::ack::batch::{BatchDescriptor, CreatedBetween, JobKey, PendingBatch};
use crate::ack::fanout::FanoutProgress;
use crate::ack::job_set::JobSet;
use crate::change::Lsn;
use crate::engine::document::id::{DocumentId, IndexId};
use crate::engine::feed::action::Action;

pub(crate) fn target(name: &str) -> Target {
    Target {
        name: name.to_owned(),
        write_alias: format!("{name}-w-1"),
        concrete: format!("{name}-000001"),
        base: Lsn(0),
        uuid: String::new(),
        created: true,
        pipelines: Pipelines::default(),
        histories: ShardHistories::new(),
    }
}

pub(crate) fn pending() -> Arc<PendingBatch> {
    PendingBatch::open(BatchDescriptor {
        sequence: 0,
        jobs: JobSet::None,
        created: CreatedBetween { min: 0, max: 0 },
        end_lsn: None,
        loaded: None,
        fanouts: FanoutProgress::default(),
    })
}

/// An action with one job of a batch of its own, which it alone holds open. The version is the job's
/// id too.
pub(crate) fn action(index: u16, id: &str, version: u64, body: Option<&str>) -> Action {
    let pending = pending();
    let job = pending.reference(JobKey::Id(i64::try_from(version).unwrap_or(i64::MAX)));
    assert!(!pending.settle_one());
    Action {
        document: DocumentId::new(IndexId(index), id.into()),
        body: body.map(|b| Bytes::copy_from_slice(b.as_bytes())),
        refusal: None,
        version,
        unchanged: false,
        jobs: std::iter::once(job).collect(),
        room: None,
    }
}
