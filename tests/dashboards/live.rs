//! The contract between the binary and what is drawn of it: a real Prometheus scrapes a real run
//! under load, and every expression must have an answer.

use std::time::Duration;

use super::{NAMES, dashboard, expressions, name_of, read, rules, selectors};
use crate::scene::{Scene, until};
use crate::support::prometheus::{Prometheus, promtool};
use crate::support::{Servers, TestBed, Walferry, eventually};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

/// Until every expression has data: the queue's figures are read every 5 s.
const DATA_MAX: Duration = Duration::from_secs(40);
/// A scrape may cost this much.
const SCRAPE_MAX: Duration = Duration::from_millis(10);
/// With a limit for its slot, so that the headroom has figures.
pub(super) const LIMITED: &[(&str, &str)] =
    &[("max_slot_wal_keep_size", "64MB"), ("checkpoint_timeout", "30min")];

const ROWS: &str = "
    insert into profiles (id, username, full_name, email)
    values ('a0000000-0000-4000-8000-000000000001', 'ayse', 'Ayşe', 'a@example.com');
    insert into categories (id, name, slug)
    values ('b0000000-0000-4000-8000-000000000001', 'Elektronik', 'elektronik');
    insert into listings (user_id, category_id, title, description, status)
    select 'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
           'İlan ' || n, 'açıklama', 'active'
    from generate_series(1, 200) n";

/// Ten listings change.
const STEP: &str = "update listings set view_count = view_count + 1 where id in
    (select id from listings order by updated_at limit 10)";

/// Somebody who goes on changing listings.
pub(super) struct Traffic(JoinHandle<()>);

impl Traffic {
    /// Ten changes every 50 ms.
    pub(super) async fn start(bed: &TestBed) -> Self {
        let sql = bed.connect().await;
        let mut tick = interval(Duration::from_millis(50));
        Self(tokio::spawn(async move {
            loop {
                tick.tick().await;
                sql.run(STEP).await;
            }
        }))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A market on a PostgreSQL with a limit for slots.
pub(super) async fn market(name: &str) -> Scene {
    let servers = Servers::private_postgres(LIMITED).await;
    let scene = Scene::unwitnessed_on(TestBed::on(name, servers).await);
    scene.sql(ROWS).await;
    scene
}

/// As Grafana would send it.
fn sent(expression: &str) -> String {
    let expression = expression.replace("$__rate_interval", "10s");
    expression.replace("$job", "walferry").replace("$instance", ".+")
}

/// What may have no data in a run where nothing is wrong.
fn may_be_empty(expression: &str) -> bool {
    expression.contains("(ALERTS{") || expression.contains("code=~\"5..\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_alert_has_data_under_load() {
    let scene = market("contract").await;
    let mut walferry = scene.ready().await;
    let _traffic = Traffic::start(&scene.bed).await;
    for path in ["/api/v1/queue/stats", "/livez", "/readyz", "/nowhere"] {
        walferry.http_get(path).await.expect("walferry answers");
    }
    let prometheus = Prometheus::watching(walferry.port, &read("dashboards/alerts.yml")).await;
    let mut questions: Vec<(String, String)> = Vec::new();
    for name in NAMES {
        for (title, expression) in expressions(&dashboard(name)) {
            questions.push((format!("{name}: {title}"), sent(&expression)));
        }
    }
    for rule in rules() {
        // A rule's answer is empty as long as all is well; what it looks at must be there.
        prometheus.query(&rule.expression).await.expect("the expression is one");
        let seen = selectors(&rule.expression).into_iter();
        questions.extend(seen.map(|selector| (rule.name.clone(), selector)));
    }
    questions.retain(|(_, expression)| !may_be_empty(expression));
    assert!(questions.len() > 100, "{}", questions.len());
    eventually(DATA_MAX, "every expression has data", async || {
        let mut silent = Vec::new();
        for (place, expression) in &questions {
            match prometheus.query(expression).await {
                Ok(samples) if samples.iter().any(|sample| !sample.value.is_nan()) => {}
                other => silent.push(format!("{place}: {expression}: {other:?}")),
            }
        }
        if silent.is_empty() { Ok(()) } else { Err(silent.join("\n")) }
    })
    .await;
    let names = prometheus.names().await;
    for (place, expression) in &questions {
        for selector in selectors(expression) {
            let name = name_of(&selector);
            assert!(names.iter().any(|known| known == name), "{place}: there is no {name}");
        }
    }
    assert_eq!(prometheus.firing().await, Vec::new(), "nothing is wrong");
    cheap_and_well_named(&walferry).await;
    walferry.stop().await;
}

async fn cheap_and_well_named(walferry: &Walferry) {
    let mut took = Vec::new();
    let mut text = String::new();
    for _ in 0..20 {
        let began = Instant::now();
        text = walferry.http_get("/metrics").await.expect("walferry answers").1;
        took.push(began.elapsed());
    }
    took.sort();
    assert!(took[5] < SCRAPE_MAX, "{took:?}");
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 600, "{series} series for 3 tables and 4 indices");
    if let Err(said) = promtool(&["check", "metrics"], &text) {
        panic!("promtool check metrics: {said}");
    }
}

/// A role that may not look at slots loses those figures and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_privilege_costs_a_figure_and_not_the_run() {
    let scene = market("refused").await;
    scene.bed.migrate().await;
    let (role, database) = ("blind", &scene.bed.database);
    scene
        .sql(&format!(
            "create role {role} login replication bypassrls password 'x';
             grant usage on schema public to {role};
             grant select on listings, profiles, categories to {role};
             grant create on database {database} to {role}"
        ))
        .await;
    let arguments = ["migrate", "--runtime-role", role];
    let (code, output) = scene.bed.walferry_once(&arguments, DATA_MAX).await;
    assert_eq!(code, 0, "{output}");
    let url = scene.bed.database_url().replace("postgres@", &format!("{role}:x@"));
    let mut walferry = scene.bed.walferry(&["run"]).env("DATABASE_URL", url).spawn();
    walferry.wait_ready(DATA_MAX).await;
    let value = async |name: &str| {
        let (_, text) = walferry.http_get("/metrics").await.expect("walferry answers");
        let line =
            text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    until(DATA_MAX, "the slot has figures", async || {
        value("walferry_slot_retained_wal_bytes").await.is_some()
    })
    .await;
    scene
        .sql(
            "revoke select on pg_catalog.pg_replication_slots from public;
             revoke select on pg_catalog.pg_stat_replication_slots from public",
        )
        .await;
    until(DATA_MAX, "refused looks are counted and the figures are gone", async || {
        value("walferry_slot_inspect_errors_total").await > Some(1.0)
            && value("walferry_slot_retained_wal_bytes").await.is_none()
    })
    .await;
    scene.sql(STEP).await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(DATA_MAX, "changes go on", async || scene.number(completed).await == 10).await;
    assert_eq!(value("walferry_pipeline_restarts_total{reason=\"fault\"}").await, Some(0.0));
    assert_eq!(value("walferry_pipeline_lag_seconds").await.map(f64::floor), Some(0.0));
    walferry.wait_output("slot_statistics_refused", DATA_MAX).await;
    scene.sql("grant select on pg_catalog.pg_replication_slots to public").await;
    until(DATA_MAX, "the figures are back", async || {
        value("walferry_slot_retained_wal_bytes").await.is_some()
    })
    .await;
    walferry.stop().await;
}
