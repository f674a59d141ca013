//! The slot's stream against a real server: feedback, idling, shutdown, and what must not be
//! silent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use walferry::change::Lsn;
use walferry::config::{Database, SslMode};
use walferry::engine::control::Control;
use walferry::engine::wal::{
    Captured, CapturedChunk, Ports, Replication, StreamError, StreamSettings, StreamStats,
    StreamTable, Tables, run,
};
use walferry::postgres::catalog::slot;
use walferry::postgres::{ConnectError, Disposition, Recovery, connect};

use crate::support::launcher::{note, signal};
use crate::support::postgres::POSTGRES_15;
use crate::support::{Postgres, Sql, eventually};

/// So short that a second without feedback costs the connection.
const SETTINGS: &[(&str, &str)] = &[("wal_sender_timeout", "1s")];
const LIMIT: Duration = Duration::from_secs(30);

struct Stream {
    output: mpsc::Receiver<CapturedChunk>,
    durable: watch::Sender<Lsn>,
    shutdown: CancellationToken,
    stats: Arc<StreamStats>,
    ended: JoinHandle<Result<(), StreamError>>,
}

fn database(server: &Postgres) -> Database {
    Database {
        connect: server.url("postgres").parse().unwrap(),
        ssl_mode: SslMode::Prefer,
        root_certificates: None,
        connect_timeout: LIMIT,
    }
}

/// A server with a published table `a`, a slot, and the stream of it from its start.
async fn begin(publication: &str, idle_step: u64, room: usize) -> (Postgres, Sql, Stream) {
    let server = Postgres::private(SETTINGS).await;
    let sql = server.connect("postgres").await;
    follow(server, sql, publication, idle_step, room).await
}

/// The same with a setting of the role.
async fn begin_on(
    settings: &'static [(&'static str, &'static str)],
    of_role: &str,
) -> (Postgres, Sql, Stream) {
    let server = Postgres::private(settings).await;
    let sql = server.connect("postgres").await;
    sql.run(&format!("alter role postgres set {of_role}")).await;
    follow(server, sql, "walferry", 0, 16).await
}

async fn follow(
    server: Postgres,
    sql: Sql,
    publication: &str,
    idle_step: u64,
    room: usize,
) -> (Postgres, Sql, Stream) {
    sql.run("create table a (id int primary key, t text); create table b (t text)").await;
    sql.run("create publication walferry for table a").await;
    let database = database(&server);
    let start = Replication::connect(&database, "test").await.unwrap();
    let start = { start }.create_slot("walferry").await.unwrap();
    let replication = Replication::connect(&database, "test").await.unwrap();
    let stream = replication.start("walferry", start, publication).await.unwrap();
    let catalog = walferry::postgres::connect(&database, "test").await.unwrap().client;
    let catalog = Arc::new(catalog);
    let (durable, durable_rx) = watch::channel(start);
    let (output_tx, output) = mpsc::channel(room);
    let (shutdown, stats) = (CancellationToken::new(), Arc::new(StreamStats::default()));
    let ports = Ports {
        watch: Arc::clone(&catalog),
        catalog,
        durable: durable_rx,
        control: watch::Sender::<Control>::default().subscribe(),
        output: output_tx,
        shutdown: shutdown.clone(),
        stats: Arc::clone(&stats),
        metrics: walferry::telemetry::metrics::Metrics::new().source,
        waits: walferry::telemetry::waits::Waits::default(),
        memory: walferry::ack::memory::Memory::default(),
    };
    let tables = Tables::new(vec![StreamTable::by_name("public", "a")]);
    let settings = StreamSettings { idle_step, ..StreamSettings::default() };
    let ended = tokio::spawn(run(stream, tables, settings, ports));
    (server, sql, Stream { output, durable, shutdown, stats, ended })
}

/// Everything up to the next commit: how many changes, and its end.
async fn commit(stream: &mut Stream) -> (usize, Lsn) {
    let mut changes = 0;
    loop {
        for captured in stream.output.recv().await.expect("the stream goes on").items {
            match captured {
                Captured::Change(_) => changes += 1,
                Captured::Commit { end_lsn, .. } => return (changes, end_lsn),
                Captured::Idle { .. } => {}
            }
        }
    }
}

async fn confirmed(sql: &Sql) -> Lsn {
    slot::inspect(sql, "walferry").await.unwrap().unwrap().confirmed_flush
}

