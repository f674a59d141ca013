//! Each critical alert fires once for real, by the fault that it is for.
//!
//! The rules are the shipped ones with their times shortened: what is waited for, and the windows
//! that rates are made of. That they keep quiet is `live`'s business.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::interval;

use super::live::{Traffic, market};
use super::{read, rules};
use crate::scene::{Scene, until};
use crate::support::faults::{Fault, Faults};
use crate::support::prometheus::Prometheus;
use crate::support::{StopMode, eventually};

const FIRES_MAX: Duration = Duration::from_secs(30);

/// The shipped rules' times and what they are here. Each must be found.
const SHORTER: &[(&str, &str)] = &[
    ("timestamp_seconds > 120", "timestamp_seconds > 3"),
    ("lag_bytes > 16777216", "lag_bytes > 1024"),
    ("lag_seconds > 600", "lag_seconds > 4"),
    ("lag_seconds > 60", "lag_seconds > 3"),
    ("le=\"5\"", "le=\"1\""),
    ("[1h]", "[6s]"),
    ("[30m]", "[6s]"),
    ("[15m]", "[6s]"),
    ("[10m]", "[6s]"),
    ("[5m]", "[6s]"),
];

fn shortened() -> String {
    let mut rules = read("dashboards/alerts.yml");
    for (long, short) in SHORTER {
        assert!(rules.contains(long), "the rules say {long} no more");
        rules = rules.replace(long, short);
    }
    let lines = rules.lines().map(|line| match line.trim_start().starts_with("for: ") {
        true => "        for: 500ms",
        false => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Waits until all of these fire, and notes what does.
async fn fire(prometheus: &Prometheus, seen: &mut BTreeSet<String>, names: &[&str]) {
    let now = eventually(FIRES_MAX, &format!("{names:?} fire"), async || {
        let now = prometheus.firing().await;
        let fires = |name: &&str| seen.contains(*name) || now.iter().any(|(n, _)| n == name);
        match names.iter().find(|name| !fires(name)) {
            None => Ok(now),
            Some(name) => Err(format!("{name} does not; {seen:?} have, {now:?} do")),
        }
    })
    .await;
    for (name, annotations) in now {
        let text = annotations.to_string();
        assert!(!text.contains("<error"), "{name}: {text}");
        seen.insert(name);
    }
}

async fn metric(prometheus: &Prometheus, expression: &str) -> f64 {
    let samples = prometheus.query(expression).await.expect("it is an expression");
    samples.first().map_or(f64::NAN, |sample| sample.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_critical_alert_fires_by_its_fault() {
    let mut scene = market("alarms").await;
    let faults = Faults::before(scene.bed.servers.elasticsearch.url()).await;
    let settings = [("ELASTICSEARCH_URL", &*faults.url), ("WALFERRY_QUEUE_ATTEMPTS_MAX", "1")];
    let mut walferry = scene.start_with(&settings);
    walferry.wait_ready(FIRES_MAX).await;
    let prometheus = Prometheus::watching(walferry.port, &shortened()).await;
    let mut seen = BTreeSet::new();
    let traffic = Traffic::start(&scene.bed).await;

    // Elasticsearch refuses every document for what it is.
    const REFUSED: &str = r#"{"error":{"type":"document_parsing_exception"},"status":400}"#;
    faults.always("/_bulk", Some(Fault::Answer(400, REFUSED)));
    let names = ["WalferryDeadLetters", "WalferryErrorRateHigh", "WalferrySinkRejectsDocuments"];
    fire(&prometheus, &mut seen, &names).await;
    faults.always("/_bulk", None);

    // Elasticsearch is down; afterwards what waited is late.
    faults.always("/", Some(Fault::Reset));
    let names =
        ["WalferrySinkDown", "WalferryPipelineStalled", "WalferryLagHigh", "WalferryLagCritical"];
    fire(&prometheus, &mut seen, &names).await;
    faults.always("/", None);
    fire(&prometheus, &mut seen, &["WalferryFreshnessSloBurn"]).await;

    stuck(&scene, &prometheus, &mut seen).await;
    drop(traffic);

    // PostgreSQL is gone.
    scene.bed.servers.postgres.stop(StopMode::Immediate).await;
    fire(&prometheus, &mut seen, &["WalferrySlotInactive"]).await;
    scene.bed.servers.postgres.start().await;
    scene.bed.reconnect().await;
    until(FIRES_MAX, "the slot is read again and nothing is behind", async || {
        metric(&prometheus, "walferry_slot_active").await > 0.5
            && metric(&prometheus, "walferry_pipeline_lag_seconds").await < 0.5
    })
    .await;

    // Last: what the slot has lost is lost.
    losing_slot(&scene, &prometheus, &mut seen).await;

    walferry.kill9();
    fire(&prometheus, &mut seen, &["WalferryDown"]).await;
    for rule in rules().iter().filter(|rule| rule.severity == "critical") {
        assert!(seen.contains(&rule.name), "{} has not fired: {seen:?}", rule.name);
    }
}

/// Somebody marks jobs as `processing` again and again, however often the rescue resets them.
async fn stuck(scene: &Scene, prometheus: &Prometheus, seen: &mut BTreeSet<String>) {
    const MARK: &str = "update elasticsearch_sync_queue
        set status = 'processing', started_at = now() - interval '1 hour', epoch = 0
        where id in (select id from elasticsearch_sync_queue
                     where created_at < now() - interval '2 s' order by id limit 20)";
    let sql = scene.bed.connect().await;
    let mut again = interval(Duration::from_millis(500));
    let meddling = async {
        loop {
            again.tick().await;
            // A job under way is locked for a moment, and one that moved meanwhile is let be.
            drop(sql.batch_execute(MARK).await);
        }
    };
    tokio::select! {
        () = meddling => {}
        () = fire(prometheus, seen, &["WalferryJobsStuck", "WalferryManyJobsStuck"]) => {}
    }
}

/// A transaction stays open while others write more WAL than the slot may keep.
async fn losing_slot(scene: &Scene, prometheus: &Prometheus, seen: &mut BTreeSet<String>) {
    let open = scene.bed.connect().await;
    open.run("begin; update profiles set rating = 1").await;
    for _ in 0..12 {
        let write = "select pg_logical_emit_message(false, 'test', repeat('x', 1000000))
            from generate_series(1, 8)";
        scene.sql(write).await;
    }
    let names = ["WalferrySlotLost", "WalferrySlotExhaustionPredicted", "WalferrySlotHeadroomLow"];
    fire(prometheus, seen, &names).await;
    open.run("rollback").await;
}
