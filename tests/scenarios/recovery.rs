//! A fault under load is over soon after its end: changes are live again, and take no longer than
//! before.
//!
//! Two databases on the same servers have a load each, so that every fault meets both. The loads are
//! a part of what was measured. Where other work makes the machine slower than it was then, the test
//! has no answer: it measures anew and repeats the fault.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::{RECOVERY_MAX, ROWS, listing, listings};
use crate::oracle;
use crate::scene::{Scene, lives, until};
use crate::support::launcher::note;
use crate::support::{ElasticsearchNode, Postgres, Servers, Sql, StopMode, TestBed, Walferry};

/// Listings of the one category, which a fan-out rewrites.
const LISTINGS: u32 = 10_000;
/// Of what was measured, the load during faults has so many hundredths.
const LOAD_PERCENT: u32 = 60;
/// Rows of one measurement, and how many of them there are. The lowest counts.
const MEASURED_ROWS: u32 = 2_000;
const MEASUREMENTS: usize = 2;
/// Elasticsearch is frozen for longer than the recorder waits for a settlement (10 s).
const FROZEN: Duration = Duration::from_secs(12);
/// After the end of a fault everything is as before within this time.
const BACK_MAX: Duration = Duration::from_secs(60);
/// So many changes in a row, in live mode, show that latency is as before.
const PROBES: usize = 3;
/// A fault is repeated so often, as other work may have slowed the machine down meanwhile.
const REPEATS_MAX: u32 = 2;

const COMPLETED: &str = "select completed_jobs from get_elasticsearch_queue_stats()";
const UNFINISHED: &str =
    "select pending_jobs + processing_jobs from get_elasticsearch_queue_stats()";

/// The form of a load.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// Transactions of a few rows, each row with one document.
    Small,
    /// A transaction each second, each row with two documents.
    Large,
}

impl Load {
    fn pause(self) -> Duration {
        Duration::from_millis(match self {
            Self::Small => 50,
            Self::Large => 1000,
        })
    }

    /// Updates `count` listings, in their order from number `first` on.
    fn statements(self, first: u32, count: u32) -> String {
        let (rows, assignment) = match self {
            Self::Small => (5, "price = coalesce(price, 0) + 1"),
            Self::Large => (count.max(1), "title = left(title, 20) || ' ' || clock_timestamp()"),
        };
        let numbers: Vec<u32> = (first..first + count).collect();
        let transaction = |numbers: &[u32]| {
            let ids = numbers.iter().map(|n| format!("'{}'", listing(1 + n % LISTINGS)));
            let ids = ids.collect::<Vec<_>>().join(", ");
            format!("begin; update listings set {assignment} where id in ({ids}); commit; ")
        };
        numbers.chunks(usize::try_from(rows).expect("few")).map(transaction).collect()
    }

    /// Writes `rows` a second until it is stopped. What could not be written while the server was
    /// down is not made up for.
    async fn write(self, url: String, rows: u32, stop: CancellationToken) {
        let mut session = None;
        let (mut begun, mut written) = (Instant::now(), 0);
        let mut pace = interval(self.pause());
        while !stop.is_cancelled() {
            pace.tick().await;
            let Some(connected) = &session else {
                session = Sql::connect(&url).await.ok();
                (begun, written) = (Instant::now(), 0);
                continue;
            };
            let due = begun.elapsed().as_millis() * u128::from(rows) / 1000;
            let due = u32::try_from(due).expect("a test of minutes");
            match connected.batch_execute(&self.statements(written, due - written)).await {
                Ok(()) => written = due,
                Err(_) => session = None,
            }
        }
    }
}

/// A fault of at most a minute.
#[derive(Clone, Copy, Debug)]
enum Fault {
    ElasticsearchFrozen,
    PostgresCrash,
    /// Its end is that of its job.
    FanOut,
}

impl Fault {
    const ALL: [Self; 3] = [Self::ElasticsearchFrozen, Self::PostgresCrash, Self::FanOut];

