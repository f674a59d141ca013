//! The queue's storage against a real PostgreSQL: lease, recording, settling, claiming.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use uuid::Uuid;
use walferry::ack::batch::{
    BatchDescriptor, ChunkPurpose, CreatedBetween, Failure, IndexWait, JobKey, LoadedChunk,
    LoadedRow, ParkedJob, Unfinished,
};
use walferry::ack::fanout::FanoutProgress;
use walferry::ack::job_set::JobSet;
use walferry::change::{Change, Lsn, Operation, Position, Row, TableId};
use walferry::storage::QueueError;
use walferry::storage::lease;
use walferry::storage::lease::{AcquireError, Lease};
use walferry::storage::load_progress;
use walferry::storage::load_progress::LoadProgress;
use walferry::storage::position;
use walferry::storage::position::{Settlement, StoredPosition};
use walferry::storage::queue::claim::{Claimer, Waiting};
use walferry::storage::queue::partitions;
use walferry::storage::queue::record::Recorder;
use walferry::storage::queue::record_id::{TableKey, TableKeys};
use walferry::storage::queue::retry::RetryPolicy;
use walferry::storage::queue::settle::{SettleCounts, Settler};
use walferry::storage::queue::status::Status;
use walferry::storage::schema;
use walferry::storage::schema::MigrateOptions;

use crate::migrations::{TestDatabase, options, role};
use crate::support::eventually;

const SLOT: &str = "walferry";

pub(crate) const POLICY: RetryPolicy = RetryPolicy {
    attempts_max: 3,
    delay_min: Duration::from_secs(1),
    delay_max: Duration::from_secs(60),
};

fn keys() -> Arc<TableKeys> {
    let key = |name: &str, uuid| TableKey { name: name.into(), columns: vec!["id".into()], uuid };
    Arc::new(TableKeys(vec![key("listings", true), key("notes", false)]))
}

pub(crate) fn at(lsn: u64, ordinal: u64) -> Position {
    Position { commit_lsn: Lsn(lsn), ordinal }
}

/// Now, so that rows fall into today's part.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

fn around(time: i64) -> CreatedBetween {
    CreatedBetween { min: time - 1_000_000, max: time + 1_000_000 }
}

fn insert(position: Position, row: &str) -> Change {
    Change {
        position,
        xid: 700,
        committed_at: now(),
        table: TableId(0),
        operation: Operation::Insert,
        old: None,
        new: Some(Row::parse(row, None).unwrap()),
        incomplete: false,
        note: None,
    }
}