#[tokio::test]
async fn a_blocked_output_costs_neither_the_connection_nor_a_row() {
    let (_server, sql, mut stream) = begin("walferry", 0, 1).await;
    sql.run("insert into a select g, repeat('x', 500) from generate_series(1, 20000) g").await;
    let walsender = "select active_pid from pg_replication_slots";
    let before: Option<i32> = sql.value(walsender, &[]).await;
    // Five times wal_sender_timeout, at three feedbacks in each.
    eventually(LIMIT, "feedback goes on", async || {
        match stream.stats.feedbacks.load(Ordering::Relaxed) {
            15.. => Ok(()),
            sent => Err(format!("{sent} sent")),
        }
    })
    .await;
    let start = *stream.durable.borrow();
    assert_eq!(confirmed(&sql).await, start, "nothing is acknowledged that is not durable");
    let (changes, end) = commit(&mut stream).await;
    assert_eq!(changes, 20000);
    assert_eq!(sql.value::<Option<i32>>(walsender, &[]).await, before, "the same connection");
    stream.durable.send(end).unwrap();
    eventually(LIMIT, "the commit is acknowledged", async || match confirmed(&sql).await {
        lsn if lsn == end => Ok(()),
        lsn => Err(lsn.to_string()),
    })
    .await;
}

/// As PostgreSQL 14 and 15 are while they skip a large transaction. Here the sender waits for a
/// lock: no answer comes, and nothing is wrong with the connection.
#[tokio::test]
async fn a_silent_sender_that_is_busy_is_waited_for() {
    let (server, sql, mut stream) = begin("walferry", 0, 16).await;
    let other = server.connect("postgres").await;
    other
        .run("begin; lock table pg_publication, pg_publication_rel in access exclusive mode")
        .await;
    sql.run("insert into a values (1, 'x')").await;
    let blocked = "select count(*) from pg_stat_activity
        where backend_type = 'walsender' and wait_event_type = 'Lock'";
    eventually(LIMIT, "the sender waits for the lock", async || {
        let found: i64 = sql.value(blocked, &[]).await;
        if found == 1 { Ok(()) } else { Err(format!("{found} do")) }
    })
    .await;
    // Several times wal_sender_timeout.
    sql.run("select pg_sleep(5)").await;
    assert!(!stream.ended.is_finished(), "the stream goes on");
    other.run("rollback").await;
    assert_eq!(commit(&mut stream).await.0, 1);
}

/// A server before 16 says nothing while it skips what a REFRESH wrote.
#[tokio::test]
async fn a_refresh_that_postgresql_15_skips_is_got_past() {
    /// Enough for several times wal_sender_timeout.
    const SKIPPED_ROWS: u32 = 3_000_000;
    let server = Postgres::private_of(Some(POSTGRES_15), SETTINGS).await;
    let sql = server.connect("postgres").await;
    let (_server, sql, mut stream) = follow(server, sql, "walferry", 0, 16).await;
    sql.run(&format!(
        "create materialized view m as select from generate_series(1, {SKIPPED_ROWS}) with no data"
    ))
    .await;
    sql.run("refresh materialized view m").await;
    let begun = tokio::time::Instant::now();
    sql.run("insert into a values (1, 'x')").await;
    while commit(&mut stream).await.0 == 0 {}
    note(&format!("{SKIPPED_ROWS} rows were skipped in {:?}", begun.elapsed()));
}

#[tokio::test]
async fn a_sender_that_is_gone_ends_the_stream() {
    let (_server, sql, stream) = begin("walferry", 0, 16).await;
    sql.run("select pg_terminate_backend(active_pid) from pg_replication_slots").await;
    let error = stream.ended.await.unwrap().unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
}

#[tokio::test]
async fn an_idle_table_in_a_busy_database_retains_no_wal() {
    let (_server, sql, mut stream) = begin("walferry", 1 << 20, 16).await;
    sql.run("insert into b select repeat('x', 1000) from generate_series(1, 20000)").await;
    let written: String = sql.value("select pg_current_wal_lsn()::text", &[]).await;
    let written: Lsn = written.parse().unwrap();
    let mut marked = Lsn(0);
    while written.0 - marked.0.min(written.0) >= 1 << 20 {
        for captured in stream.output.recv().await.expect("the stream goes on").items {
            let Captured::Idle { wal_end } = captured else { panic!("{captured:?}") };
            assert!(wal_end.0 >= marked.0 + (1 << 20));
            marked = wal_end;
            stream.durable.send(marked).unwrap();
        }
    }
    eventually(LIMIT, "the slot follows", async || match confirmed(&sql).await {
        lsn if lsn == marked => Ok(()),
        lsn => Err(lsn.to_string()),
    })
    .await;
}

#[tokio::test]
async fn shutdown_acknowledges_what_has_just_become_durable() {
    let (_server, sql, mut stream) = begin("walferry", 0, 16).await;
    sql.run("insert into a values (1, 'x')").await;
    let (changes, end) = commit(&mut stream).await;
    assert_eq!(changes, 1);
    stream.durable.send(end).unwrap();
    stream.shutdown.cancel();
    stream.ended.await.unwrap().unwrap();
    eventually(LIMIT, "the walsender has gone", async || {
        let slot = slot::inspect(&sql, "walferry").await.unwrap().unwrap();
        slot.active_pid.map_or(Ok(()), |pid| Err(format!("{pid} reads it")))
    })
    .await;
    assert_eq!(confirmed(&sql).await, end);
}

