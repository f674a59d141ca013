//! The statistics equal the rows, whoever edits them and however: the function's answer is compared
//! with a full count of the same snapshot.
//!
//! Not here: how long the function takes.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_util::SinkExt;
use tokio_postgres::Client;
use walferry::ack::batch::{Failure, JobKey};
use walferry::ack::job_set::JobSet;
use walferry::change::Position;
use walferry::storage::queue::maintain::Maintainer;
use walferry::storage::queue::status::Status;

use crate::migrations::TestDatabase;
use crate::queue_storage::{Queue, at, listing, now, pending, range};

/// What the function says and what the rows say, where they differ; one statement, one snapshot.
const DIFFERENCE: &str = "select nullif(said, counted) || ' is not ' || counted from (
        select concat_ws(' ', total_jobs, pending_jobs, processing_jobs, completed_jobs, failed_jobs,
            round(avg_processing_time, 3), extract(epoch from last_processed_at)) as said
        from get_elasticsearch_queue_stats()) s, (
        select concat_ws(' ', count(*), count(*) filter (where status = 'pending'),
            count(*) filter (where status = 'processing'),
            count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed'),
            round(coalesce(avg(extract(epoch from processed_at - created_at) * 1000)
                filter (where status in ('completed', 'failed')), 0), 3),
            extract(epoch from max(processed_at) filter (where status in ('completed', 'failed'))))
            as counted
        from elasticsearch_sync_queue) c";

/// `None` where all is well.
pub(crate) async fn difference(client: &Client) -> Option<String> {
    client.query_one(DIFFERENCE, &[]).await.unwrap().get(0)
}

#[track_caller]
fn assert_exact(client: &Client) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        assert_eq!(difference(client).await, None, "{caller}");
    }
}

/// Where a statement may go: the whole table or one of its parts.
const TABLES: [&str; 5] = [
    "elasticsearch_sync_queue",
    "elasticsearch_sync_queue",
    "elasticsearch_sync_queue",
    "walferry.queue_default",
    "walferry.queue_pDAY",
];

fn insert(table: &str, rows: u32, extra: &str) -> String {
    format!(
        "insert into {table} (table_name, operation, record_id, change_data, status, created_at, processed_at)
        select 'foreign', 'INSERT', gen_random_uuid(), '{{}}',
            (array['pending', 'processing', 'completed', 'failed'])[1 + floor(random() * 4)::int],
            t, case when random() < 0.7 then t + random() * interval '1 hour' end
        from generate_series(1, {rows}),
            lateral (select case '{table}'
                when 'walferry.queue_default' then timestamptz '2001-02-03Z' + random() * interval '9 days'
                when 'walferry.queue_pDAY' then now()
                else now() + (random() * 9 - 4) * interval '1 day' end) x (t) {extra}"
    )
}