pub(crate) fn listing(position: Position) -> Change {
    let id = 0x4000_8000_u64 + position.commit_lsn.0 * 100 + position.ordinal;
    insert(position, &format!(r#"{{"id": "00000000-0000-4000-8000-{id:012}", "title": "lamp"}}"#))
}

pub(crate) fn pending(sequence: u64, jobs: JobSet, time: i64) -> BatchDescriptor {
    BatchDescriptor {
        sequence,
        jobs,
        created: around(time),
        end_lsn: None,
        loaded: None,
        fanouts: FanoutProgress::default(),
    }
}

pub(crate) fn range(first: Position, last: Position) -> JobSet {
    JobSet::Range { first, last }
}

/// A prepared database whose lease is ours.
pub(crate) struct Queue {
    pub(crate) database: TestDatabase,
    pub(crate) admin: Client,
    /// Its session is the holder.
    holder: Client,
    pub(crate) lease: Lease,
}

impl Queue {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::with_tables().await;
        let admin = database.connect().await;
        schema::run(&admin, &options()).await.unwrap();
        let holder = database.connect().await;
        let lease = lease::acquire(&holder, SLOT, "first").await.unwrap();
        let stored = StoredPosition {
            system_identifier: "7000000000000000000".into(),
            timeline: 1,
            generation: 1,
            recorded: Position::default(),
            recorded_end_lsn: Lsn(0),
        };
        position::store(&holder, &lease, &stored, Settlement::default()).await.unwrap();
        Self { database, admin, holder, lease }
    }

    pub(crate) async fn recorder(&self) -> Recorder {
        Recorder::new(self.database.connect().await, &self.lease, keys(), 700).await.unwrap()
    }

    pub(crate) async fn settler(&self) -> Settler {
        Settler::new(self.database.connect().await, &self.lease, POLICY).await.unwrap()
    }

    pub(crate) async fn claimer(&self) -> Claimer {
        Claimer::new(self.database.connect().await, &self.lease, keys()).await.unwrap()
    }

    /// `lsn#ordinal=status` of all rows, in the order of commit.
    async fn statuses(&self) -> Vec<String> {
        let query = "select commit_lsn || '#' || ordinal || '=' || status
            from elasticsearch_sync_queue order by commit_lsn, ordinal";
        self.admin.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Makes all jobs `processing` long ago, of another epoch.
    pub(crate) async fn age_jobs(&self) {
        let age = "update elasticsearch_sync_queue
            set started_at = now() - interval '1 hour', epoch = epoch + 1
            where status = 'processing'";
        self.admin.batch_execute(age).await.unwrap();
    }

    pub(crate) async fn one(&self, query: &str) -> String {
        self.admin.query_one(query, &[]).await.unwrap().get(0)
    }
}

/// One job's whole life, as `role`.
pub(crate) async fn records_settles_and_claims(database: &TestDatabase, role: &str, lease: &Lease) {
    let client = database.connect_as(role).await;
    let mut recorder = Recorder::new(client, lease, keys(), 700).await.unwrap();
    recorder.write(&[listing(at(0x20, 0))], Status::Pending, None).await.unwrap();
    let client = database.connect_as(role).await;
    let mut claimer = Claimer::new(client, lease, keys()).await.unwrap();
    let jobs = claimer.claim(Position::default(), None, 10).await.unwrap();
    let mut settler = Settler::new(database.connect_as(role).await, lease, POLICY).await.unwrap();
    let ids = pending(0, JobSet::Ids(vec![jobs[0].id]), jobs[0].created_at);
    let counts =
        settler.settle(&[(ids, Unfinished::default())], Some(Lsn(0x28)), &[]).await.unwrap();
    assert_eq!(counts.completed, 1);
}

#[tokio::test]
async fn a_batch_is_recorded_with_its_position() {
    let queue = Queue::new().await;
    let mut recorder = queue.recorder().await;
    let mut update = listing(at(0x20, 1));
    update.operation = Operation::Update;
    update.old = update.new.clone();
    let mut delete = listing(at(0x20, 2));
    delete.operation = Operation::Delete;
    delete.old = delete.new.take();
    let mut truncate = listing(at(0x30, 0));
    truncate.operation = Operation::Truncate;
    truncate.new = None;
    truncate.table = TableId(1);
    let changes = [listing(at(0x20, 0)), update, delete, truncate];
    recorder.write(&changes, Status::Pending, Some(Lsn(0x28))).await.unwrap();

    let stored = position::load(&queue.admin, SLOT).await.unwrap().unwrap();
    assert_eq!((stored.recorded, stored.recorded_end_lsn), (at(0x30, 0), Lsn(0x28)));
    let query = "select string_agg(concat_ws(' ', table_name, operation,
            record_id = '00000000-0000-0000-0000-000000000000', change_data = '{}',
            change_data ? 'old' and change_data ? 'new',
            status, xid, started_at is null, created_at > now() - interval '1 minute'), '; '
            order by commit_lsn, ordinal) from elasticsearch_sync_queue";
    let expected = "listings INSERT f f f pending 700 t t; listings UPDATE f f t pending 700 t t; \
                    listings DELETE f f f pending 700 t t; notes TRUNCATE t t f pending 700 t t";
    assert_eq!(queue.one(query).await, expected);
    // The rows of today are in today's part.
    assert_eq!(queue.one("select count(*)::text from walferry.queue_default").await, "0");
}

#[tokio::test]
async fn a_change_at_or_below_the_stored_position_is_refused() {
    let queue = Queue::new().await;
    let mut recorder = queue.recorder().await;
    recorder.write(&[listing(at(0x20, 0))], Status::Pending, None).await.unwrap();
    let again = recorder.write(&[listing(at(0x20, 0))], Status::Pending, None).await;
    assert!(matches!(again, Err(QueueError::NotAdvancing { .. })), "{again:?}");
    let mut successor = queue.recorder().await;
    assert_eq!(successor.recorded(), at(0x20, 0));
    let again = successor.write(&[listing(at(0x20, 0))], Status::Pending, None).await;
    assert!(matches!(again, Err(QueueError::NotAdvancing { .. })), "{again:?}");
    successor.write(&[listing(at(0x20, 1))], Status::Pending, None).await.unwrap();
    assert_eq!(queue.statuses().await, ["0/20#0=pending", "0/20#1=pending"]);
}

