//! The sink against a real Elasticsearch, and against faults that a real one cannot be made to show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use walferry::ack::batch::{BatchDescriptor, CreatedBetween, JobKey, PendingBatch};
use walferry::ack::fanout::FanoutProgress;
use walferry::ack::job_set::JobSet;
use walferry::change::Lsn;
use walferry::config::{self, Authentication, Limits, Refresh};
use walferry::engine::control::IndexingReport;
use walferry::engine::document::id::{DocumentId, IndexId};
use walferry::engine::feed::action::{Action, SinkCommand};
use walferry::engine::sink::client::Client;
use walferry::engine::sink::index::{
    IndexError, IndexSpec, Preparation, prepare, swap_read_aliases,
};
use walferry::engine::sink::ping::{PingError, auto_create_advice, ping};
use walferry::engine::sink::state::{IndexStatus, ServiceStatus, SinkState};
use walferry::engine::sink::verdict::{DocumentOutcome, ServiceFailure};
use walferry::engine::sink::{Sink, SinkError, Target, run};
use walferry::postgres::{Disposition, Recovery};
use walferry::telemetry::metrics::Metrics;

use crate::support::faults::{Fault, Faults};
use crate::support::launcher::free_port;
use crate::support::{Elasticsearch, Servers, eventually};

const LIMIT: Duration = Duration::from_secs(30);
const UNPERMITTED: &str = r#"{"error":{"type":"security_exception",
    "reason":"action [cluster:monitor/main] is unauthorized for user [w]"},"status":403}"#;
const LISTINGS: u16 = 0;
const PROFILES: u16 = 1;

/// A running sink on two indices of its own.
struct Rig {
    elasticsearch: Elasticsearch,
    targets: Vec<Target>,
    state: Arc<SinkState>,
    commands: mpsc::Sender<SinkCommand>,
    settled: mpsc::Receiver<Arc<PendingBatch>>,
    report: watch::Sender<IndexingReport>,
    shutdown: CancellationToken,
    sink: JoinHandle<Result<(), SinkError>>,
    sequence: AtomicU64,
}

fn settings(urls: &[&str]) -> config::Elasticsearch {
    config::Elasticsearch {
        nodes: urls.iter().map(|url| url.parse().expect("a URL")).collect(),
        authentication: Authentication::None,
        certificate_authority: None,
        gzip: false,
        request_timeout: Duration::from_secs(10),
        refresh: Refresh::Adaptive,
    }
}

fn limits() -> Limits {
    Limits {
        row_bytes_max: usize::MAX,
        batch_changes_max: 1000,
        batch_bytes_max: 1 << 20,
        fanout_rows_max: 500,
        bulk_actions_max: 500,
        bulk_bytes_max: 1 << 20,
        bulks_in_flight_max: 4,
        actions_bytes_max: 1 << 24,
        memory_max: usize::MAX,
        retained_wal_bytes_max: None,
        shutdown_grace: Duration::from_secs(5),
    }
}

fn specs() -> Vec<IndexSpec> {
    let mappings = json!({ "dynamic": false, "properties": {
        "price": { "type": "integer" }, "kind": { "type": "keyword" }
    }});
    let settings =
        json!({ "number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1" });
    ["listings", "profiles"]
        .map(|name| IndexSpec {
            name: name.to_owned(),
            settings: settings.clone(),
            mappings: mappings.clone(),
        })
        .to_vec()
}

fn preparation(prefix: &str) -> Preparation<'_> {
    Preparation {
        prefix,
        epoch: 1,
        generation: 1,
        base: Lsn(64),
        system_identifier: "7301882339122",
        timeline: 1,
        database_oid: 16384,
        database: "app",
        slot: "walferry",
        insert_lsn: Lsn(u64::MAX),
        replaces_original: false,
    }
}

impl Rig {
    async fn new(prefix: &str) -> Self {
        let url = Servers::shared().await.elasticsearch.url();
        Self::with(prefix, &settings(&[&url])).await
    }

    async fn with(prefix: &str, settings: &config::Elasticsearch) -> Self {
        let client = Arc::new(Client::new(settings).expect("a client"));
        let targets = prepare(&client, &specs(), preparation(prefix)).await.expect("indices");
        Self::on(client, targets).await
    }