/// One random edit of foreign rows. Some fail, which must not matter.
fn edit(rng: &mut Rng) -> String {
    let table = TABLES[rng.usize(..TABLES.len())];
    let some = format!("table_name = 'foreign' and id % {} = {}", 7, rng.u32(..7));
    match rng.u32(..13) {
        0..=2 => insert(table, rng.u32(1..40), ""),
        3 => insert(table, 5, "on conflict do nothing"),
        4 => format!(
            "update {table} set status = (array['pending', 'processing', 'completed', 'failed'])[1 + id % 4],
                processed_at = case when id % 3 > 0 then created_at + interval '2 s' end where {some}"
        ),
        5 => format!("update {table} set processed_at = null where {some}"),
        6 => format!("update {table} set retry_count = retry_count + 1 where {some}"),
        7 => format!(
            "update elasticsearch_sync_queue
            set created_at = created_at + interval '{} hours' where {some}",
            rng.i32(-40..40)
        ),
        8 => format!("delete from {table} where {some} and id % 2 = 0"),
        9 => format!(
            "merge into elasticsearch_sync_queue q
            using (select id, created_at from elasticsearch_sync_queue where {some}) s
            on q.id = s.id and q.created_at = s.created_at
            when matched and q.status = 'failed' then delete
            when matched then update set status = 'failed', processed_at = q.created_at
            when not matched then do nothing"
        ),
        10 => format!(
            "insert into elasticsearch_sync_queue (id, table_name, operation, record_id, change_data, created_at)
            select id, table_name, operation, record_id, change_data, created_at
            from elasticsearch_sync_queue where {some}
            on conflict (id, created_at) do update set status = 'completed', processed_at = now()"
        ),
        11 => format!("with gone as (delete from {table} where {some} returning *)
            insert into elasticsearch_sync_queue select * from gone where id % 2 = 0"),
        _ if rng.u32(..4) == 0 => format!("truncate {table}"),
        _ => "set constraints all immediate".to_owned(),
    }
    .replace("DAY", &part_day(0))
}

/// Today and some days more or less, as parts are named.
fn part_day(days: i64) -> String {
    let day = now().div_euclid(86_400_000_000) + days;
    // Civil date from a day number, after Howard Hinnant.
    let z = day + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * march + 2) / 5 + 1, (march + 2) % 12 + 1);
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}")
}

/// A transaction of random edits, some behind savepoints, some rolled back as a whole.
async fn transaction(client: &Client, rng: &mut Rng) -> Result<(), tokio_postgres::Error> {
    let isolation = ["read committed", "read committed", "repeatable read"][rng.usize(..3)];
    client.batch_execute(&format!("begin isolation level {isolation}")).await?;
    for _ in 0..rng.u32(1..6) {
        let savepoint = rng.bool();
        if savepoint {
            client.batch_execute("savepoint s").await?;
        }
        let outcome = client.batch_execute(&edit(rng)).await;
        match savepoint {
            true if outcome.is_err() || rng.u32(..3) == 0 => {
                client.batch_execute("rollback to s").await?;
            }
            true => client.batch_execute("release s").await?,
            false => outcome?,
        }
        if isolation == "read committed" {
            // Its own edits are in what it sees. A statement that waits for a part while rows move
            // into a new one misses them, so the lock comes first.
            let hold = "lock table elasticsearch_sync_queue in access share mode";
            client.batch_execute(hold).await?;
            let answer: Option<String> = client.query_one(DIFFERENCE, &[]).await?.get(0);
            assert_eq!(answer, None, "within a transaction");
        }
    }
    client.batch_execute(if rng.u32(..4) == 0 { "rollback" } else { "commit" }).await
}

/// Random edits from one session. Deadlocks and failed snapshots end a transaction, no more.
async fn foreign_edits(database: &TestDatabase, seed: u64) {
    let (client, mut rng) = (database.connect().await, Rng::with_seed(seed));
    for _ in 0..60 {
        if transaction(&client, &mut rng).await.is_err() {
            client.batch_execute("rollback").await.unwrap();
        }
    }
    copy_in(&client).await;
}

async fn copy_in(client: &Client) {
    let copy =
        "copy elasticsearch_sync_queue (table_name, operation, record_id, change_data, status)
        from stdin";
    let mut sink = pin!(client.copy_in::<_, Bytes>(copy).await.unwrap());
    let row = "foreign\tINSERT\t00000000-0000-4000-8000-000000000001\t{}\tprocessing\n";
    sink.send(Bytes::from(row.repeat(300))).await.unwrap();
    sink.finish().await.unwrap();
}

