//! `synchronous_standby_names` that match walferry: no commit may wait for it. A standby that is gone:
//! walferry's own commits wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use walferry::change::Lsn;
use walferry::config::{Database, SslMode};
use walferry::engine::control::Control;
use walferry::engine::wal::{
    Captured, Ports, Replication, StreamSettings, StreamStats, StreamTable, Tables, run,
};

use super::RECOVERY_MAX;
use crate::scene::{Scene, get, status, until};
use crate::support::postgres::POSTGRES_15;
use crate::support::{Servers, TestBed, eventually};

const SENDERS: &str =
    "select count(*) from pg_stat_replication where application_name like 'walferry/%'";

#[tokio::test(flavor = "multi_thread")]
async fn walferry_is_no_synchronous_standby() {
    is_no_synchronous_standby(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn walferry_is_no_synchronous_standby_of_postgresql_15() {
    is_no_synchronous_standby(Some(POSTGRES_15)).await;
}

async fn is_no_synchronous_standby(version: Option<&'static str>) {
    let servers = Servers::private_postgres_of(version, &[]).await;
    let scene = Scene::on(TestBed::on("synchronous", servers).await).await;
    let mut walferry = scene.ready().await;
    let replica = Replica::start(&scene).await;
    // Both match, of equal priority; the server chooses the one that came first.
    set_names(&scene, "'*'").await;
    eventually(RECOVERY_MAX, "it says what to do", async || {
        let (code, body) = get(&walferry, "/readyz").await;
        let text = format!("{body:?}");
        if code == 503 && text.contains("synchronous_standby_names") { Ok(()) } else { Err(text) }
    })
    .await;
    assert_eq!(scene.number(SENDERS).await, 0, "it does not stream");
    // The other standby confirms it: a commit that waits for walferry would hold this up for ever.
    let commit =
        scene.sql("insert into categories (id, name, slug) values (gen_random_uuid(), 'a', 'a')");
    tokio::time::timeout(RECOVERY_MAX, commit).await.expect("the commit ends");
    let (code, output) = scene.bed.walferry_once(&["check"], Duration::from_secs(30)).await;
    assert!(code != 0 && output.contains("makes walferry a synchronous standby"), "{output}");
    let (code, output) = scene.bed.walferry_once(&["run", "--once"], RECOVERY_MAX).await;
    assert_eq!(code, 3, "{output}");

    set_names(&scene, "'FIRST 1 (replica1)'").await;
    scene.settled(RECOVERY_MAX).await;
    until(RECOVERY_MAX, "it is ready again", async || {
        status(&walferry, "/readyz").await == Some(200)
    })
    .await;
    scene.assert_true().await;
    let sync = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    assert_eq!(scene.number(sync).await, 1, "the replica");
    set_names(&scene, "''").await;
    walferry.stop().await;
    replica.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_synchronous_standby_nothing_is_ready() {
    let scene = Scene::with_own_postgres("standby_gone", &[]).await;
    let mut walferry = scene.ready().await;
    set_names(&scene, "'gone'").await;
    eventually(RECOVERY_MAX, "it says that commits are not confirmed", async || {
        let (code, body) = get(&walferry, "/readyz").await;
        let text = format!("{body:?}");
        if code == 503 && text.contains("synchronous_standby_names") { Ok(()) } else { Err(text) }
    })
    .await;
    set_names(&scene, "''").await;
    until(RECOVERY_MAX, "it is ready again", async || {
        status(&walferry, "/readyz").await == Some(200)
    })
    .await;
    let change = "insert into categories (id, name, slug) values (gen_random_uuid(), 'a', 'a')";
    scene.sql(change).await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}

async fn set_names(scene: &Scene, names: &str) {
    scene.sql(&format!("alter system set synchronous_standby_names = {names}")).await;
    scene.sql("select pg_reload_conf()").await;
}

/// A standby that confirms all that it receives.
struct Replica {
    stop: CancellationToken,
}

impl Replica {
    async fn start(scene: &Scene) -> Replica {
        let database = Database {
            connect: scene.database(),
            ssl_mode: SslMode::Prefer,
            root_certificates: None,
            connect_timeout: RECOVERY_MAX,
        };
        let start = Replication::connect(&database, "replica1").await.expect("it connects");
        let start = { start }.create_slot("replica1").await.expect("a slot");
        let replication = Replication::connect(&database, "replica1").await.expect("it connects");
        let stream = replication.start("replica1", start, "walferry").await.expect("it streams");
        let catalog = walferry::postgres::connect(&database, "test").await.expect("it connects");
        let catalog = Arc::new(catalog.client);
        let (durable_sender, durable) = watch::channel(start);
        let (output, mut received) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let ports = Ports {
            watch: Arc::clone(&catalog),
            catalog,
            durable,
            control: watch::Sender::<Control>::default().subscribe(),
            output,
            shutdown: stop.clone(),
            stats: Arc::new(StreamStats::default()),
            metrics: walferry::telemetry::metrics::Metrics::new().source,
            waits: walferry::telemetry::waits::Waits::default(),
            memory: walferry::ack::memory::Memory::default(),
        };
        let tables = ["listings", "profiles", "categories"];
        let tables = tables.map(|table| StreamTable::by_name("public", table));
        let settings = StreamSettings { idle_step: 0, ..StreamSettings::default() };
        tokio::spawn(run(stream, Tables::new(tables.to_vec()), settings, ports));
        tokio::spawn(async move {
            while let Some(chunk) = received.recv().await {
                let end = chunk.items.iter().filter_map(end_of).max();
                durable_sender.send_modify(|known| *known = end.unwrap_or_default().max(*known));
            }
        });
        Replica { stop }
    }
}

fn end_of(captured: &Captured) -> Option<Lsn> {
    match captured {
        Captured::Change(_) => None,
        Captured::Commit { end_lsn, .. } => Some(*end_lsn),
        Captured::Idle { wal_end } => Some(*wal_end),
    }
}