    /// Returns at its end.
    async fn happen(self, servers: &Servers, loaded: &mut [Loaded]) {
        match self {
            Self::ElasticsearchFrozen => {
                servers.elasticsearch.sigstop();
                lives(&mut loaded[0].walferry, FROZEN).await;
                servers.elasticsearch.sigcont();
            }
            Self::PostgresCrash => {
                servers.postgres.restart(StopMode::Immediate).await;
                for loaded in loaded {
                    loaded.scene.bed.reconnect().await;
                }
            }
            Self::FanOut => drop(join_all(loaded.iter().map(Loaded::fan_out)).await),
        }
    }
}

/// A database under load.
struct Loaded {
    scene: Scene,
    walferry: Walferry,
    load: Load,
    /// The changes per second of the load.
    rate: u32,
    stop: CancellationToken,
    writer: Option<JoinHandle<()>>,
    probes: u32,
    /// The longest that a change took before the faults.
    usual: Duration,
}

impl Loaded {
    async fn begin(servers: &Servers, load: Load) -> Self {
        let scene = Scene::unwitnessed_on(TestBed::on("recovery", servers.clone()).await);
        scene.sql(ROWS).await;
        scene.sql(&listings(1, LISTINGS)).await;
        let walferry = scene.ready().await;
        let index = scene.bed.index("listings");
        until(RECOVERY_MAX, "the rows are loaded", async || {
            let count = scene.bed.elasticsearch.count(&index).await;
            count == u64::from(LISTINGS) && is_live(&walferry).await
        })
        .await;
        let (stop, usual) = (CancellationToken::new(), Duration::ZERO);
        Self { scene, walferry, load, rate: u32::MAX, stop, writer: None, probes: 0, usual }
    }

    /// The changes per second that are completed when they are written as fast as they can be.
    async fn measure(&self) -> u32 {
        let goal = self.scene.number(COMPLETED).await + i64::from(MEASURED_ROWS);
        let statements = self.load.statements(0, MEASURED_ROWS);
        let began = Instant::now();
        self.scene.sql(&statements).await;
        until(RECOVERY_MAX, "they are completed", async || {
            self.scene.number(COMPLETED).await >= goal
        })
        .await;
        let rate = u128::from(MEASURED_ROWS) * 1000 / began.elapsed().as_millis().max(1);
        u32::try_from(rate).expect("a rate of this machine")
    }

    fn start_writing(&mut self) {
        self.stop = CancellationToken::new();
        let url = self.scene.bed.database_url();
        self.writer = Some(tokio::spawn(self.load.write(url, self.rate, self.stop.clone())));
    }

    /// Returns once nothing is left to be done.
    async fn stop_writing(&mut self) {
        self.stop.cancel();
        if let Some(writer) = self.writer.take() {
            writer.await.expect("the writer ends");
        }
        self.latency().await;
        until(RECOVERY_MAX, "all is done", async || self.scene.number(UNFINISHED).await == 0).await;
    }

    /// How long a change takes from its commit until its job is completed.
    async fn latency(&mut self) -> Duration {
        self.probes += 1;
        let number = self.probes;
        let id = format!("b1000000-0000-4000-8000-{number:012}");
        let insert = format!(
            "insert into categories (id, name, slug) values ('{id}', 'Yeni', 'yeni-{number}')"
        );
        self.scene.sql(&insert).await;
        let committed = Instant::now();
        let completed = format!(
            "select count(*) from elasticsearch_sync_queue
             where record_id = '{id}' and status = 'completed'"
        );
        until(RECOVERY_MAX, "it is completed", async || self.scene.number(&completed).await == 1)
            .await;
        committed.elapsed()
    }

    async fn note_usual_latency(&mut self) {
        self.usual = Duration::ZERO;
        for _ in 0..4 * PROBES {
            self.usual = self.usual.max(self.latency().await);
        }
        note(&format!("{:?}, {}/s: a change takes up to {:?}", self.load, self.rate, self.usual));
    }