    async fn on(client: Arc<Client>, targets: Vec<Target>) -> Self {
        let state = Arc::new(SinkState::new(targets.len()));
        let sink = Sink::new(
            client,
            targets.clone(),
            &limits(),
            Refresh::Adaptive,
            Arc::clone(&state),
            &Metrics::new(),
        );
        let (commands, commands_rx) = mpsc::channel(1000);
        let (settled_tx, settled) = mpsc::channel(10_000);
        let (report, report_rx) = watch::channel(IndexingReport::default());
        let shutdown = CancellationToken::new();
        let sink = tokio::spawn(run(sink, commands_rx, settled_tx, report_rx, shutdown.clone()));
        Self {
            elasticsearch: Servers::shared().await.elasticsearch.client(),
            targets,
            state,
            commands,
            settled,
            report,
            shutdown,
            sink,
            sequence: AtomicU64::new(0),
        }
    }

    /// Sends an action; its batch has the returned sequence.
    async fn act(&self, index: u16, id: &str, version: u64, body: Option<Value>) -> u64 {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let pending = PendingBatch::open(BatchDescriptor {
            sequence,
            jobs: JobSet::None,
            created: CreatedBetween { min: 0, max: 0 },
            end_lsn: None,
            loaded: None,
            fanouts: FanoutProgress::default(),
        });
        let job = pending.reference(JobKey::Id(0));
        assert!(!pending.settle_one());
        let action = Action {
            refusal: None,
            document: DocumentId::new(IndexId(index), id.into()),
            body: body.map(|body| Bytes::from(body.to_string())),
            version,
            jobs: std::iter::once(job).collect(),
            unchanged: false,
            room: None,
        };
        self.commands.send(SinkCommand::Act(action)).await.expect("the sink runs");
        sequence
    }

    /// The next batches to settle, with the errors of those that failed.
    async fn settle(&mut self, count: usize) -> BTreeMap<u64, Option<String>> {
        let mut settled = BTreeMap::new();
        while settled.len() < count {
            let pending = timeout(LIMIT, self.settled.recv()).await;
            let pending = pending.unwrap_or_else(|_| panic!("only {settled:?}")).expect("it runs");
            let error = pending.take_unfinished().failures.pop().map(|failure| failure.error);
            assert!(
                settled.insert(pending.descriptor().sequence, error).is_none(),
                "settled twice"
            );
        }
        settled
    }

    async fn settle_well(&mut self, count: usize) {
        let settled = self.settle(count).await;
        assert!(settled.values().all(Option::is_none), "{settled:?}");
    }

    async fn wait_index(&self, index: u16, wanted: fn(&IndexStatus) -> bool) -> IndexStatus {
        let mut indices = self.state.indices();
        let index = usize::from(index);
        let seen = timeout(LIMIT, indices.wait_for(|indices| wanted(&indices[index]))).await;
        seen.expect("the index comes to that state").expect("the state lives")[index].clone()
    }

    async fn document(&self, index: u16, id: &str) -> Option<Value> {
        self.elasticsearch.document(&self.targets[usize::from(index)].concrete, id).await
    }

    fn concrete(&self, index: u16) -> &str {
        &self.targets[usize::from(index)].concrete
    }

    async fn finish(mut self) {
        drop(self.commands);
        timeout(LIMIT, self.sink).await.expect("it ends").expect("no panic").expect("no error");
        assert!(self.settled.recv().await.is_none(), "nothing settles twice");
    }
}

fn is_open(index: &IndexStatus) -> bool {
    *index == IndexStatus::Open
}

fn is_blocked(index: &IndexStatus) -> bool {
    matches!(index, IndexStatus::Blocked { .. })
}

fn is_missing(index: &IndexStatus) -> bool {
    matches!(index, IndexStatus::Missing { .. })
}

