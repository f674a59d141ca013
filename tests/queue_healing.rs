//! How jobs come to their end without a person, at the queue's own level: attempts and waits, what
//! is due, what is stuck. With a whole walferry around it: `scenarios`.

use std::collections::HashSet;
use std::time::Duration;

use walferry::ack::batch::{Failure, JobKey};
use walferry::ack::in_flight::InFlight;
use walferry::ack::job_set::JobSet;
use walferry::admin::audited::Operator;
use walferry::admin::jobs::filter::Filter;
use walferry::admin::jobs::operations::{
    self, ClearedJobs, FailedJobAction, FailedJobsRequest, JobsChanged,
};
use walferry::change::{Lsn, Position};
use walferry::storage::queue::rescue::{Rescued, Rescuer};
use walferry::storage::queue::settle::SettleCounts;
use walferry::storage::queue::status::Status;

use crate::queue_storage::{POLICY, Queue, at, listing, now, pending, range};

const LIMIT: Duration = Duration::from_secs(20);
/// A cursor that has passed every job.
const EVERYWHERE: Position = Position { commit_lsn: Lsn(u64::MAX), ordinal: u64::MAX >> 1 };

/// Fails a claimed job once.
async fn refuse(queue: &Queue, id: i64) -> SettleCounts {
    let failure = Failure { job: JobKey::Id(id), error: "refused".into() };
    let descriptor = pending(0, JobSet::Ids(vec![id]), now());
    queue.settler().await.settle(&[(descriptor, vec![failure].into())], None, &[]).await.unwrap()
}

async fn operator(queue: &Queue) -> Operator {
    Operator::at_terminal(queue.database.connect().await, LIMIT).await.unwrap()
}

