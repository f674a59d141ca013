//! Fan-outs as they are stored, against a real PostgreSQL: begun, moved on and ended by settlements.

use std::collections::BTreeMap;
use std::sync::Arc;

use walferry::ack::batch::{BatchDescriptor, Failure, IndexWait, JobKey, ParkedJob, Unfinished};
use walferry::ack::fanout::{
    BegunFanout, FanoutChunk, FanoutGroup, FanoutProgress, FanoutRows, StoredFanout,
};
use walferry::ack::in_flight::InFlight;
use walferry::ack::job_set::JobSet;
use walferry::change::Position;
use walferry::storage::queue::fanout;
use walferry::storage::queue::rescue::Rescuer;
use walferry::storage::queue::settle::SettleCounts;
use walferry::storage::queue::status::Status;

use crate::queue_storage::{POLICY, Queue, at, listing, now, pending, range};

const SLOT: &str = "walferry";

/// A fan-out of the job at a position, for the rows with one value.
fn begun(table: &str, job: Position) -> BegunFanout {
    BegunFanout {
        rows: FanoutRows {
            changed: "public.categories".to_owned(),
            table: table.to_owned(),
            column: "category_id".to_owned(),
            path: true,
            values: Some(BTreeMap::from([("b".to_owned(), vec![0])])),
        },
        groups: vec![FanoutGroup { highest: job, jobs: Arc::from([JobKey::At(job)]) }],
    }
}

fn chunk(sequence: u64, fanouts: &[i64], last_key: Option<&str>) -> BatchDescriptor {
    let last_key = last_key.map(str::to_owned);
    let chunk = FanoutChunk { fanouts: fanouts.to_vec(), last_key, row_count: 10 };
    let mut descriptor = pending(sequence, JobSet::None, now());
    descriptor.fanouts = FanoutProgress { begun: Vec::new(), chunk: Some(chunk) };
    descriptor
}

/// A queue with three jobs, the second of which has begun these fan-outs.
async fn with_begun(
    fanouts: Vec<BegunFanout>,
    unfinished: impl Into<Unfinished>,
) -> (Queue, SettleCounts) {
    let queue = Queue::new().await;
    let changes: Vec<_> = (0..3).map(|n| listing(at(0x20, n))).collect();
    queue.recorder().await.write(&changes, Status::Processing, None).await.unwrap();
    let mut batch = pending(0, range(at(0x20, 0), at(0x20, 2)), now());
    batch.fanouts.begun = fanouts;
    let counts =
        queue.settler().await.settle(&[(batch, unfinished.into())], None, &[]).await.unwrap();
    (queue, counts)
}

async fn stored(queue: &Queue) -> Vec<StoredFanout> {
    fanout::load(&queue.admin, SLOT, 0).await.unwrap()
}

#[tokio::test]
async fn a_job_ends_with_the_last_chunk_of_its_fan_out() {
    let (queue, counts) = with_begun(vec![begun("public.listings", at(0x20, 1))], Vec::new()).await;
    assert_eq!(counts.completed, 2);
    let found = stored(&queue).await;
    assert_eq!(found.len(), 1);
    let id = found[0].id;
    assert_eq!(found[0].begun.rows, begun("public.listings", at(0x20, 1)).rows);
    assert_eq!(found[0].begun.groups[0].highest, at(0x20, 1));
    assert!(fanout::load(&queue.admin, SLOT, id).await.unwrap().is_empty());

    let mut settler = queue.settler().await;
    let counts =
        settler.settle(&[(chunk(1, &[id], Some("[1]")), Unfinished::default())], None, &[]).await;
    assert_eq!(counts.unwrap(), SettleCounts::default());
    let found = stored(&queue).await;
    assert_eq!((found[0].last_key.as_deref(), found[0].row_count), (Some("[1]"), 10));
    // It is neither stuck nor an orphan meanwhile.
    queue.age_jobs().await;
    let client = queue.database.connect().await;
    let mut rescuer = Rescuer::new(client, &queue.lease, POLICY).await.unwrap();
    assert_eq!(rescuer.reset_orphans().await.unwrap(), 0);
    assert_eq!(rescuer.pass(&InFlight::default()).await.unwrap().total(), 0);

    let counts =
        settler.settle(&[(chunk(2, &[id], None), Unfinished::default())], None, &[]).await.unwrap();
    assert_eq!(counts, SettleCounts { completed: 1, failed: 0, retried: 0 });
    assert!(stored(&queue).await.is_empty());
    assert_eq!(queue.one("select count(*)::text from walferry.fanout_job").await, "0");
}