#[tokio::test]
async fn each_document_has_a_verdict_of_its_own() {
    let mut rig = Rig::new("verdicts_").await;
    rig.act(LISTINGS, "a", 5, Some(json!({ "price": 5 }))).await;
    rig.act(LISTINGS, "b", 5, None).await;
    rig.act(PROFILES, "c", 1, Some(json!({ "price": 1 }))).await;
    rig.settle_well(3).await;
    let stale = rig.act(LISTINGS, "a", 4, Some(json!({ "price": 4 }))).await;
    let stale_delete = rig.act(PROFILES, "c", 0, None).await;
    let poison = rig.act(LISTINGS, "d", 6, Some(json!({ "price": "secret" }))).await;
    let long = rig.act(LISTINGS, &"x".repeat(513), 6, Some(json!({}))).await;
    let replay = rig.act(LISTINGS, "e", 6, Some(json!({ "price": 6 }))).await;
    let settled = rig.settle(5).await;
    assert_eq!([&settled[&stale], &settled[&stale_delete], &settled[&replay]], [&None; 3]);
    let error = settled[&poison].as_deref().unwrap();
    assert!(error.starts_with("verdicts_listings/d: document_parsing_exception: "), "{error}");
    assert!(error.contains("failed to parse field [price] of type [integer]"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    assert!(settled[&long].as_deref().unwrap().contains("513 bytes"));
    assert_eq!(rig.document(LISTINGS, "a").await, Some(json!({ "price": 5 })));
    assert_eq!(rig.document(PROFILES, "c").await, Some(json!({ "price": 1 })));
    assert_eq!(rig.document(LISTINGS, "d").await, None);
    assert_eq!(rig.state.documents(DocumentOutcome::Superseded), 2);
    assert_eq!(rig.state.documents(DocumentOutcome::Refused), 2);
    rig.act(PROFILES, "c", 2, None).await;
    rig.settle_well(1).await;
    assert_eq!(rig.document(PROFILES, "c").await, None);
    assert!(*rig.state.service().borrow() == ServiceStatus::Up);
    rig.finish().await;
}

#[tokio::test]
async fn the_last_of_many_actions_on_a_document_stands() {
    let mut rig = Rig::new("order_").await;
    for round in 1..=400 {
        for id in ["a", "b", "c"] {
            let body = (round % 7 != 0).then(|| json!({ "price": round }));
            rig.act(LISTINGS, id, round, body).await;
        }
    }
    rig.settle_well(1200).await;
    for id in ["a", "b", "c"] {
        assert_eq!(rig.document(LISTINGS, id).await, Some(json!({ "price": 400 })));
    }
    assert_eq!(rig.state.documents(DocumentOutcome::Superseded), 0, "never two at once");
    rig.finish().await;
}

#[tokio::test]
async fn a_write_block_holds_up_its_index_only_until_it_is_lifted() {
    let mut rig = Rig::new("blocked_").await;
    let listings = rig.concrete(LISTINGS).to_owned();
    for block in ["index.blocks.write", "index.blocks.read_only_allow_delete"] {
        rig.elasticsearch.put_index_settings(&listings, &json!({ block: true })).await;
        rig.act(LISTINGS, "a", 1, Some(json!({}))).await;
        let held = rig.wait_index(LISTINGS, is_blocked).await;
        assert!(
            matches!(&held, IndexStatus::Blocked { reason, .. } if reason.contains("blocked by"))
        );
        rig.act(LISTINGS, "b", 1, None).await;
        rig.act(PROFILES, "c", 1, Some(json!({}))).await;
        rig.settle_well(1).await;
        assert_eq!(rig.state.waiting(), 2);
        rig.elasticsearch.put_index_settings(&listings, &json!({ block: null })).await;
        rig.settle_well(2).await;
        rig.wait_index(LISTINGS, is_open).await;
    }
    rig.elasticsearch.request(Method::POST, &format!("/{listings}/_close"), None).await;
    rig.act(LISTINGS, "a", 2, Some(json!({}))).await;
    rig.wait_index(LISTINGS, is_blocked).await;
    rig.elasticsearch.request(Method::POST, &format!("/{listings}/_open"), None).await;
    rig.settle_well(1).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_index_deleted_under_us_is_not_made_again() {
    let prefix = "deleted_";
    let mut rig = Rig::new(prefix).await;
    let (listings, profiles) =
        (rig.concrete(LISTINGS).to_owned(), rig.concrete(PROFILES).to_owned());
    rig.elasticsearch.delete_index(&listings).await;
    // No index was looked at yet, so a delete comes upon the gap by itself.
    rig.act(LISTINGS, "a", 1, None).await;
    let gone = rig.wait_index(LISTINGS, is_missing).await;
    assert!(
        matches!(&gone, IndexStatus::Missing { reason, .. } if reason.contains("is gone")),
        "{gone:?}"
    );
    rig.act(LISTINGS, "b", 1, Some(json!({}))).await;
    rig.act(PROFILES, "c", 1, None).await;
    rig.settle_well(1).await;
    assert_eq!(rig.elasticsearch.indices(prefix).await, [profiles.as_str()]);
    let put = format!("/{listings}");
    rig.elasticsearch.request(Method::PUT, &put, Some(&json!({}))).await;
    rig.wait_index(LISTINGS, |index| {
        matches!(index, IndexStatus::Missing { reason, .. } if reason.contains("replaced by another"))
    })
    .await;
    rig.elasticsearch.delete_index(&profiles).await;
    rig.act(PROFILES, "d", 1, Some(json!({}))).await;
    rig.wait_index(PROFILES, is_missing).await;
    rig.shutdown.cancel();
    timeout(LIMIT, &mut rig.sink).await.unwrap().unwrap().unwrap();
    assert!(rig.settled.try_recv().is_err(), "what was held stays unsettled");
    assert_eq!(rig.elasticsearch.count(&listings).await, 0);
}

#[tokio::test]
async fn a_predecessor_is_refused_once_its_alias_is_gone() {
    let prefix = "lease_";
    let mut old = Rig::new(prefix).await;
    old.act(LISTINGS, "a", 1, Some(json!({ "price": 1 }))).await;
    old.settle_well(1).await;
    let url = Servers::shared().await.elasticsearch.url();
    let client = Arc::new(Client::new(&settings(&[&url])).unwrap());
    let next = Preparation { epoch: 2, base: Lsn(1 << 20), ..preparation(prefix) };
    let targets = prepare(&client, &specs(), next).await.unwrap();
    assert!(targets.iter().all(|target| !target.created && target.base == Lsn(64)));
    let mut new = Rig::on(client, targets).await;
    old.act(LISTINGS, "a", 9, Some(json!({ "price": 9 }))).await;
    let gone = old.wait_index(LISTINGS, is_missing).await;
    assert!(
        matches!(&gone, IndexStatus::Missing { reason, .. } if reason.contains("lease_listings-w-1")),
        "{gone:?}"
    );
    new.act(LISTINGS, "a", 2, Some(json!({ "price": 2 }))).await;
    new.settle_well(1).await;
    assert_eq!(new.document(LISTINGS, "a").await, Some(json!({ "price": 2 })));
    let aliases = new.elasticsearch.aliases(prefix).await;
    let aliases = &aliases["lease_listings-000001"]["aliases"];
    assert_eq!(aliases.as_object().unwrap().len(), 2, "{aliases}");
    assert_eq!(aliases["lease_listings-w-2"]["is_write_index"], true, "{aliases}");
    old.shutdown.cancel();
    timeout(LIMIT, old.sink).await.unwrap().unwrap().unwrap();
    new.finish().await;
}

#[tokio::test]
async fn trouble_with_the_service_fails_no_document() {
    const BUSY: &str =
        r#"{"error":{"type":"circuit_breaking_exception","reason":"x"},"status":429}"#;
    let faults = Faults::before(Servers::shared().await.elasticsearch.url()).await;
    let mut settings = settings(&[&faults.url]);
    let patient = Client::new(&settings).unwrap();
    let targets = prepare(&patient, &specs(), preparation("service_")).await.unwrap();
    settings.request_timeout = Duration::from_secs(2);
    let mut rig = Rig::on(Arc::new(Client::new(&settings).unwrap()), targets).await;
    let mut version = 0;
    for (fault, failure) in [
        (Fault::Answer(429, BUSY), ServiceFailure::Overloaded),
        (Fault::Answer(503, ""), ServiceFailure::Unavailable),
        (Fault::Answer(502, "<html>"), ServiceFailure::Unavailable),
        (Fault::Answer(400, "<html>"), ServiceFailure::NotUnderstood),
        (Fault::Answer(404, ""), ServiceFailure::NotUnderstood),
        (Fault::Answer(200, r#"{"items":[]}"#), ServiceFailure::NotUnderstood),
        (Fault::Answer(200, r#"{"items":[{"ind"#), ServiceFailure::NotUnderstood),
        (Fault::Answer(401, ""), ServiceFailure::NotAuthorised),
        (Fault::Reset, ServiceFailure::Connection),
        (Fault::LoseAnswer, ServiceFailure::Connection),
        (Fault::Hang, ServiceFailure::Timeout),
    ] {
        faults.script("/_bulk", [fault.clone(), fault.clone()]);
        version += 1;
        let mut service = rig.state.service();
        rig.act(LISTINGS, "a", version, Some(json!({ "price": version }))).await;
        let down = |service: &ServiceStatus| matches!(service, ServiceStatus::Down { failure: t, .. } if *t == failure);
        drop(timeout(LIMIT, service.wait_for(down)).await.expect("it is down").unwrap());
        rig.act(PROFILES, "b", version, None).await;
        rig.settle_well(2).await;
        drop(timeout(LIMIT, service.wait_for(|s| *s == ServiceStatus::Up)).await.unwrap().unwrap());
        assert_eq!(faults.remaining(), 0, "{fault:?}");
        assert!(rig.state.retries(failure) >= 2, "{fault:?}");
        assert_eq!(rig.document(LISTINGS, "a").await, Some(json!({ "price": version })));
    }
    assert_eq!(
        rig.state.documents(DocumentOutcome::Superseded),
        0,
        "the same version is no conflict"
    );
    rig.finish().await;
}

#[tokio::test]
async fn of_a_bulk_only_what_failed_is_sent_again() {
    let faults = Faults::before(Servers::shared().await.elasticsearch.url()).await;
    let mut rig = Rig::with("items_", &settings(&[&faults.url])).await;
    // The first bulk is lost, so that the documents behind it gather.
    faults.script(
        "/_bulk",
        [
            Fault::Answer(503, ""),
            Fault::Answer(503, ""),
            Fault::Items(429, "es_rejected_execution_exception", &["c"]),
            Fault::Items(503, "unavailable_shards_exception", &["c", "d"]),
        ],
    );
    rig.act(LISTINGS, "a", 1, Some(json!({}))).await;
    drop(timeout(LIMIT, rig.state.service().wait_for(|s| *s != ServiceStatus::Up)).await.unwrap());
    for id in ["b", "c", "d", "e"] {
        rig.act(LISTINGS, id, 1, Some(json!({ "price": id.len() }))).await;
    }
    rig.settle_well(5).await;
    assert_eq!(faults.remaining(), 0);
    assert_eq!(rig.elasticsearch.count(rig.concrete(LISTINGS)).await, 5);
    assert_eq!(rig.state.documents(DocumentOutcome::Indexed), 5);
    rig.finish().await;
}

#[tokio::test]
async fn a_request_too_large_is_halved_and_one_document_too_large_fails() {
    let faults = Faults::before(Servers::shared().await.elasticsearch.url()).await;
    faults.limit(4000);
    let mut rig = Rig::with("large_", &settings(&[&faults.url])).await;
    let mut large = 0;
    for at in 0..100 {
        let text = "x".repeat(if at == 42 { 4000 } else { 100 });
        let sequence = rig.act(LISTINGS, &at.to_string(), 1, Some(json!({ "text": text }))).await;
        large = if at == 42 { sequence } else { large };
    }
    let settled = rig.settle(100).await;
    let failed: Vec<_> = settled.iter().filter(|(_, error)| error.is_some()).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(settled[&large].as_deref().unwrap().contains("413"), "{failed:?}");
    assert!(faults.bulks().contains(&1), "{:?}", faults.bulks());
    assert_eq!(rig.elasticsearch.count(rig.concrete(LISTINGS)).await, 99);
    rig.finish().await;
}

#[tokio::test]
async fn a_dead_node_is_left_alone_and_compression_is_understood() {
    let url = Servers::shared().await.elasticsearch.url();
    let dead = format!("http://127.0.0.1:{}", free_port());
    let mut settings = settings(&[&url, &dead]);
    settings.gzip = true;
    let client = Arc::new(Client::new(&settings).unwrap());
    let targets = loop {
        match prepare(&client, &specs(), preparation("nodes_")).await {
            Ok(targets) => break targets,
            Err(error) => assert_eq!(error.disposition(), Disposition::Retry, "{error}"),
        }
    };
    let mut rig = Rig::on(client, targets).await;
    let text = "x".repeat(2000);
    for at in 0..400 {
        rig.act(LISTINGS, &at.to_string(), 1, Some(json!({ "text": text }))).await;
    }
    rig.settle_well(400).await;
    assert_eq!(rig.elasticsearch.count(rig.concrete(LISTINGS)).await, 400);
    rig.finish().await;
}

#[tokio::test]
async fn ids_are_listed_in_pages() {
    let mut rig = Rig::new("listed_").await;
    for at in 0..2500 {
        let kind = if at % 5 == 0 { "category" } else { "listing" };
        rig.act(LISTINGS, &format!("{kind}:{at}"), 1, Some(json!({ "kind": kind }))).await;
    }
    rig.settle_well(2500).await;
    for (filter, expected) in
        [(None, 2500), (Some(("kind".to_owned(), "category".to_owned())), 500)]
    {
        let (pages, mut ids) = mpsc::channel(1);
        let command = SinkCommand::Enumerate { index: IndexId(LISTINGS), filter, pages };
        rig.commands.send(command).await.unwrap();
        let mut listed = std::collections::BTreeSet::new();
        loop {
            let page = timeout(LIMIT, ids.recv()).await.unwrap().expect("the listing has an end");
            let page = page.expect("the index is open");
            if page.is_empty() {
                break;
            }
            listed.extend(page);
        }
        assert_eq!(listed.len(), expected);
    }
    let (pages, mut ids) = mpsc::channel(1);
    let command = SinkCommand::Enumerate { index: IndexId(PROFILES), filter: None, pages };
    rig.commands.send(command).await.unwrap();
    assert_eq!(timeout(LIMIT, ids.recv()).await.unwrap(), Some(Ok(Vec::new())));
    rig.finish().await;
}

#[tokio::test]
async fn documents_are_searchable_at_once_when_caught_up() {
    let mut rig = Rig::new("fresh_").await;
    let name = rig.targets[0].name.clone();
    let all = json!({ "query": { "match_all": {} } });
    rig.act(LISTINGS, "a", 1, Some(json!({ "price": 1 }))).await;
    rig.settle_well(1).await;
    assert_eq!(rig.state.refreshes(), 0, "never during catch-up");
    rig.report.send_modify(|report| report.caught_up = true);
    eventually(LIMIT, "the document is found", async || {
        match rig.elasticsearch.search(&name, &all).await.len() {
            1 => Ok(()),
            count => Err(format!("{count} found")),
        }
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn indices_are_made_once_and_recognised() {
    let elasticsearch = Servers::shared().await.elasticsearch.client();
    let url = Servers::shared().await.elasticsearch.url();
    let client = Client::new(&settings(&[&url])).unwrap();
    let prefix = "prepared_";
    let first = prepare(&client, &specs(), preparation(prefix)).await.unwrap();
    assert!(first.iter().all(|target| target.created && target.base == Lsn(64)));
    let again = Preparation { base: Lsn(1 << 30), ..preparation(prefix) };
    let again = prepare(&client, &specs(), again).await.unwrap();
    assert_eq!(again[0], Target { created: false, ..first[0].clone() });
    let concrete = "prepared_listings-000001";
    assert_eq!(first[0].concrete, concrete);
    let meta = elasticsearch.mapping(concrete).await["_meta"]["walferry"].clone();
    assert_eq!(
        meta,
        json!({ "system_identifier": "7301882339122", "timeline": 1, "base_lsn": "0/40", "generation": 1,
            "database_oid": 16384, "database": "app", "slot": "walferry" })
    );
    let found = elasticsearch.index_settings(concrete).await;
    assert_eq!(found["index.gc_deletes"], "1h");

    let next = Preparation { generation: 2, epoch: 3, ..preparation(prefix) };
    let next = prepare(&client, &specs(), next).await.unwrap();
    let aliases = elasticsearch.aliases(prefix).await;
    let of = |generation: &str| {
        let aliases = &aliases[format!("prepared_listings-{generation}")]["aliases"];
        aliases.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("000001"), ["prepared_listings"], "searches stay where they were");
    assert_eq!(of("000002"), ["prepared_listings-w-3"]);
    swap_read_aliases(&client, &next).await.unwrap();
    let aliases = elasticsearch.aliases(prefix).await;
    assert_eq!(aliases["prepared_listings-000001"]["aliases"], json!({}));
    assert!(aliases["prepared_listings-000002"]["aliases"]["prepared_listings"].is_object());

    let other = Preparation { timeline: 2, ..preparation(prefix) };
    let error = prepare(&client, &specs(), other).await.unwrap_err();
    assert!(matches!(error, IndexError::OtherHistory { found_timeline: 1, .. }), "{error}");
    let other = Preparation { database_oid: 16385, database: "shop", ..preparation(prefix) };
    let error = prepare(&client, &specs(), other).await.unwrap_err();
    assert!(error.to_string().contains("that of database app and slot walferry"), "{error}");
    let other = Preparation { slot: "other", ..preparation(prefix) };
    let error = prepare(&client, &specs(), other).await.unwrap_err();
    assert!(matches!(error, IndexError::OtherDatabase { .. }), "{error}");
    // An index of an earlier version is adopted.
    let old = json!({ "_meta": { "walferry": {
        "system_identifier": "7301882339122", "timeline": 1, "base_lsn": "0/40", "generation": 1 } } });
    elasticsearch.request(Method::PUT, &format!("/{concrete}/_mapping"), Some(&old)).await;
    prepare(&client, &specs(), preparation(prefix)).await.unwrap();
    assert_eq!(elasticsearch.mapping(concrete).await["_meta"]["walferry"], meta);

    // A document of a later moment than the database's.
    let path =
        format!("/{concrete}/_doc/a?version_type=external&version={}&refresh=true", 100 << 16);
    elasticsearch.request(Method::PUT, &path, Some(&json!({}))).await;
    let back = Preparation { insert_lsn: Lsn(64 + 99 * 8), ..preparation(prefix) };
    let error = prepare(&client, &specs(), back).await.unwrap_err();
    assert!(matches!(error, IndexError::Ahead { sent: Lsn(864), .. }), "{error}");
    assert!(error.to_string().contains("walferry rebuild"), "{error}");
    let now = Preparation { insert_lsn: Lsn(64 + 100 * 8), ..preparation(prefix) };
    prepare(&client, &specs(), now).await.unwrap();
    elasticsearch.request(Method::PUT, "/foreign_listings-000001", Some(&json!({}))).await;
    let error = prepare(&client, &specs(), preparation("foreign_")).await.unwrap_err();
    assert!(matches!(error, IndexError::NotOurs { .. }), "{error}");
    elasticsearch.request(Method::PUT, "/taken_listings", Some(&json!({}))).await;
    let error = prepare(&client, &specs(), preparation("taken_")).await.unwrap_err();
    assert!(matches!(error, IndexError::NameTaken { .. }), "{error}");
}

#[tokio::test]
async fn a_ping_tells_what_is_wrong() {
    let faults = Faults::before(Servers::shared().await.elasticsearch.url()).await;
    let client = Client::new(&settings(&[&faults.url])).unwrap();
    let indices = ["any_listings-000001".to_owned()];
    let answer = ping(&client, &indices).await.unwrap();
    assert!(["green", "yellow"].contains(&answer.status.as_str()), "{answer:?}");
    let old = r#"{"cluster_name":"c","version":{"number":"7.17.0"}}"#;
    for (fault, expected, passing) in [
        (Fault::Answer(401, ""), "NotAuthorised", false),
        (Fault::Answer(403, ""), "NotAuthorised", false),
        (Fault::Answer(403, UNPERMITTED), "NotPermitted", false),
        (Fault::Answer(200, "<html>"), "NotElasticsearch", false),
        (Fault::Answer(404, ""), "NotElasticsearch", false),
        (Fault::Answer(200, old), "TooOld", false),
        (Fault::Answer(503, ""), "NotReady", true),
        (Fault::Reset, "NoResponse", true),
    ] {
        faults.script("/", [fault]);
        let error = ping(&client, &indices).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        assert_eq!(error.disposition() == Disposition::Retry, passing, "{error}");
        if expected == "NotPermitted" {
            assert!(error.to_string().contains("lacks the privilege `monitor`"), "{error}");
            assert!(error.to_string().contains("[cluster:monitor/main]"), "{error}");
        }
    }
    faults.script("/_cluster/health", [Fault::Answer(200, r#"{"status":"red"}"#)]);
    let error = ping(&client, &indices).await.unwrap_err();
    assert!(matches!(error, PingError::Red { .. }), "{error}");
    let advice = auto_create_advice(&client, &["any_listings".to_owned()]).await.unwrap();
    assert!(advice.unwrap().contains("-any_listings-*,+*"));
}
