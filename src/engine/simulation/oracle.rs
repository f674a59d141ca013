//! What must hold after every step, and at the end.

use crate::storage::queue::status::Status;

use super::index::{IndexModel, Shown};
use super::outside::Outside;
use super::queued_job::QueuedJob;
use super::source::{ROWS, SourceModel, Subject};

/// A job that is completed: its documents have its change's state, or a newer one.
pub(super) fn assert_indexed(job: &QueuedJob, source: &SourceModel, index: &IndexModel) {
    let Some(position) = job.position else { return };
    let at = source.index_of(position).expect("a recorded change is in the WAL");
    let state = u32::try_from(at + 1).expect("few changes");
    match job.subject {
        Subject::Row(row) => {
            let newest = index.newest(row);
            assert!(newest >= state, "job {state} is completed, document {row} is at {newest}");
        }
        Subject::Parent => {
            for row in (0..ROWS).filter(|row| source.row(*row).is_some_and(|now| now < state)) {
                let shown = index.content(row).map(|content| content.parent);
                assert!(
                    shown >= Some(state),
                    "job {state} is completed, document {row} shows parent {shown:?}"
                );
            }
        }
        Subject::Table => {
            let older = |content: Shown| content.row < state;
            let ghost = (0..ROWS).find(|row| index.content(*row).is_some_and(older));
            assert!(ghost.is_none(), "TRUNCATE {state} is completed, document {ghost:?} is older");
        }
    }
}

/// The server has received its confirmed position: no change below it is sent again.
pub(super) fn assert_acknowledged(outside: &mut Outside) {
    let confirmed = outside.source.confirmed;
    let queue = &outside.queue;
    let stored = queue.recorded_end.max(queue.settled);
    assert!(confirmed <= stored, "{confirmed} is acknowledged, {stored} is stored");
    let below = outside.source.changes.partition_point(|c| c.position.commit_lsn < confirmed);
    let recorded = queue.of_changes.len();
    assert!(recorded >= below, "{below} changes are acknowledged, {recorded} are recorded");
    if outside.guard_was_on {
        return;
    }
    for at in outside.acknowledged_count..below {
        let job = &queue.jobs[queue.of_changes[at]];
        assert!(job.has_fate, "change {} is acknowledged, its job is {:?}", at + 1, job.status);
    }
    outside.acknowledged_count = outside.acknowledged_count.max(below);
}

/// Why the schedule has not come to its end; `None` once everything is done.
pub(super) fn unfinished(outside: &Outside) -> Option<String> {
    let Outside { source, queue, .. } = outside;
    let recorded = queue.of_changes.len();
    if recorded < source.changes.len() {
        return Some(format!("{recorded} of {} changes are recorded", source.changes.len()));
    }
    let may_wait = |job: &QueuedJob| outside.index.is_blocked && job.is_parked();
    let mut open = queue.jobs.iter().filter(|job| job.status != Status::Completed);
    if let Some(job) = open.find(|job| !may_wait(job)) {
        return Some(format!("a job is not completed: {job:?}"));
    }
    if source.confirmed < source.last_end() {
        return Some(format!("{} is acknowledged, not {}", source.confirmed, source.last_end()));
    }
    None
}

/// The index is the function of the rows that it should be, and every change has one job.
pub(super) fn assert_true(outside: &Outside) {
    let Outside { source, queue, index, .. } = outside;
    let parent = source.parent();
    for row in 0..ROWS {
        let expected = source.row(row).map(|row| Shown { row, parent });
        let shown = index.content(row);
        assert_eq!(shown, expected, "document {row} at the end");
    }
    let recorded = queue.jobs.iter().filter(|job| job.position.is_some()).count();
    assert_eq!(recorded, source.changes.len(), "one job per change");
}