#[tokio::test]
async fn a_publication_that_is_missing_is_an_error_and_not_a_silent_stream() {
    let (_server, sql, stream) = begin("nowhere", 0, 16).await;
    sql.run("insert into a values (1, 'x')").await;
    let error = stream.ended.await.unwrap().unwrap_err();
    assert_eq!(error.disposition(), Disposition::Operator, "{error}");
    assert!(error.to_string().contains("walferry migrate"), "{error}");
}

/// What a role may set, and what a session of walferry has all the same.
const NEUTRALISED: &[(&str, &str, &str)] = &[
    ("default_transaction_isolation", "serializable", "read committed"),
    ("default_transaction_deferrable", "on", "off"),
    ("lock_timeout", "1s", "0"),
    ("statement_timeout", "1s", "0"),
    ("idle_session_timeout", "1s", "0"),
    ("idle_in_transaction_session_timeout", "1s", "0"),
    ("transaction_timeout", "1s", "0"),
    ("datestyle", "German", "ISO, MDY"),
    ("intervalstyle", "sql_standard", "postgres"),
    ("extra_float_digits", "-10", "3"),
    ("bytea_output", "escape", "hex"),
    ("timezone", "Asia/Tokyo", "UTC"),
    ("standard_conforming_strings", "off", "on"),
    ("synchronous_commit", "off", "on"),
];

#[tokio::test]
async fn sessions_set_what_they_rely_on() {
    let server = Postgres::private(&[]).await;
    let sql = server.connect("postgres").await;
    for (name, value, _) in NEUTRALISED {
        sql.run(&format!("alter role postgres set {name} = '{value}'")).await;
    }
    sql.run("alter role postgres set wal_sender_timeout = '6h'").await;
    let database = database(&server);
    let session = connect(&database, "test").await.unwrap();
    let mut replication = Replication::connect(&database, "test").await.unwrap();
    for (name, _, expected) in NEUTRALISED {
        let show = format!("show {name}");
        let found: String = session.client.query_one(&show, &[]).await.unwrap().get(0);
        assert_eq!(found, *expected, "{name} of a session");
        let rows = replication.query(&show).await.unwrap();
        assert_eq!(rows[0][0].as_deref(), Some(*expected), "{name} of a replication session");
    }
    let rows = replication.query("show wal_sender_timeout").await.unwrap();
    assert_eq!(rows[0][0].as_deref(), Some("1min"));
}

#[tokio::test]
async fn a_silent_host_leaves_the_next_one_its_share_of_the_time() {
    let server = Postgres::private(&[]).await;
    // It accepts connections, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://postgres@127.0.0.1:{port},127.0.0.1:{}/postgres", server.port);
    let database = Database {
        connect: url.parse().unwrap(),
        connect_timeout: Duration::from_secs(3),
        ..database(&server)
    };
    let begun = tokio::time::Instant::now();
    let session = connect(&database, "test").await.expect("the second host answers");
    session.client.simple_query("select 1").await.unwrap();
    Replication::connect(&database, "test").await.expect("the second host answers");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_setting_that_forbids_writing_is_named() {
    let server = Postgres::private(&[]).await;
    let sql = server.connect("postgres").await;
    sql.run("alter role postgres set default_transaction_read_only = on").await;
    let closed = crate::support::launcher::free_port();
    let url = format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{closed}/postgres", server.port);
    let database = Database { connect: url.parse().unwrap(), ..database(&server) };
    let error: ConnectError = connect(&database, "test").await.expect_err("no host takes writes");
    let sentence = error.to_string();
    assert!(sentence.contains("default_transaction_read_only is on (set by: user)"), "{sentence}");
    assert!(sentence.contains(&format!("127.0.0.1:{closed}")), "{sentence}");
    assert_eq!(error.disposition(), Disposition::Retry, "{sentence}");
}

/// The network is silent, and the role's patience is 6 hours.
#[tokio::test]
async fn silence_is_noticed_within_a_minute_whatever_the_role_says() {
    let (server, sql, stream) = begin_on(&[], "wal_sender_timeout = '6h'").await;
    let pid: i32 = sql.value("select active_pid from pg_replication_slots", &[]).await;
    let pid = u32::try_from(pid).unwrap();
    signal(pid, "STOP");
    let ended = tokio::time::timeout(Duration::from_secs(60), stream.ended).await;
    signal(pid, "CONT");
    let error = ended.expect("the silence is noticed").unwrap().unwrap_err();
    assert!(matches!(error, StreamError::Silent(_)), "{error}");
    drop(server);
}