    /// Whether everything is as before the fault, which has just ended, within the time for it.
    async fn comes_back(&mut self, fault: Fault) -> bool {
        let ended = Instant::now();
        let limit = self.usual * 2 + Duration::from_millis(500);
        let (mut as_before, mut since) = (0, Duration::ZERO);
        while as_before < PROBES {
            if as_before == 0 {
                since = ended.elapsed();
            }
            let took = self.latency().await;
            let is_usual = took <= limit && is_live(&self.walferry).await;
            as_before = if is_usual { as_before + 1 } else { 0 };
            if as_before == 0 && ended.elapsed() > BACK_MAX {
                note(&format!("{:?}: {took:?}, {}", self.load, self.scene.statuses().await));
                return false;
            }
        }
        note(&format!("{:?}: back {since:?} after {fault:?}", self.load));
        true
    }

    /// A change that rewrites every listing; returns once its job is completed.
    async fn fan_out(&self) {
        let jobs = "from elasticsearch_sync_queue
            where table_name = 'categories' and operation = 'UPDATE'";
        let completed = format!("select count(*) {jobs} and status = 'completed'");
        let before = self.scene.number(&completed).await;
        self.scene.sql("update categories set name = name || '!' where slug = 'elektronik'").await;
        until(RECOVERY_MAX, "the fan-out ends", async || {
            self.scene.number(&completed).await > before
        })
        .await;
    }

    async fn end(mut self) {
        self.stop_writing().await;
        // The load was without the witness, which doubles the cost of each write.
        oracle::install(&self.scene.bed.sql).await;
        self.scene.documents_become_true(RECOVERY_MAX).await;
        self.scene.assert_no_attempt_lost("faults under load").await;
        self.walferry.stop().await;
    }
}

async fn is_live(walferry: &Walferry) -> bool {
    let Ok((_, metrics)) = walferry.http_get("/metrics").await else { return false };
    metrics.contains(r#"walferry_pipeline_mode{mode="live"} 1"#)
}

/// Begins the loads, by what is measured now.
async fn begin_loads(loaded: &mut [Loaded]) {
    let mut lowest = vec![u32::MAX; loaded.len()];
    for _ in 0..MEASUREMENTS {
        let measured = join_all(loaded.iter().map(Loaded::measure)).await;
        lowest.iter_mut().zip(measured).for_each(|(lowest, rate)| *lowest = rate.min(*lowest));
    }
    for (loaded, lowest) in loaded.iter_mut().zip(lowest) {
        loaded.rate = lowest * LOAD_PERCENT / 100;
        loaded.start_writing();
    }
    join_all(loaded.iter_mut().map(Loaded::note_usual_latency)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_after_any_fault_changes_are_live_and_as_fast_as_before() {
    let (postgres, elasticsearch) =
        tokio::join!(Postgres::private(&[]), ElasticsearchNode::private(&[]));
    let servers = Servers { postgres: postgres.into(), elasticsearch: elasticsearch.into() };
    let loads = [Load::Small, Load::Large];
    let mut loaded = join_all(loads.map(|load| Loaded::begin(&servers, load))).await;
    begin_loads(&mut loaded).await;
    for fault in Fault::ALL {
        let mut repeats = 0;
        loop {
            fault.happen(&servers, &mut loaded).await;
            let back = join_all(loaded.iter_mut().map(|loaded| loaded.comes_back(fault))).await;
            if back.iter().all(|is_back| *is_back) {
                break;
            }
            join_all(loaded.iter_mut().map(Loaded::stop_writing)).await;
            begin_loads(&mut loaded).await;
            repeats += 1;
            assert!(repeats <= REPEATS_MAX, "not back {BACK_MAX:?} after {fault:?}");
        }
    }
    join_all(loaded.into_iter().map(Loaded::end)).await;
}
