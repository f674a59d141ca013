//! A test bed with the checks of the oracle.
//!
//! Not here: servers and processes (`support`), and the expectations themselves (`oracle`).

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use tokio::time::{Instant, interval};

use crate::oracle::json::Json;
use crate::oracle::{self, INDICES, Indices};
use crate::support::{Servers, StopMode, TestBed, Walferry, eventually};

pub(crate) mod proxy;

/// The time in which a started walferry must be ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// The time in which `walferry run --once` must end.
const ONCE_MAX: Duration = Duration::from_secs(60);
/// The interval between two checks that a process is running.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A database with the witness, which records all changes, and its indices.
pub(crate) struct Scene {
    pub(crate) bed: TestBed,
    pub(crate) indices: Indices,
}

impl Scene {
    /// A scene on the shared servers.
    pub(crate) async fn new(name: &str) -> Scene {
        let scene = Scene::unwitnessed(name).await;
        oracle::install(&scene.bed.sql).await;
        scene
    }

    /// A scene on the shared servers without the witness, which doubles the cost of each write.
    pub(crate) async fn unwitnessed(name: &str) -> Scene {
        Scene::unwitnessed_on(TestBed::new(name).await)
    }

    /// A scene on its own PostgreSQL server with these settings.
    pub(crate) async fn with_own_postgres(
        name: &str,
        settings: &'static [(&'static str, &'static str)],
    ) -> Scene {
        Scene::on(TestBed::on(name, Servers::private_postgres(settings).await).await).await
    }

    /// A scene on a given test bed.
    pub(crate) async fn on(bed: TestBed) -> Scene {
        let scene = Scene::unwitnessed_on(bed);
        oracle::install(&scene.bed.sql).await;
        scene
    }

    /// A scene on a given test bed, without the witness.
    pub(crate) fn unwitnessed_on(bed: TestBed) -> Scene {
        let indices = Indices::new(&bed.servers.elasticsearch.url(), &bed.index_prefix);
        Scene { bed, indices }
    }

    /// The connection parameters for sessions of the workload.
    pub(crate) fn database(&self) -> tokio_postgres::Config {
        self.bed.database_url().parse().expect("the bed's address is one")
    }

    /// Runs SQL statements.
    pub(crate) async fn sql(&self, statements: &str) {
        self.bed.sql.run(statements).await;
    }

    /// The integer that `query` returns.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        self.bed.sql.value(query, &[]).await
    }

    /// Starts `walferry run`.
    pub(crate) fn start(&self) -> Walferry {
        self.bed.walferry(&["run"]).spawn()
    }

    /// Starts `walferry run` and waits until it is ready.
    pub(crate) async fn ready(&self) -> Walferry {
        let mut walferry = self.start();
        walferry.wait_ready(READY_MAX).await;
        walferry
    }

    /// Runs `walferry run --once`, which must exit with 0.
    pub(crate) async fn once(&self) {
        let (code, output) = self.bed.walferry_once(&["run", "--once"], ONCE_MAX).await;
        assert_eq!(code, 0, "walferry run --once: {output}");
    }

    /// Waits until the slot has reached its consistent point. Later commits are streamed.
    pub(crate) async fn slot_made(&self) {
        let slots = format!(
            "select count(*) from pg_replication_slots
             where slot_name = '{}' and confirmed_flush_lsn is not null",
            self.bed.slot
        );
        until(READY_MAX, "the slot is made", async || self.number(&slots).await == 1).await;
    }

    /// Waits until all four indices exist.
    pub(crate) async fn indices_made(&self) {
        until(READY_MAX, "the indices are made", async || {
            for index in INDICES {
                let path = format!("/{}/_count", self.bed.index(index));
                let answer = self.bed.elasticsearch.try_request(Method::GET, &path, None).await;
                if !matches!(answer, Ok((200, _))) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Removes the recorded changes of rows that precede the slot. The first load indexes them
    /// without jobs.
    pub(crate) async fn forget_witnessed(&self) {
        self.sql("truncate oracle.change").await;
    }

    /// Waits until each recorded change has a completed job.
    pub(crate) async fn settled(&self, limit: Duration) {
        eventually(limit, "every change has a completed receipt", async || {
            let progress = oracle::progress(&self.bed.sql).await;
            let progress = progress.map_err(|error| error.to_string())?;
            if progress.is_done() { Ok(()) } else { Err(format!("{progress:?}")) }
        })
        .await;
    }

    /// Checks that the queue equals the recorded changes and that the indices equal the tables. It
    /// does not wait, because the documents of a completed job are indexed.
    pub(crate) async fn assert_true(&self) {
        let problems = oracle::audit_problems(&self.bed.sql).await;
        assert_eq!(problems, Vec::<String>::new(), "the queue differs from what was done");
        let problems = oracle::document_problems(&self.bed.sql, &self.indices).await;
        assert_eq!(problems, Vec::<String>::new(), "the indices differ from the tables");
    }

    /// Waits until the indices equal the tables. This is for a first load, which has no jobs.
    pub(crate) async fn documents_become_true(&self, limit: Duration) {
        eventually(limit, "the indices equal the tables", async || {
            let problems = oracle::document_problems(&self.bed.sql, &self.indices).await;
            if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
        })
        .await;
    }

    /// The versions of all documents by `index/id`.
    pub(crate) async fn versions(&self) -> BTreeMap<String, u64> {
        let mut versions = BTreeMap::new();
        for index in INDICES {
            let documents = self.indices.all(index).await.into_iter();
            versions.extend(documents.map(|(id, found)| (format!("{index}/{id}"), found.version)));
        }
        versions
    }

    /// Stops the scene's own PostgreSQL server without a checkpoint and starts it again.
    pub(crate) async fn crash_postgres(&mut self) {
        self.bed.servers.postgres.restart(StopMode::Immediate).await;
        self.bed.reconnect().await;
    }
}

/// The status and the body of a GET request.
pub(crate) async fn get(walferry: &Walferry, path: &str) -> (u16, Json) {
    let (status, body) = walferry.http_get(path).await.expect("walferry answers");
    (status, Json::parse(&body))
}

/// The status of a GET request; `None` if the server does not answer.
pub(crate) async fn status(walferry: &Walferry, path: &str) -> Option<u16> {
    walferry.http_get(path).await.ok().map(|(status, _)| status)
}

/// [`eventually`] for a condition without an error.
pub(crate) async fn until(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    eventually(
        limit,
        what,
        async || {
            if condition().await { Ok(()) } else { Err("not yet".to_owned()) }
        },
    )
    .await;
}

/// Checks for this time that the process does not end.
pub(crate) async fn lives(walferry: &mut Walferry, time: Duration) {
    let end = Instant::now() + time;
    let mut looks = interval(LOOK_EVERY);
    while Instant::now() < end {
        looks.tick().await;
        assert!(walferry.is_running(), "walferry ended by itself: {}", walferry.output_end());
    }
}
