//! Fault × moment, each with the oracle and with the statuses that the queue must show: whatever
//! goes wrong with a document or a service, jobs end where they belong without a person.
//!
//! Not here: kills of walferry and crashes of PostgreSQL at random (`restart`), and the sink by
//! itself (`bulk_errors`).

mod closed;
mod documents;
mod edges;
mod fanouts;
mod gaps;
mod locks;
mod operations;
mod operator;
mod outages;
mod recovery;
mod settings;
mod source;
mod standby;
mod synchronous;
mod trust;
mod waits;

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::scene::{Scene, until};
use crate::support::Walferry;
use crate::support::faults::Faults;
use crate::workload::Workload;
use crate::workload::statements::Extras;

/// How long catching up may take once a fault is over.
const RECOVERY_MAX: Duration = Duration::from_secs(180);

/// A seller and a category to hang listings on.
const ROWS: &str = "
    insert into profiles (id, username, full_name, email)
    values ('a0000000-0000-4000-8000-000000000001', 'ayse', 'Ayşe', 'a@example.com');
    insert into categories (id, name, slug)
    values ('b0000000-0000-4000-8000-000000000001', 'Elektronik', 'elektronik');";

/// Inserts active listings number `first` to `last`.
fn listings(first: u32, last: u32) -> String {
    format!(
        "insert into listings (id, user_id, category_id, title, description, status)
         select ('c0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
                'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
                'İlan ' || n, 'açıklama', 'active'
         from generate_series({first}, {last}) n"
    )
}

/// The id of listing number `n`.
fn listing(n: u32) -> String {
    format!("c0000000-0000-4000-8000-{n:012}")
}

/// Waits until changes go from the stream to the documents.
async fn mode_is_live(walferry: &Walferry) {
    until(RECOVERY_MAX, "live mode goes on", async || {
        let Ok((_, metrics)) = walferry.http_get("/metrics").await else { return false };
        metrics.contains(r#"walferry_pipeline_mode{mode="live"} 1"#)
    })
    .await;
}

impl Scene {
    /// `walferry run` with changed settings.
    pub(crate) fn start_with(&self, settings: &[(&str, &str)]) -> Walferry {
        let launch = self.bed.walferry(&["run"]);
        settings.iter().fold(launch, |launch, (name, value)| launch.env(name, value)).spawn()
    }

    /// `walferry run`, which reaches Elasticsearch through `faults` only.
    fn start_through(&self, faults: &Faults, settings: &[(&str, &str)]) -> Walferry {
        let mut all = vec![("ELASTICSEARCH_URL", faults.url.as_str())];
        all.extend(settings);
        self.start_with(&all)
    }

    /// A stage before the scene's Elasticsearch.
    async fn faults(&self) -> Faults {
        Faults::before(self.bed.servers.elasticsearch.url()).await
    }

    /// Restarts the scene's own Elasticsearch so that it forgets deletes: those that are not flushed
    /// would be replayed from its own log.
    async fn restart_without_tombstones(&self) {
        let path = format!("/{}*/_flush?force=true", self.bed.index_prefix);
        self.bed.elasticsearch.request(reqwest::Method::POST, &path, None).await;
        let node = &self.bed.servers.elasticsearch;
        node.stop().await;
        node.start().await;
    }

    /// Everything is completed, and nothing that went wrong on the way has cost an attempt.
    async fn assert_no_attempt_lost(&self, name: &str) {
        let wrong = "select count(*) from elasticsearch_sync_queue
            where status <> 'completed' or retry_count <> 0 or error_message is not null";
        assert_eq!(self.number(wrong).await, 0, "{name}: a fault of the service is no job's");
    }

    /// `status count` of all jobs, in the order of the words.
    async fn statuses(&self) -> String {
        let sql = "select coalesce(string_agg(status || ' ' || n, ', ' order by status), '')
            from (select status, count(*) n from elasticsearch_sync_queue group by status) s";
        self.bed.sql.value(sql, &[]).await
    }

    /// Runs `walferry ARGUMENTS`, which must end with `code`; its output.
    pub(crate) async fn command(&self, arguments: &[&str], code: i32) -> String {
        let (found, output) = self.bed.walferry_once(arguments, Duration::from_secs(30)).await;
        assert_eq!(found, code, "walferry {arguments:?}: {output}");
        output
    }
}

/// Status and JSON body of a POST without one.
async fn post(walferry: &Walferry, path: &str) -> (u16, Value) {
    walferry.post_json(&format!("/api/v1/ai-suggestions/queue/{path}"), None).await
}

/// Sessions that write until told to stop.
struct Writers {
    stop: CancellationToken,
    writing: JoinHandle<usize>,
}

impl Writers {
    fn start(scene: &Scene, seed: u64) -> Self {
        let extras = Extras::default();
        let workload = Workload { database: scene.database(), seed, extras };
        let stop = CancellationToken::new();
        let writing = tokio::spawn({
            let stop = stop.clone();
            async move { workload.run(usize::MAX, &stop).await }
        });
        Self { stop, writing }
    }

    async fn stop(self) -> usize {
        self.stop.cancel();
        self.writing.await.expect("the sessions end")
    }
}

/// The workload's first rows, before any start of walferry.
async fn seeded(scene: &Scene, seed: u64) {
    let extras = Extras::default();
    Workload { database: scene.database(), seed, extras }.prepare().await;
}