/// The waits are over.
async fn make_due(queue: &Queue) {
    let sql = "update elasticsearch_sync_queue set next_attempt_at = clock_timestamp()
        where next_attempt_at is not null";
    queue.admin.batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn a_refused_job_waits_longer_each_time_and_fails_at_last() {
    let queue = Queue::new().await;
    queue.recorder().await.write(&[listing(at(8, 0))], Status::Pending, None).await.unwrap();
    let mut claimer = queue.claimer().await;
    let wait = "select (extract(epoch from next_attempt_at - clock_timestamp()))::text
        from elasticsearch_sync_queue";
    for (attempt, longest) in [(1, 1.0), (2, 2.0)] {
        let jobs = if attempt == 1 {
            claimer.claim(Position::default(), None, 10).await.unwrap()
        } else {
            claimer.due(EVERYWHERE, 10).await.unwrap()
        };
        assert_eq!(jobs.len(), 1, "attempt {attempt}");
        let counts = refuse(&queue, jobs[0].id).await;
        assert_eq!(counts, SettleCounts { completed: 0, failed: 0, retried: 1 });
        let seconds: f64 = queue.one(wait).await.parse().unwrap();
        assert!(seconds <= longest && seconds > longest / 2.0 - 0.4, "{attempt}: {seconds}");
        assert!(claimer.due(EVERYWHERE, 10).await.unwrap().is_empty(), "not yet due");
        make_due(&queue).await;
    }
    let jobs = claimer.due(EVERYWHERE, 10).await.unwrap();
    let counts = refuse(&queue, jobs[0].id).await;
    assert_eq!(counts, SettleCounts { completed: 0, failed: 1, retried: 0 });
    let end = "select concat_ws(' ', status, retry_count, error_message, processed_at is not null,
        next_attempt_at is null) from elasticsearch_sync_queue";
    assert_eq!(queue.one(end).await, "failed 3 refused t t");

    let request = FailedJobsRequest {
        expected_count: None,
        action: FailedJobAction::Retry,
        filter: Filter::default(),
        target: "all failed jobs".to_owned(),
        reason: None,
    };
    let operator = operator(&queue).await;
    let retried = operations::change_failed(&operator, &[], request).await.unwrap();
    assert_eq!(retried, JobsChanged { jobs: 1, more: false });
    let audit = "select concat_ws(' ', role, action, target, result, affected) from walferry.audit";
    assert_eq!(
        queue.one(audit).await,
        format!("terminal retry job {}: all failed jobs done 1", jobs[0].id)
    );
    let again = "select concat_ws(' ', status, retry_count, processed_at is null)
        from elasticsearch_sync_queue";
    assert_eq!(queue.one(again).await, "pending 0 t");
    assert_eq!(claimer.due(EVERYWHERE, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_cursor_has_passed_and_what_is_not_on_the_stream_is_due() {
    let queue = Queue::new().await;
    let changes = [listing(at(8, 0)), listing(at(16, 0)), listing(at(24, 0))];
    queue.recorder().await.write(&changes, Status::Pending, None).await.unwrap();
    let strange = "insert into elasticsearch_sync_queue
            (table_name, operation, record_id, change_data, commit_lsn, ordinal, retry_count)
        values ('listings', 'INSERT', gen_random_uuid(), '{}', null, null, null),
               ('listings', 'UPSERT', gen_random_uuid(), '[1]', 'FFFFFFFF/FFFFFFF8', -1, -5),
               ('nowhere', 'INSERT', gen_random_uuid(), '{}', null, null, 0)";
    queue.admin.batch_execute(strange).await.unwrap();
    let mut claimer = queue.claimer().await;
    let jobs = claimer.due(at(8, 0), 10).await.unwrap();
    let found: Vec<(bool, Position)> =
        jobs.iter().map(|job| (job.external, job.position)).collect();
    assert_eq!(found, [(false, at(8, 0))]);
    assert!(claimer.any_without_position().await.unwrap());
    let jobs = claimer.without_position(10).await.unwrap();
    assert_eq!(jobs.len(), 2, "a position that was never recorded is nobody's: {jobs:?}");
    assert!(jobs.iter().all(|job| job.external));
    assert!(!claimer.any_without_position().await.unwrap());
    let unknown = "select status || ': ' || error_message from elasticsearch_sync_queue
        where table_name = 'nowhere'";
    assert_eq!(
        queue.one(unknown).await,
        "failed: table nowhere is not in the definition of documents; add it there and retry \
         this job, or clear it"
    );
    // The cursor's own way is left to it, and a strange row is none of its business.
    let jobs = claimer.claim(at(8, 0), None, 10).await.unwrap();
    let positions: Vec<Position> = jobs.iter().map(|job| job.position).collect();
    assert_eq!(positions, [at(16, 0), at(24, 0)]);
}

#[tokio::test]
async fn a_stuck_job_is_rescued_unless_somebody_works_on_it() {
    let queue = Queue::new().await;
    let changes: Vec<_> = (0..6).map(|n| listing(at(8, n))).collect();
    queue.recorder().await.write(&changes, Status::Processing, None).await.unwrap();
    let age = "update elasticsearch_sync_queue set started_at = started_at - interval '31 s'
            where ordinal < 4;
        update elasticsearch_sync_queue set retry_count = ordinal where ordinal in (2, 3, 5)";
    queue.admin.batch_execute(age).await.unwrap();
    let mut rescuer =
        Rescuer::new(queue.database.connect().await, &queue.lease, POLICY).await.unwrap();
    let alive = InFlight::default();
    let hold = alive.hold(range(at(8, 0), at(8, 0)));
    let rescued = rescuer.pass(&alive).await.unwrap();
    assert_eq!(rescued, Rescued { reset: 2, failed: 2 });
    let rows = "select string_agg(concat_ws(' ', ordinal, status,
            regexp_replace(error_message, '\\d+ms', 'Nms')), '; ' order by ordinal)
        from elasticsearch_sync_queue";
    assert_eq!(
        queue.one(rows).await,
        "0 processing; 1 pending Reset from stuck state after Nms; \
         2 pending Reset from stuck state after Nms; 3 failed Max retries exceeded (3/3); \
         4 processing; 5 failed Max retries exceeded (5/3)"
    );
    drop(hold);
    assert_eq!(rescuer.pass(&alive).await.unwrap(), Rescued { reset: 1, failed: 0 });
    assert_eq!(rescuer.pass(&alive).await.unwrap(), Rescued::default());
}

#[tokio::test]
async fn a_job_that_settles_while_it_is_looked_at_is_not_rescued() {
    let queue = Queue::new().await;
    queue.recorder().await.write(&[listing(at(8, 0))], Status::Processing, None).await.unwrap();
    let age = "update elasticsearch_sync_queue set started_at = started_at - interval '31 s'";
    queue.admin.batch_execute(age).await.unwrap();
    // Somebody completes it and holds its lock while the rescue wants to move it.
    let other = queue.database.connect().await;
    other
        .batch_execute("begin; update elasticsearch_sync_queue set status = 'completed'")
        .await
        .unwrap();
    let mut rescuer =
        Rescuer::new(queue.database.connect().await, &queue.lease, POLICY).await.unwrap();
    // It passes over the row, so that a lock on one job holds up no other.
    assert_eq!(rescuer.pass(&InFlight::default()).await.unwrap(), Rescued::default());
    other.batch_execute("commit").await.unwrap();
    assert_eq!(rescuer.pass(&InFlight::default()).await.unwrap(), Rescued::default());
    let status = "select status from elasticsearch_sync_queue";
    assert_eq!(queue.one(status).await, "completed");
}

#[tokio::test]
async fn clearing_leaves_what_is_unfinished() {
    let queue = Queue::new().await;
    let fill = "insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, status)
        select 'listings', 'INSERT', gen_random_uuid(), '{}', status
        from unnest(array['pending', 'processing', 'completed', 'failed']) status,
             generate_series(1, 30000) n
        where n = 1 or status = 'completed'";
    queue.admin.batch_execute(fill).await.unwrap();
    let cleared = operations::clear(&operator(&queue).await, None).await.unwrap();
    let finished = JobsChanged { jobs: 30_001, more: false };
    assert_eq!(cleared, ClearedJobs { finished, unfinished: 2 });
    let left = queue.admin.query("select status from elasticsearch_sync_queue", &[]).await.unwrap();
    let left: HashSet<String> = left.iter().map(|row| row.get(0)).collect();
    assert_eq!(left, HashSet::from(["pending".to_owned(), "processing".to_owned()]));
}

#[tokio::test]
async fn rows_edited_by_hand_and_rows_that_somebody_holds_halt_nothing() {
    let queue = Queue::new().await;
    queue.recorder().await.write(&[listing(at(16, 0))], Status::Pending, None).await.unwrap();
    let strange = "insert into elasticsearch_sync_queue
            (table_name, operation, record_id, change_data, commit_lsn, ordinal, retry_count, created_at)
        values ('listings', 'UPDATE', gen_random_uuid(), '{}', '0/8', null, 2147483647, now()),
               ('listings', 'UPDATE', gen_random_uuid(), '{}', null, null, -2147483648, now()),
               ('listings', 'UPDATE', gen_random_uuid(), '{}', null, null, 0, 'infinity'),
               ('listings', 'UPDATE', gen_random_uuid(), '{}', null, null, 0, '-infinity')";
    queue.admin.batch_execute(strange).await.unwrap();
    let mut claimer = queue.claimer().await;
    assert_eq!(claimer.lowest_unfinished().await.unwrap(), Some(at(16, 0)));
    let holder = queue.database.connect().await;
    holder
        .batch_execute("begin; select from elasticsearch_sync_queue where ordinal = 0 for update")
        .await
        .unwrap();
    // Neither way waits for the row that is held.
    assert!(claimer.claim(Position::default(), None, 10).await.unwrap().is_empty());
    assert!(claimer.due(EVERYWHERE, 10).await.unwrap().is_empty());
    let jobs = claimer.without_position(10).await.unwrap();
    assert_eq!(jobs.len(), 4);
    let mut settler = queue.settler().await;
    for job in &jobs {
        let failure = Failure { job: JobKey::Id(job.id), error: "refused".into() };
        let mut descriptor = pending(0, JobSet::Ids(vec![job.id]), now());
        (descriptor.created.min, descriptor.created.max) = (job.created_at, job.created_at);
        let counts =
            settler.settle(&[(descriptor, vec![failure].into())], None, &[]).await.unwrap();
        assert_eq!(counts.failed + counts.retried, 1, "job {}", job.id);
    }
    holder.batch_execute("rollback").await.unwrap();
    assert_eq!(claimer.claim(Position::default(), None, 10).await.unwrap().len(), 1);
    // Nor does a clock that was wrong keep a job for ever.
    let future = "update elasticsearch_sync_queue set status = 'processing', epoch = null,
            started_at = 'infinity' where not isfinite(created_at);
        update elasticsearch_sync_queue set status = 'completed' where isfinite(created_at)";
    queue.admin.batch_execute(future).await.unwrap();
    let mut rescuer =
        Rescuer::new(queue.database.connect().await, &queue.lease, POLICY).await.unwrap();
    let rescued = rescuer.pass(&InFlight::default()).await.unwrap();
    assert_eq!(rescued, Rescued { reset: 2, failed: 0 });
}