#[tokio::test]
async fn a_recorder_without_a_position_does_not_start() {
    let queue = Queue::new().await;
    queue.admin.batch_execute("delete from walferry.position").await.unwrap();
    let client = queue.database.connect().await;
    let outcome = Recorder::new(client, &queue.lease, keys(), 700).await;
    assert!(matches!(outcome, Err(QueueError::NoPosition { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_batch_settles_with_its_failures_and_position() {
    let queue = Queue::new().await;
    let (mut recorder, mut settler) = (queue.recorder().await, queue.settler().await);
    let changes: Vec<Change> = (0..4).map(|n| listing(at(0x20, n))).collect();
    recorder.write(&changes, Status::Processing, None).await.unwrap();
    let mut first = pending(0, range(at(0x20, 0), at(0x20, 2)), now());
    first.end_lsn = Some(Lsn(0x40));
    let failure = Failure { job: JobKey::At(at(0x20, 1)), error: "too\0 long".into() };
    let counts =
        settler.settle(&[(first, vec![failure].into())], Some(Lsn(0x40)), &[]).await.unwrap();
    assert_eq!(counts, SettleCounts { completed: 2, failed: 0, retried: 1 });
    let expected = ["0/20#0=completed", "0/20#1=pending", "0/20#2=completed", "0/20#3=processing"];
    assert_eq!(queue.statuses().await, expected);
    let query = "select concat_ws(' ', retry_count, error_message, processed_at is null)
        from elasticsearch_sync_queue where status = 'pending'";
    assert_eq!(queue.one(query).await, "1 too long t");

    // The position never goes back, and what is not processing is not touched.
    let again = pending(1, range(at(0x20, 0), at(0x20, 2)), now());
    let counts =
        settler.settle(&[(again, Unfinished::default())], Some(Lsn(0x30)), &[]).await.unwrap();
    assert_eq!(counts, SettleCounts::default());
    let settlement = position::load_settlement(&queue.admin, SLOT).await.unwrap();
    assert_eq!(settlement.settled_lsn, Lsn(0x40));
}

fn parked(job: JobKey, index: &str) -> ParkedJob {
    let reason = format!("waits for index {index}: read-only");
    ParkedJob { job, wait: Arc::new(IndexWait { index: index.to_owned(), reason }) }
}

#[tokio::test]
async fn a_parked_job_is_pending_without_an_attempt_and_due_once_it_is_released() {
    let queue = Queue::new().await;
    let (mut recorder, mut settler) = (queue.recorder().await, queue.settler().await);
    let mut claimer = queue.claimer().await;
    let changes: Vec<Change> = (0..4).map(|n| listing(at(0x20, n))).collect();
    recorder.write(&changes, Status::Processing, None).await.unwrap();
    let failure = Failure { job: JobKey::At(at(0x20, 3)), error: "refused".into() };
    let unfinished = Unfinished {
        failures: vec![failure],
        parked: vec![parked(JobKey::At(at(0x20, 1)), "a"), parked(JobKey::At(at(0x20, 2)), "b")],
    };
    let all = pending(0, range(at(0x20, 0), at(0x20, 3)), now());
    let counts = settler.settle(&[(all, unfinished)], None, &[]).await.unwrap();
    assert_eq!(counts, SettleCounts { completed: 1, failed: 0, retried: 3 });
    let query = "select string_agg(concat_ws(' ', ordinal, status, retry_count, error_message),
            ', ' order by ordinal)
        from elasticsearch_sync_queue where ordinal > 0";
    let expected = "1 pending 0 waits for index a: read-only, \
        2 pending 0 waits for index b: read-only, 3 pending 1 refused";
    assert_eq!(queue.one(query).await, expected);
    queue
        .admin
        .batch_execute("update elasticsearch_sync_queue set next_attempt_at = null")
        .await
        .unwrap();

    // No claim meets a parked job, and none begins before it.
    let end = at(0x30, 0);
    assert_eq!(claimer.lowest_unfinished().await.unwrap(), Some(at(0x20, 3)));
    assert_eq!(claimer.awaited_indices().await.unwrap(), ["a", "b"]);
    let due = claimer.due(end, 10).await.unwrap();
    assert_eq!(due.iter().map(|job| job.position).collect::<Vec<_>>(), [at(0x20, 3)]);
    assert!(claimer.claim(Position::default(), None, 10).await.unwrap().is_empty());

    // Released, it is due, by its id it is parked once more, and it is completed in the end.
    assert_eq!(claimer.release("a", 10).await.unwrap(), 1);
    assert_eq!(claimer.awaited_indices().await.unwrap(), ["b"]);
    let due = claimer.due(end, 10).await.unwrap();
    assert_eq!(due.iter().map(|job| job.position).collect::<Vec<_>>(), [at(0x20, 1)]);
    let id = due[0].id;
    let again = Unfinished { failures: Vec::new(), parked: vec![parked(JobKey::Id(id), "a")] };
    for unfinished in [again, Unfinished::default()] {
        let ids = pending(1, JobSet::Ids(vec![id]), now());
        settler.settle(&[(ids, unfinished)], None, &[]).await.unwrap();
        claimer.release("a", 10).await.unwrap();
        claimer.claim(Position::default(), None, 10).await.unwrap();
    }
    let query = "select concat_ws(' ', status, retry_count, error_message is null)
        from elasticsearch_sync_queue where ordinal = 1";
    assert_eq!(queue.one(query).await, "completed 0 t");
}

#[tokio::test]
async fn many_tickets_settle_at_once() {
    let queue = Queue::new().await;
    let (mut recorder, mut settler) = (queue.recorder().await, queue.settler().await);
    let changes: Vec<Change> = (1..=100).map(|lsn| listing(at(lsn, 0))).collect();
    recorder.write(&changes, Status::Processing, None).await.unwrap();
    let pending_batches: Vec<(BatchDescriptor, Unfinished)> = (1..=100)
        .map(|n| {
            let failure = Failure { job: JobKey::At(at(n, 0)), error: "refused".into() };
            let failures = if n % 10 == 0 { vec![failure] } else { Vec::new() };
            (pending(n, range(at(n, 0), at(n, 0)), now()), failures.into())
        })
        .collect();
    let counts = settler.settle(&pending_batches, None, &[]).await.unwrap();
    assert_eq!(counts, SettleCounts { completed: 90, failed: 0, retried: 10 });
}

#[tokio::test]
async fn jobs_are_claimed_in_the_order_of_commit_and_rebuilt() {
    let queue = Queue::new().await;
    let mut recorder = queue.recorder().await;
    let mut update = listing(at(0x30, 0));
    update.operation = Operation::Update;
    update.old = update.new.clone();
    let mut noted = listing(at(0x40, 0));
    noted.note = Some("a value was altered".into());
    let changes = [listing(at(0x20, 0)), listing(at(0x20, 1)), update, noted];
    recorder.write(&changes, Status::Pending, None).await.unwrap();
    let foreign = "insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data)
        values ('listings', 'INSERT', gen_random_uuid(), '{}'), ('others', 'INSERT', gen_random_uuid(), '{}')";
    queue.admin.batch_execute(foreign).await.unwrap();
    let later = "update elasticsearch_sync_queue set next_attempt_at = now() + interval '1 hour'
        where ordinal = 1";
    queue.admin.batch_execute(later).await.unwrap();

    let mut claimer = queue.claimer().await;
    assert_eq!(claimer.lowest_unfinished().await.unwrap(), Some(at(0x20, 0)));
    assert_eq!(claimer.count_pending().await.unwrap(), Waiting { known: 5, unknown: 1 });
    let claimed = claimer.claim(Position::default(), Some(at(0x30, 9)), 10).await.unwrap();
    let positions: Vec<Position> = claimed.iter().map(|job| job.position).collect();
    let jobs = claimer.with_images(&mut claimed.into(), usize::MAX).await.unwrap();
    assert_eq!(positions, [at(0x20, 0), at(0x30, 0)], "in back-off, past the end, foreign: left");
    let update = &jobs[1];
    assert_eq!((update.claimed.xid, update.claimed.retry_count), (Some(700), 0));
    let title = |row: &Option<Row>| row.as_ref().unwrap().text("title");
    assert_eq!(title(&update.change.old).as_deref(), Some("lamp"));
    assert_eq!(title(&update.change.new).as_deref(), Some("lamp"));
    assert_eq!(update.change.committed_at, changes[2].committed_at);
    assert!(!update.change.incomplete);
    let claimed = claimer.claim(at(0x30, 0), None, 10).await.unwrap();
    let jobs = claimer.with_images(&mut claimed.into(), usize::MAX).await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].change.note.as_deref(), Some("a value was altered"));
    assert!(jobs[0].change.incomplete);
    let none = claimer.claim(at(0x40, 0), None, 10).await.unwrap();
    assert!(none.is_empty());

    let mut settler = queue.settler().await;
    let failure = Failure { job: JobKey::Id(jobs[0].claimed.id), error: "refused".into() };
    let ids = pending(0, JobSet::Ids(vec![jobs[0].claimed.id]), jobs[0].claimed.created_at);
    let counts = settler.settle(&[(ids, vec![failure].into())], None, &[]).await.unwrap();
    assert_eq!(counts, SettleCounts { completed: 0, failed: 0, retried: 1 });
    let message = "select error_message || '; ' || note from elasticsearch_sync_queue
        where retry_count = 1";
    assert_eq!(queue.one(message).await, "refused; a value was altered");
}

#[tokio::test]
async fn a_new_epoch_takes_over_what_the_old_one_left() {
    let mut queue = Queue::new().await;
    let mut recorder = queue.recorder().await;
    recorder.write(&[listing(at(0x20, 0))], Status::Processing, None).await.unwrap();
    drop(std::mem::replace(&mut queue.holder, queue.database.connect().await));
    let free = "the holder's session is gone";
    let next = eventually(Duration::from_secs(10), free, async || {
        lease::acquire(&queue.holder, SLOT, "second").await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(next.epoch, queue.lease.epoch + 1);

    let lost = recorder.write(&[listing(at(0x20, 1))], Status::Pending, None).await;
    assert!(matches!(lost, Err(QueueError::LeaseLost { .. })), "{lost:?}");
    let mut settler = queue.settler().await;
    let descriptor = pending(0, range(at(0x20, 0), at(0x20, 0)), now());
    let lost = settler.settle(&[(descriptor, Unfinished::default())], Some(Lsn(0x50)), &[]).await;
    assert!(matches!(lost, Err(QueueError::LeaseLost { .. })), "{lost:?}");
    let lost = lease::renew(&queue.holder, &queue.lease).await;
    assert!(matches!(lost, Err(QueueError::LeaseLost { .. })), "{lost:?}");
    assert_eq!(
        queue.statuses().await,
        ["0/20#0=processing"],
        "nothing of the old epoch is written"
    );

    queue.lease = next;
    let mut claimer = queue.claimer().await;
    assert_eq!(claimer.reset_orphans().await.unwrap(), 1);
    assert_eq!(claimer.claim(Position::default(), None, 10).await.unwrap().len(), 1);
    assert_eq!(claimer.reset_orphans().await.unwrap(), 0, "our own are no orphans");
    // A refused transaction leaves nothing open behind.
    let idle = "select count(*)::text from pg_stat_activity
        where datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(queue.one(idle).await, "0");
}

#[tokio::test]
async fn a_lease_has_one_holder_until_released_or_expired() {
    let queue = Queue::new().await;
    let other = queue.database.connect().await;
    match lease::acquire(&other, SLOT, "second").await {
        Err(AcquireError::Held { by, remaining, .. }) => {
            assert_eq!(by, "first");
            assert!(remaining <= lease::TERM && remaining > Duration::ZERO, "{remaining:?}");
        }
        outcome => panic!("{outcome:?}"),
    }
    lease::renew(&queue.holder, &queue.lease).await.unwrap();
    lease::release(&queue.holder, &queue.lease).await.unwrap();
    let second = lease::acquire(&other, SLOT, "second").await.unwrap();
    let expire = "update walferry.lease set expires_at = clock_timestamp()";
    queue.admin.batch_execute(expire).await.unwrap();
    let third = lease::acquire(&queue.holder, SLOT, "third").await.unwrap();
    assert_eq!((second.epoch, third.epoch), (2, 3));
}

#[tokio::test]
async fn of_two_contenders_one_wins() {
    let queue = Queue::new().await;
    lease::release(&queue.holder, &queue.lease).await.unwrap();
    let (a, b) = (queue.database.connect().await, queue.database.connect().await);
    let (a, b) = tokio::join!(lease::acquire(&a, SLOT, "a"), lease::acquire(&b, SLOT, "b"));
    let (winner, loser) = if a.is_ok() { (a, b) } else { (b, a) };
    assert_eq!(winner.unwrap().epoch, 2);
    assert!(matches!(loser, Err(AcquireError::Held { .. })), "{loser:?}");
}

#[tokio::test]
async fn a_stranger_with_the_name_of_a_session_of_walferrys_holds_up_no_successor() {
    let database = TestDatabase::with_tables().await;
    let admin = database.connect().await;
    for name in ["lease_runtime", "lease_stranger"] {
        role(&admin, name, "login replication password 'secret'").await;
    }
    let runtime_role = Some("lease_runtime".to_owned());
    schema::run(&admin, &MigrateOptions { runtime_role, ..options() }).await.unwrap();
    let name = |epoch: i64| {
        let lease = lease::Lease { slot: SLOT.to_owned(), epoch };
        format!("set application_name = '{}'", lease.application_name("recorder"))
    };
    // A login of the same database, and the same login in another one.
    let stranger = database.connect_as("lease_stranger").await;
    let elsewhere = TestDatabase::with_tables().await.connect_as("lease_runtime").await;
    for epoch in [0, 1] {
        stranger.batch_execute(&name(epoch)).await.unwrap();
        elsewhere.batch_execute(&name(epoch)).await.unwrap();
        let holder = database.connect_as("lease_runtime").await;
        let lease = lease::acquire(&holder, SLOT, "successor").await.unwrap();
        assert_eq!(lease.epoch, epoch + 1);
        lease::release(&holder, &lease).await.unwrap();
    }
    stranger.batch_execute("select 1").await.unwrap();
    elsewhere.batch_execute("select 1").await.unwrap();
}

#[tokio::test]
async fn a_successor_ends_a_paused_predecessors_sessions() {
    let queue = Queue::new().await;
    let paused = queue.database.connect().await;
    let name = format!("set application_name = '{}'", queue.lease.application_name("recorder"));
    paused.batch_execute(&name).await.unwrap();
    let lock = "begin; select from walferry.lease for key share";
    paused.batch_execute(lock).await.unwrap();
    // A renewal does not wait for a transaction under way.
    lease::renew(&queue.holder, &queue.lease).await.unwrap();
    let expire = "update walferry.lease set expires_at = clock_timestamp()";
    queue.admin.batch_execute(expire).await.unwrap();
    let second = lease::acquire(&queue.database.connect().await, SLOT, "second").await.unwrap();
    assert_eq!(second.epoch, 2);
    assert!(paused.batch_execute("commit").await.is_err(), "its session was ended");
}

#[tokio::test]
async fn a_poison_row_is_recorded_altered_among_its_neighbours() {
    let queue = Queue::new().await;
    let mut recorder = queue.recorder().await;
    let mut changes: Vec<Change> = (0..20).map(|n| listing(at(0x20, n))).collect();
    let id = "00000000-0000-4000-8000-000000000001";
    changes[7] = insert(
        at(0x20, 7),
        &format!(r#"{{"id": "{id}", "a": "x\u0000y", "b": 2, "c": {{"d": 1}}}}"#),
    );
    changes[8] = insert(at(0x20, 8), &format!(r#"{{"id": "{id}", "a": 1e400000}}"#));
    changes[19] = insert(at(0x20, 19), &format!(r#"{{"id": "{id}", "a": "\ud800"}}"#));
    recorder.write(&changes, Status::Processing, Some(Lsn(0x28))).await.unwrap();
    assert_eq!(queue.statuses().await.len(), 20);
    let stored = position::load(&queue.admin, SLOT).await.unwrap().unwrap();
    assert_eq!((stored.recorded, stored.recorded_end_lsn), (at(0x20, 19), Lsn(0x28)));
    let query = "select string_agg(ordinal || ' ' || record_id || ' ' || change_data::text || ' '
            || note, E'\\n' order by ordinal)
        from elasticsearch_sync_queue where note is not null and error_message is null";
    let note = |code| {
        format!("change_data is not the row itself ({code}): values are given as escaped text")
    };
    let expected = [
        format!(
            r#"7 {id} {{"a": "\"x\\u0000y\"", "b": 2, "c": "{{\"d\": 1}}", "id": "{id}"}} {}"#,
            note("22P05")
        ),
        format!(r#"8 {id} {{"a": "1e400000", "id": "{id}"}} {}"#, note("22003")),
        format!(r#"19 {id} {{"a": "\"\\ud800\"", "id": "{id}"}} {}"#, note("22P02")),
    ];
    assert_eq!(queue.one(query).await, expected.join("\n"));
    // The note outlives the completion.
    let descriptor = pending(0, range(at(0x20, 0), at(0x20, 19)), now());
    let counts = queue
        .settler()
        .await
        .settle(&[(descriptor, Unfinished::default())], None, &[])
        .await
        .unwrap();
    assert_eq!(counts.completed, 20);
    // A key of text, which names the row in later claims, stays as it is.
    let key = format!(r"c:\{}", "x".repeat(200));
    let row = serde_json::json!({ "id": key, "a": "x\0y" }).to_string();
    let change = Change { table: TableId(1), ..insert(at(0x30, 0), &row) };
    recorder.write(&[change], Status::Pending, None).await.unwrap();
    let stored =
        "select change_data->>'id' from elasticsearch_sync_queue where commit_lsn = '0/30'";
    assert_eq!(queue.one(stored).await, key);
    let notes = "select count(*)::text from elasticsearch_sync_queue
        where note like 'change_data is not%' and error_message is null and status = 'completed'";
    assert_eq!(queue.one(notes).await, "3");
}

#[tokio::test]
async fn an_error_says_nothing_of_a_row() {
    let queue = Queue::new().await;
    let mut recorder = queue.recorder().await;
    queue.admin.batch_execute("drop table elasticsearch_sync_queue cascade;
        create table elasticsearch_sync_queue (id bigint, table_name varchar(3), operation text,
            record_id uuid, change_data jsonb, status text, error_message text, created_at timestamptz,
            commit_lsn pg_lsn, ordinal bigint, xid bigint, started_at timestamptz, epoch bigint)")
        .await
        .unwrap();
    let error = recorder.write(&[listing(at(1, 0))], Status::Pending, None).await.unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(!said.contains("lamp") && !said.contains("listings"), "{said}");
}

#[tokio::test]
async fn a_load_moves_on_with_its_tickets() {
    let queue = Queue::new().await;
    let progress = |table: &str| LoadProgress {
        table: table.into(),
        index_uuids: vec!["u1".into()],
        load_lsn: Lsn(0x100),
        load_xmax: Some(800),
        last_key: None,
        row_count: 0,
        done: false,
    };
    let loads = [progress("public.listings"), progress("public.notes")];
    load_progress::begin(&queue.holder, &queue.lease, &loads).await.unwrap();
    assert_eq!(load_progress::read(&queue.admin, SLOT).await.unwrap(), loads);
    let chunk = |last_key: Option<&str>, row_count| LoadedChunk {
        table: "public.listings".into(),
        table_name: "listings".into(),
        last_key: last_key.map(str::to_owned),
        row_count,
        rows: Arc::from([LoadedRow { record_id: Uuid::from_u128(7), key: r#"{"id":7}"#.into() }]),
        purpose: ChunkPurpose::Load,
        refused: Vec::new(),
        parked: Vec::new(),
    };
    let mut settler = queue.settler().await;
    settler.settle(&[], None, &[chunk(Some("[1]"), 5), chunk(Some("[2]"), 9)]).await.unwrap();
    let read = load_progress::read(&queue.admin, SLOT).await.unwrap();
    assert_eq!(
        (read[0].last_key.as_deref(), read[0].row_count, read[0].done),
        (Some("[2]"), 9, false)
    );
    let mut refusing = chunk(None, 9);
    let failure = Failure { job: JobKey::Loaded(0), error: "too\0 long".into() };
    refusing.leave(Unfinished::from(vec![failure]));
    let counts = settler.settle(&[], None, &[refusing]).await.unwrap();
    assert_eq!((counts.completed, counts.failed, counts.retried), (0, 1, 0));
    let job = "select concat_ws(' ', table_name, operation, record_id, change_data, status,
        retry_count, error_message, commit_lsn) from elasticsearch_sync_queue";
    let expected =
        format!("listings INSERT {} {{\"id\": 7}} failed 1 too long", Uuid::from_u128(7));
    assert_eq!(queue.one(job).await, expected);
    let counted = "select failed_jobs::text from get_elasticsearch_queue_stats()";
    assert_eq!(queue.one(counted).await, "1");
    let drift = "select count(*)::text from walferry.job_count_drift
        where (pending, processing, completed, failed, timed, seconds) <> (0, 0, 0, 0, 0, 0)";
    assert_eq!(queue.one(drift).await, "0");
    let read = load_progress::read(&queue.admin, SLOT).await.unwrap();
    assert_eq!((read[0].row_count, read[0].done, read[1].done), (9, true, false));
}

#[tokio::test]
async fn read_ahead_never_goes_back() {
    let queue = Queue::new().await;
    for lsn in [0x100, 0x80] {
        position::raise_read_ahead(&queue.holder, &queue.lease, Lsn(lsn)).await.unwrap();
    }
    let settlement = position::load_settlement(&queue.admin, SLOT).await.unwrap();
    assert_eq!(settlement, Settlement { settled_lsn: Lsn(0), read_ahead_lsn: Lsn(0x100) });
}

#[tokio::test]
async fn rows_caught_by_the_default_part_move_when_their_day_is_made() {
    let queue = Queue::new().await;
    let foreign = "insert into elasticsearch_sync_queue
            (table_name, operation, record_id, change_data, created_at)
        select 'listings', 'INSERT', gen_random_uuid(), '{}', now() + n * interval '1 day'
        from generate_series(3, 5) n";
    queue.admin.batch_execute(foreign).await.unwrap();
    assert_eq!(queue.one("select count(*)::text from walferry.queue_default").await, "2");
    assert_eq!(partitions::make(&queue.admin, None, 4).await.unwrap(), 1);
    assert_eq!(partitions::make(&queue.admin, None, 4).await.unwrap(), 0);
    assert_eq!(queue.one("select count(*)::text from walferry.queue_default").await, "1");
    let parts = "select count(distinct tableoid)::text from elasticsearch_sync_queue";
    assert_eq!(queue.one(parts).await, "3");
    assert_eq!(queue.one("select count(*)::text from elasticsearch_sync_queue").await, "3");
}

/// Index entries read on the queue by sessions that have ended, and rows updated.
const READ_AND_UPDATED: &str = "
    select (select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes
            where relid in (select relid from pg_partition_tree('public.elasticsearch_sync_queue')))::bigint,
        (select coalesce(sum(n_tup_upd), 0) from pg_stat_user_tables
         where relid in (select relid from pg_partition_tree('public.elasticsearch_sync_queue')))::bigint";

struct Counters {
    read: i64,
    updated: i64,
}

async fn counters(queue: &Queue) -> Counters {
    let row = queue.admin.query_one(READ_AND_UPDATED, &[]).await.unwrap();
    Counters { read: row.get(0), updated: row.get(1) }
}

/// A session reports its counters at the latest when it ends.
async fn updates_are_known(queue: &Queue, updates: i64) {
    eventually(Duration::from_secs(30), "the session's counters are known", async || {
        let updated = counters(queue).await.updated;
        if updated >= updates { Ok(()) } else { Err(format!("{updated} of {updates} updates")) }
    })
    .await;
}

#[tokio::test]
async fn the_queries_of_an_idle_feed_do_not_read_parked_jobs() {
    let queue = Queue::new().await;
    let fill = "set session_replication_role = replica;
        insert into elasticsearch_sync_queue
            (table_name, operation, record_id, change_data, status, commit_lsn, ordinal, waits_for)
        select 'listings', 'INSERT', gen_random_uuid(), '{}', 'pending', '0/20', n, 'a'
        from generate_series(1, 50000) n;
        update walferry.position set recorded_lsn = '0/30';
        analyze elasticsearch_sync_queue";
    queue.admin.batch_execute(fill).await.unwrap();
    let before = counters(&queue).await;
    let mut claimer = queue.claimer().await;
    assert!(claimer.due(at(0x30, 0), 500).await.unwrap().is_empty());
    assert!(!claimer.any_without_position().await.unwrap());
    assert!(claimer.without_position(500).await.unwrap().is_empty());
    assert!(claimer.claim(Position::default(), None, 500).await.unwrap().is_empty());
    assert_eq!(claimer.lowest_unfinished().await.unwrap(), None);
    assert_eq!(claimer.awaited_indices().await.unwrap(), ["a"]);
    assert_eq!(claimer.release("a", 1).await.unwrap(), 1);
    drop(claimer);
    updates_are_known(&queue, before.updated + 1).await;
    let read = counters(&queue).await.read - before.read;
    assert!(read <= 1_000, "{read} index entries were read for one job");
}

#[tokio::test]
async fn settling_a_part_of_a_large_transaction_reads_that_part_only() {
    const ROWS: u64 = 300_000;
    const LARGE: u64 = 0x5000;
    let queue = Queue::new().await;
    let time = now();
    let fill = format!(
        "set session_replication_role = replica;
        insert into elasticsearch_sync_queue
            (table_name, operation, record_id, change_data, status, created_at, commit_lsn, ordinal)
        select 'listings', 'INSERT', gen_random_uuid(), '{{}}'::jsonb, 'processing',
            to_timestamp({time} / 1e6), '0/0'::pg_lsn + {LARGE}, n
        from generate_series(0, {ROWS} - 1) n
        union all
        select 'listings', 'INSERT', gen_random_uuid(), '{{}}'::jsonb, 'processing',
            to_timestamp({time} / 1e6), '0/0'::pg_lsn + {LARGE} + n, 0
        from generate_series(-100, 100) n where n <> 0;
        analyze elasticsearch_sync_queue"
    );
    queue.admin.batch_execute(&fill).await.unwrap();
    let ranges = [
        ("within it", at(LARGE, 10_000), at(LARGE, 11_999), 2_000),
        ("up to it", at(LARGE - 50, 0), at(LARGE, 1_499), 1_550),
        ("from it on", at(LARGE, ROWS - 1_000), at(LARGE + 40, 0), 1_040),
        ("after it", at(LARGE + 41, 0), at(LARGE + 90, 0), 50),
    ];
    for (name, first, last, jobs) in ranges {
        let before = counters(&queue).await;
        let mut settler = queue.settler().await;
        let batch = (pending(1, range(first, last), time), Unfinished::default());
        let counts = settler.settle(&[batch], None, &[]).await.unwrap();
        assert_eq!(counts.completed, jobs, "{name}");
        drop(settler);
        updates_are_known(&queue, before.updated + i64::try_from(jobs).unwrap()).await;
        let read = counters(&queue).await.read - before.read;
        assert!(read <= 4_000, "{name}: {read} index entries were read for {jobs} jobs");
    }
}

/// The plan of each statement, by a word for it; the servers' choice on a filled table.
async fn plan(client: &Client, query: &str) -> String {
    let rows = client.query(&format!("explain (costs off) {query}"), &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn queries_use_their_indexes_and_only_the_days_they_need() {
    let queue = Queue::new().await;
    let fill = "insert into elasticsearch_sync_queue
            (table_name, operation, record_id, change_data, status, created_at, commit_lsn, ordinal)
        select 'listings', 'INSERT', gen_random_uuid(), '{}',
            case when n % 1000 = 0 then 'pending' when n > 19900 then 'processing' else 'completed' end,
            now() - (20000 - n) * interval '4 s', '0/0'::pg_lsn + n::numeric, 0
        from generate_series(1, 20000) n;
        analyze elasticsearch_sync_queue";
    queue.admin.batch_execute(fill).await.unwrap();
    let mut plans = BTreeMap::new();
    for (name, query) in [
        (
            "oldest pending",
            "select * from elasticsearch_sync_queue where status = 'pending' order by created_at limit 10",
        ),
        (
            "unfinished",
            "select * from elasticsearch_sync_queue where status in ('pending', 'processing')",
        ),
        (
            "failed",
            "select * from elasticsearch_sync_queue where status = 'failed' and retry_count >= 3",
        ),
        (
            "history",
            "select * from elasticsearch_sync_queue where table_name = 'listings' \
             and record_id = '00000000-0000-4000-8000-000000000001'",
        ),
    ] {
        plans.insert(name, plan(&queue.admin, query).await);
    }
    let filled = "select distinct relname::text from elasticsearch_sync_queue q
        join pg_class c on c.oid = q.tableoid";
    let filled = queue.admin.query(filled, &[]).await.unwrap();
    for (name, plan) in &plans {
        for part in &filled {
            let whole = format!("Seq Scan on {}", part.get::<_, String>(0));
            assert!(!plan.contains(&whole), "{name}:\n{plan}");
        }
    }
}