/// Walferry's own part: what the recorder writes is claimed or not, and settled. A deadlock with
/// the other sessions costs one step.
async fn walferry_works(queue: &Queue) {
    let (mut recorder, mut settler, mut claimer) =
        (queue.recorder().await, queue.settler().await, queue.claimer().await);
    for n in 1..60_u64 {
        let changes: Vec<_> = (0..40).map(|ordinal| listing(at(n, ordinal))).collect();
        let live = n % 3 > 0;
        let status = if live { Status::Processing } else { Status::Pending };
        if recorder.write(&changes, status, None).await.is_err() {
            recorder = queue.recorder().await;
            continue;
        }
        let (jobs, job) = if live {
            (range(at(n, 0), at(n, 39)), JobKey::At(at(n, 7)))
        } else {
            let jobs = claimer.claim(Position::default(), None, 30).await.unwrap_or_default();
            let ids: Vec<i64> = jobs.iter().map(|job| job.id).collect();
            (JobSet::Ids(ids.clone()), JobKey::Id(ids.first().copied().unwrap_or(-1)))
        };
        let failures = vec![Failure { job, error: "refused".into() }];
        drop(settler.settle(&[(pending(n, jobs, now()), failures.into())], None, &[]).await);
    }
    drop(claimer.reset_orphans().await);
}

/// Passes over the parts and recounts, which must never find the counts off.
async fn maintenance(queue: &Queue) {
    let client = queue.database.connect().await;
    for n in 0..6 {
        let maintainer = Maintainer::begin(&client, Some(&queue.lease)).await.unwrap();
        drop(maintainer.run(Duration::from_secs(3600 * 24 * n)).await);
        if let Ok(off) = maintainer.recount(true).await {
            assert_eq!(off, 0, "the counts were off in the middle of it");
        }
        maintainer.release().await.unwrap();
    }
}

#[tokio::test]
async fn the_counts_equal_the_rows_after_any_edits_by_many_sessions() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let queue = Queue::new().await;
    let database = &queue.database;
    tokio::join!(
        foreign_edits(database, seed),
        foreign_edits(database, seed + 1),
        foreign_edits(database, seed + 2),
        walferry_works(&queue),
        maintenance(&queue),
    );
    assert_exact(&queue.admin).await;
    let rows = "select count(*)::int from elasticsearch_sync_queue";
    assert!(queue.admin.query_one(rows, &[]).await.unwrap().get::<_, i32>(0) > 100);
    // Sessions do not pile up rows of counts: those of other sessions become one a day.
    let maintainer = Maintainer::begin(&queue.admin, None).await.unwrap();
    maintainer.run(Duration::from_secs(3600 * 24 * 30)).await.unwrap();
    let left = "select count(*)::int from walferry.job_count where writer like 'sql/%'";
    assert_eq!(queue.admin.query_one(left, &[]).await.unwrap().get::<_, i32>(0), 0);
    assert_exact(&queue.admin).await;
}

#[tokio::test]
async fn a_row_that_escapes_the_count_is_found_and_mended() {
    let queue = Queue::new().await;
    queue.admin.batch_execute(&insert("elasticsearch_sync_queue", 40, "")).await.unwrap();
    assert_exact(&queue.admin).await;
    let escape = format!(
        "set walferry.counted = 'on'; {}; reset walferry.counted",
        insert("elasticsearch_sync_queue", 7, "")
    );
    queue.admin.batch_execute(&escape).await.unwrap();
    assert!(difference(&queue.admin).await.is_some(), "the comparison sees a breach");
    let maintainer = Maintainer::begin(&queue.admin, None).await.unwrap();
    assert_eq!(maintainer.recount(false).await.unwrap(), 7);
    assert!(difference(&queue.admin).await.is_some(), "nothing was altered");
    assert_eq!(maintainer.recount(true).await.unwrap(), 7);
    assert_exact(&queue.admin).await;
    assert_eq!(maintainer.recount(true).await.unwrap(), 0);
}