#[tokio::test]
async fn a_job_ends_with_the_last_of_its_fan_outs_and_keeps_the_first_error() {
    let fanouts =
        vec![begun("public.listings", at(0x20, 1)), begun("public.categories", at(0x20, 1))];
    let (queue, _) = with_begun(fanouts, Vec::new()).await;
    let found = stored(&queue).await;
    let [first, second] = [found[0].id, found[1].id];
    let JobKey::Id(job) = found[0].begun.groups[0].jobs[0] else {
        panic!("a stored job has an id")
    };
    let mut settler = queue.settler().await;
    let refused = Failure { job: JobKey::Id(job), error: "listings/7: refused".to_owned() };
    let counts =
        settler.settle(&[(chunk(1, &[first], None), vec![refused].into())], None, &[]).await;
    assert_eq!(counts.unwrap(), SettleCounts::default());
    let later = Failure { job: JobKey::Id(job), error: "categories/9: refused".to_owned() };
    let counts =
        settler.settle(&[(chunk(2, &[second], None), vec![later].into())], None, &[]).await;
    assert_eq!(counts.unwrap(), SettleCounts { completed: 0, failed: 0, retried: 1 });
    let query = "select concat_ws(' ', status, retry_count, error_message)
        from elasticsearch_sync_queue where ordinal = 1";
    assert_eq!(queue.one(query).await, "pending 1 listings/7: refused");
}

#[tokio::test]
async fn a_refusal_in_the_batch_waits_for_the_fan_out() {
    let refused = Failure { job: JobKey::At(at(0x20, 1)), error: "refused".to_owned() };
    let fanouts = vec![begun("public.listings", at(0x20, 1))];
    let (queue, counts) = with_begun(fanouts, vec![refused]).await;
    assert_eq!(counts, SettleCounts { completed: 2, failed: 0, retried: 0 });
    let id = stored(&queue).await[0].id;
    let mut settler = queue.settler().await;
    let counts =
        settler.settle(&[(chunk(1, &[id], None), Unfinished::default())], None, &[]).await.unwrap();
    assert_eq!(counts, SettleCounts { completed: 0, failed: 0, retried: 1 });
}

fn parked(job: JobKey) -> Unfinished {
    let wait = IndexWait { index: "notes".to_owned(), reason: "waits for index notes".to_owned() };
    let parked = vec![ParkedJob { job, wait: Arc::new(wait) }];
    Unfinished { failures: Vec::new(), parked }
}

const FATE: &str = "select concat_ws(' ', status, retry_count, waits_for, error_message)
    from elasticsearch_sync_queue where ordinal = 1";
const WAITING: &str = "pending 0 notes waits for index notes";

/// Another fan-out goes on meanwhile, and a refusal in it costs no attempt: all is rendered again.
#[tokio::test]
async fn a_job_whose_documents_wait_for_an_index_waits_from_the_end_of_its_last_fan_out() {
    let fanouts =
        vec![begun("public.listings", at(0x20, 1)), begun("public.categories", at(0x20, 1))];
    let (queue, _) = with_begun(fanouts, Vec::new()).await;
    let found = stored(&queue).await;
    let [first, second] = [found[0].id, found[1].id];
    let job = found[0].begun.groups[0].jobs[0];
    let refused = || vec![Failure { job, error: "categories/9: refused".to_owned() }].into();
    let mut settler = queue.settler().await;
    for (sequence, chunk, unfinished) in [
        (1, chunk(1, &[first], Some("[1]")), refused()),
        (2, chunk(2, &[first], Some("[2]")), parked(job)),
        (3, chunk(3, &[first], None), Unfinished::default()),
        (4, chunk(4, &[second], Some("[1]")), refused()),
    ] {
        let counts = settler.settle(&[(chunk, unfinished)], None, &[]).await.unwrap();
        assert_eq!(counts, SettleCounts::default(), "{sequence}");
    }
    let last = (chunk(5, &[second], None), Unfinished::default());
    let counts = settler.settle(&[last], None, &[]).await.unwrap();
    assert_eq!(counts, SettleCounts { completed: 0, failed: 0, retried: 1 });
    assert_eq!(queue.one(FATE).await, WAITING);
}

#[tokio::test]
async fn a_job_that_waits_with_its_batch_keeps_its_fan_out() {
    let fanouts = vec![begun("public.listings", at(0x20, 1))];
    let (queue, counts) = with_begun(fanouts, parked(JobKey::At(at(0x20, 1)))).await;
    assert_eq!(counts, SettleCounts { completed: 2, failed: 0, retried: 0 });
    let found = stored(&queue).await;
    assert_eq!(found[0].begun.groups[0].jobs.len(), 1);
    let last = (chunk(1, &[found[0].id], None), Unfinished::default());
    let counts = queue.settler().await.settle(&[last], None, &[]).await.unwrap();
    assert_eq!(counts, SettleCounts { completed: 0, failed: 0, retried: 1 });
    assert_eq!(queue.one(FATE).await, WAITING);
}
