//! The latency of the API with ten million jobs in the table and 2,000 changes a second; and the
//! effect of 500 concurrent requests and 100 open streams on the pipeline, measured by the time in
//! which a backlog of jobs is indexed with and without them.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::figures::{median, spread};
use crate::load;
use crate::rig::Rig;
use crate::support::Walferry;
use crate::watch;

/// The number of completed jobs before the measurement.
const JOBS: u32 = 10_000_000;
/// The rows of a transaction of the writer and the interval between two transactions: 2,000 rows a
/// second.
const ROWS: u32 = 20;
const EVERY: Duration = Duration::from_millis(10);
/// The duration of the measurement, and the requests in each second.
const MEASURED: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_millis(25);

/// The number of jobs of the backlog.
const STOCK: u32 = 30_000;
const REQUESTS: usize = 500;
const STREAMS: usize = 100;
const DRAIN_MAX: Duration = Duration::from_secs(300);
const Q: &str = "/api/v1/queue";

/// Measures the latency with ten million jobs.
pub(crate) async fn answers() -> String {
    let rig = Rig::up(None).await;
    load::prepare(rig.sql()).await;
    let mut walferry = rig.start_and_ready().await;
    rig.loaded().await;
    // The statistics are updated at the end, as walferry's sessions do; row triggers would take an
    // hour.
    rig.sql()
        .run(&format!(
            "set walferry.counted = 'on';
             insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data,
                 status, created_at, processed_at, commit_lsn, ordinal, xid)
             select 'listings', 'UPDATE', {}, '{{}}', case when n % 5000 = 0 then 'failed' else 'completed' end,
                 now() - interval '1 day' + n * interval '8 ms', now() - interval '1 day' + n * interval '8 ms',
                 '0/10'::pg_lsn + n, 1, n
             from generate_series(1, {JOBS}) n;
             analyze elasticsearch_sync_queue",
            load::id("c", "(n % 1000000 + 1)"),
        ))
        .await;
    let (code, said) =
        rig.bed.walferry_once(&["maintain", "--recount"], Duration::from_secs(600)).await;
    assert_eq!(code, 0, "{said}");
    let stop = CancellationToken::new();
    let before = watch::Reads::of(&rig).await;
    let (paths, scrapes, changes) = tokio::join!(
        async {
            let answers = ask(&walferry).await;
            stop.cancel();
            answers
        },
        watch::scrape(&walferry, &stop),
        write(&rig, &stop)
    );
    let reads = watch::Reads::of(&rig).await.since(&before);
    let figures = watch::figures(&rig).await;
    walferry.stop().await;
    let mut text = format!("{JOBS} jobs, {changes:.0} changes/s");
    for (name, times) in paths.into_iter().chain([("metrics", scrapes)]) {
        write!(text, "\n  {name}: {} of {}", spread(&times), times.len())
            .expect("memory takes what is written");
    }
    text + &format!("\n  {reads}\n{figures}")
}

/// The latencies by request.
async fn ask(walferry: &Walferry) -> Vec<(&'static str, Vec<Duration>)> {
    let record = |n: u32| format!("c0000000-0000-4000-8000-{n:012}");
    let paths: [(&str, &dyn Fn(u32) -> String); 5] = [
        ("statistics", &|_| format!("{Q}/stats")),
        ("jobs", &|_| format!("{Q}/jobs")),
        ("failed jobs", &|n| format!("{Q}/jobs?status=failed&page={}", n % 20 + 1)),
        ("jobs of a record", &|n| {
            format!("{Q}/jobs?record_id={}", record(n * 7919 % 1_000_000 + 1))
        }),
        ("health", &|_| format!("{Q}/health")),
    ];
    let mut found: Vec<_> = paths.iter().map(|(name, _)| (*name, Vec::new())).collect();
    let end = Instant::now() + MEASURED;
    let mut pace = interval(ASK_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut n = 0;
    while Instant::now() < end {
        for ((_, path), (_, times)) in paths.iter().zip(&mut found) {
            pace.tick().await;
            n += 1;
            let started = Instant::now();
            let (status, body) = walferry.get_json(&path(n)).await;
            times.push(started.elapsed());
            assert_eq!(status, 200, "{body}");
        }
    }
    found
}

/// Writes until it is stopped, and returns the changes per second.
async fn write(rig: &Rig, stop: &CancellationToken) -> f64 {
    let started = Instant::now();
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut n = 0;
    while !stop.is_cancelled() {
        pace.tick().await;
        load::insert(rig.sql(), n * ROWS + 1, (n + 1) * ROWS).await;
        n += 1;
    }
    f64::from(n * ROWS) / started.elapsed().as_secs_f64()
}

/// The relative increase of the time for the backlog with clients, by pairs of runs.
pub(crate) async fn crowd(pairs: usize) -> String {
    let mut ratios = Vec::new();
    let mut lines = String::new();
    for _ in 0..pairs {
        let alone = drain(false).await;
        let crowded = drain(true).await;
        let ratio = crowded / alone;
        writeln!(lines, "  alone {alone:.2} s, with clients {crowded:.2} s: {ratio:.3}")
            .expect("memory takes what is written");
        ratios.push(ratio);
    }
    format!("{lines}  median ratio {:.3}", median(&ratios))
}

async fn drain(crowded: bool) -> f64 {
    let (rig, mut walferry) = stocked().await;
    let mut streams = JoinSet::new();
    if crowded {
        for _ in 0..STREAMS {
            let url = walferry.url(&format!("{Q}/events"));
            streams.spawn(async move {
                let mut stream = reqwest::get(url).await.expect("walferry answers");
                while let Ok(Some(_)) = stream.chunk().await {}
            });
        }
    }
    let started = start(&walferry).await;
    let mut requests = JoinSet::new();
    for _ in 0..if crowded { REQUESTS } else { 0 } {
        let url = walferry.url(&format!("{Q}/stats"));
        requests.spawn(async move { reqwest::get(url).await.map(|answer| answer.status()) });
    }
    let took = worked_off(&rig, started).await;
    while let Some(answer) = requests.join_next().await {
        let status = answer.expect("asking does not panic").expect("walferry answers");
        assert!(status.is_success(), "{status}");
    }
    streams.abort_all();
    walferry.stop().await;
    took
}

/// A walferry with a backlog, whose indexing is stopped.
pub(crate) async fn stocked() -> (Rig, Walferry) {
    let rig = Rig::up(None).await;
    load::prepare(rig.sql()).await;
    let walferry = rig.start_and_ready().await;
    rig.loaded().await;
    let (code, body) = walferry.post_json(&format!("{Q}/stop"), None).await;
    assert_eq!(code, 200, "{body}");
    load::backlog(rig.sql(), STOCK, 0).await;
    until(&rig, "pending_jobs").await;
    (rig, walferry)
}

/// Starts indexing.
pub(crate) async fn start(walferry: &Walferry) -> Instant {
    let started = Instant::now();
    let (code, body) = walferry.post_json(&format!("{Q}/start"), None).await;
    assert_eq!(code, 200, "{body}");
    started
}

/// The seconds until the backlog is indexed.
pub(crate) async fn worked_off(rig: &Rig, started: Instant) -> f64 {
    until(rig, "completed_jobs").await;
    started.elapsed().as_secs_f64()
}

async fn until(rig: &Rig, column: &str) {
    let sql = format!("select {column} from get_elasticsearch_queue_stats()");
    let end = Instant::now() + DRAIN_MAX;
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while rig.value::<i64>(&sql).await < i64::from(STOCK) {
        looks.tick().await;
        assert!(Instant::now() < end, "stuck before all are {column}");
    }
}
