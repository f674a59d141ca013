//! Locks beside an application that locks its own tables: neither side ends the other, and the
//! reason of a wait is named.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use walferry::postgres::lock::{LIMIT_WAITS, LockError, LockMode, TableLocks};

use super::{RECOVERY_MAX, ROWS, listing, listings};
use crate::scene::{Scene, until};
use crate::support::faults::Fault;

/// Locks on one table that sessions of walferry wait for.
const AWAITED: &str = "select count(*) from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where not l.granted and l.relation = 'profiles'::regclass and a.datname = current_database()
      and a.application_name like 'walferry%'";

/// Renewals that wait for nothing come within this time.
const RENEWED_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_of_the_application_is_no_victim_of_a_deadlock() {
    let scene = Scene::new("lock_order").await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 3)).await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    let migration = scene.bed.connect().await;
    // Below the default, so that in a deadlock it is this session that PostgreSQL aborts.
    migration.run("set deadlock_timeout = '500ms'").await;
    for round in 1..=3 {
        migration.run("begin; lock table profiles in access exclusive mode").await;
        // Its listings are rewritten by a read, which locks the tables in another order.
        scene.sql(&format!("update categories set name = 'Elektronik {round}'")).await;
        until(RECOVERY_MAX, "walferry waits for the table", async || {
            scene.number(AWAITED).await > 0
        })
        .await;
        migration.run("lock table listings in access exclusive mode").await;
        migration.run("commit").await;
        scene.settled(RECOVERY_MAX).await;
    }
    scene.assert_true().await;
    scene.assert_no_attempt_lost("a lock").await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_to_be_had_is_given_up_and_its_holder_is_named() {
    let scene = Scene::unwitnessed("lock_holder").await;
    let holder = scene.bed.connect().await;
    let pid: i32 = holder.value("select pg_backend_pid()", &[]).await;
    holder.run("begin; lock table categories in access exclusive mode").await;
    let session = scene.bed.connect().await;
    let locks = TableLocks {
        tables: vec!["public.listings".to_owned(), "public.categories".to_owned()],
        mode: LockMode::AccessShare,
        patience: Duration::from_millis(500),
    };
    let step =
        format!("begin; {LIMIT_WAITS}; lock table listings, categories in access share mode");
    let outcome = locks.retry(&session, || session.batch_execute(&step)).await;
    let error = outcome.expect_err("the table is locked");
    let sentence = error.to_string();
    assert!(sentence.contains(&format!("process {pid} ")), "{sentence}");
    assert!(sentence.contains("AccessExclusiveLock on categories"), "{sentence}");
    let LockError::Blocked { source, .. } = error else { panic!("{sentence}") };
    assert_eq!(source.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
    // Nothing stays locked or open behind it.
    let held: i64 = session
        .value(
            "select count(*) from pg_locks where pid = pg_backend_pid()
             and relation in ('listings'::regclass, 'categories'::regclass)",
            &[],
        )
        .await;
    assert_eq!(held, 0);
    holder.run("commit").await;
    locks.retry(&session, || session.batch_execute(&step)).await.expect("the table is free");
    session.run("rollback").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_lock_on_a_job_keeps_no_run_from_beginning() {
    let scene = Scene::new("forgotten_lock").await;
    let faults = scene.faults().await;
    scene.sql(ROWS).await;
    let mut walferry = scene.start_through(&faults, &[]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    scene.sql(&listings(1, 3)).await;
    until(RECOVERY_MAX, "they are done", async || scene.number(completed).await == 3).await;
    faults.always("/_bulk", Some(Fault::Hang));
    scene.sql("update elasticsearch_sync_queue set status = 'pending'").await;
    let processing = "select count(*) from elasticsearch_sync_queue where status = 'processing'";
    until(RECOVERY_MAX, "they are in flight", async || scene.number(processing).await == 3).await;
    walferry.kill9();
    faults.always("/_bulk", None);
    // A person looks at a job in a terminal, and leaves it.
    let forgotten = scene.bed.connect().await;
    forgotten.run("set application_name = 'forgotten'").await;
    let pid: i32 = forgotten.value("select pg_backend_pid()", &[]).await;
    let lock = format!(
        "begin; select from elasticsearch_sync_queue where record_id = '{}' for update",
        listing(2)
    );
    forgotten.run(&lock).await;
    let mut walferry = scene.start_through(&faults, &[]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.sql(&listings(4, 6)).await;
    until(RECOVERY_MAX, "all but the locked one are done", async || {
        scene.number(completed).await == 5
    })
    .await;
    assert_eq!(scene.number(processing).await, 1);
    until(RECOVERY_MAX, "health names the process", async || {
        let (_, health) = walferry.get_json("/api/v1/queue/health").await;
        let details = health["details"].as_array().expect("it lists its issues").clone();
        details.iter().any(|d| d["code"] == "lock_awaited" && d["values"]["pid"] == pid)
    })
    .await;
    let (_, status) = scene.bed.walferry_once(&["status"], Duration::from_secs(30)).await;
    assert!(status.contains(&format!("process {pid} (forgotten) holds a lock")), "{status}");
    forgotten.run("rollback").await;
    until(RECOVERY_MAX, "the last one is done", async || scene.number(completed).await == 6).await;
    scene.assert_no_attempt_lost("a lock on a job").await;
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_a_lock_while_it_begins_keeps_its_lease() {
    let scene = Scene::new("lock_at_start").await;
    scene.ready().await.stop().await;
    let renewals =
        "select n_tup_upd from pg_stat_all_tables where relid = 'walferry.lease'::regclass";
    let held = "select count(*) from walferry.lease_state where is_held";
    // What the stream is made of is read after the lease was taken.
    let blocker = scene.bed.connect().await;
    blocker.run("begin; lock table walferry.source in access exclusive mode").await;
    let mut walferry = scene.start();
    until(RENEWED_MAX, "it holds the lease", async || scene.number(held).await == 1).await;
    let before = scene.number(renewals).await;
    // For longer than the lease lasts unless renewed.
    until(RENEWED_MAX, "the lease is renewed", async || scene.number(renewals).await >= before + 6)
        .await;
    assert_eq!(scene.number(held).await, 1);
    blocker.run("commit").await;
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.sql(ROWS).await;
    scene.settled(RECOVERY_MAX).await;
    walferry.stop().await;
}