#[tokio::test]
async fn a_role_that_may_only_edit_the_table_is_counted() {
    let queue = Queue::new().await;
    let setup = "do $$ begin create role queue_editor login bypassrls password 'secret';
            exception when duplicate_object or unique_violation then null; end $$;
        grant select, insert, update, delete on elasticsearch_sync_queue to queue_editor;
        grant usage on sequence elasticsearch_sync_queue_id_seq to queue_editor;
        create schema evil; grant usage on schema evil to queue_editor;
        create function evil.coalesce_like(text, text) returns boolean language sql as 'select true';
        create function evil.now() returns int language sql as 'select 1';
        create function evil.set_config(text, text, boolean) returns text language sql
            as $$ select 'none' $$";
    queue.admin.batch_execute(setup).await.unwrap();
    let editor = queue.database.connect_as("queue_editor").await;
    let edits = "set search_path = evil, pg_catalog, public;
        create temp table job_count (writer text, day date);
        insert into public.elasticsearch_sync_queue (table_name, operation, record_id, change_data)
            select 'notes', 'INSERT', gen_random_uuid(), '{}' from generate_series(1, 9);
        update public.elasticsearch_sync_queue set status = 'failed' where id < 4;
        delete from public.elasticsearch_sync_queue where id = 9";
    editor.batch_execute(edits).await.unwrap();
    assert_exact(&queue.admin).await;
    let counted = "select total_jobs::int, failed_jobs::int from get_elasticsearch_queue_stats()";
    let row = queue.admin.query_one(counted, &[]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (8, 3));
}

#[tokio::test]
async fn editors_do_not_wait_for_each_others_counts() {
    let queue = Queue::new().await;
    let (a, b) = (queue.database.connect().await, queue.database.connect().await);
    let insert = insert("elasticsearch_sync_queue", 1, "");
    for client in [&a, &b] {
        client.batch_execute("set lock_timeout = '1s'; begin").await.unwrap();
    }
    for client in [&a, &b, &a, &b] {
        client.batch_execute(&insert).await.unwrap();
    }
    b.batch_execute("commit").await.unwrap();
    a.batch_execute("commit").await.unwrap();
    assert_exact(&queue.admin).await;
}

#[tokio::test]
async fn edits_without_sense_do_not_break_the_statistics() {
    let queue = Queue::new().await;
    queue.admin.batch_execute(&insert("elasticsearch_sync_queue", 9, "")).await.unwrap();
    let nonsense = "update elasticsearch_sync_queue
        set created_at = (array['infinity', '-infinity', '4000-01-01', '4713-01-01 BC'])[1 + id % 4]::timestamptz,
            processed_at = (array['-infinity', '290000-01-01', 'infinity'])[1 + id % 3]::timestamptz,
            status = 'completed'";
    queue.admin.batch_execute(nonsense).await.unwrap();
    let said = "select total_jobs::int, completed_jobs::int, avg_processing_time::int
        from get_elasticsearch_queue_stats()";
    let row = queue.admin.query_one(said, &[]).await.unwrap();
    let said: [i32; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(said, [9, 9, 0], "times out of their senses are left out of the average");
    queue.admin.batch_execute("delete from elasticsearch_sync_queue").await.unwrap();
    assert_exact(&queue.admin).await;
}

#[tokio::test]
async fn a_truncate_is_counted_or_refused() {
    let queue = Queue::new().await;
    let admin = &queue.admin;
    admin.batch_execute(&insert("elasticsearch_sync_queue", 90, "")).await.unwrap();
    let part = format!("walferry.queue_p{}", part_day(0));
    let edits = format!(
        "begin; update elasticsearch_sync_queue set status = 'failed' where id % 2 = 0;
        truncate {part}, walferry.queue_default; {}; commit",
        insert("elasticsearch_sync_queue", 9, "")
    );
    admin.batch_execute(&edits).await.unwrap();
    assert_exact(admin).await;
    let stale = format!("begin isolation level repeatable read; select 1; truncate {part}; commit");
    assert!(admin.batch_execute(&stale).await.is_err());
    admin.batch_execute("rollback; truncate elasticsearch_sync_queue").await.unwrap();
    assert_exact(admin).await;
}
