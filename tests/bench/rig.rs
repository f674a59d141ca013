//! The servers of a run, and walferry in the configuration of a user.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use tokio::sync::OnceCell;
use tokio_postgres::types::FromSqlOwned;

use crate::cost;
use crate::support::{ElasticsearchNode, Postgres, Servers, Sql, TestBed, Walferry, eventually};

/// The time in which a started walferry must be ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// The durability settings of a production server, which tests disable.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
];

/// The servers of all runs. They are shared because the JVM of Elasticsearch must warm up.
static SERVERS: OnceCell<Servers> = OnceCell::const_new();

pub(crate) struct Rig {
    pub(crate) bed: TestBed,
    /// The configuration file; `None` for the built-in definition.
    definition: Option<&'static str>,
}

/// The processor time of the servers since their start.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    pub(crate) postgres: Duration,
    pub(crate) elasticsearch: Duration,
}

impl Rig {
    pub(crate) async fn up(definition: Option<&'static str>) -> Rig {
        let servers = SERVERS
            .get_or_init(|| async {
                Servers {
                    postgres: Arc::new(Postgres::private(SETTINGS).await),
                    elasticsearch: Arc::new(ElasticsearchNode::private(&[]).await),
                }
            })
            .await
            .clone();
        Rig { bed: TestBed::on("bench", servers).await, definition }
    }

    pub(crate) fn sql(&self) -> &Sql {
        &self.bed.sql
    }

    pub(crate) fn start(&self) -> Walferry {
        let launch = self.bed.walferry(&["run"]).env("RUST_LOG", "warn");
        match self.definition {
            Some(file) => launch.env("WALFERRY_CONFIG", file).spawn(),
            None => launch.spawn(),
        }
    }

    pub(crate) async fn start_and_ready(&self) -> Walferry {
        let mut walferry = self.start();
        walferry.wait_ready(READY_MAX).await;
        walferry
    }

    pub(crate) fn used(&self) -> Used {
        Used {
            postgres: cost::cpu(self.bed.servers.postgres.pid()),
            elasticsearch: cost::cpu(self.bed.servers.elasticsearch.pid()),
        }
    }

    /// True if all changes up to an LSN are settled. The check does not load the server.
    pub(crate) async fn has_settled(&self, lsn: &str) -> bool {
        let sql = format!("select settled_lsn >= '{lsn}' from walferry.settlement");
        self.value(&sql).await
    }

    /// Waits until the first load is finished.
    pub(crate) async fn loaded(&self) {
        eventually(READY_MAX, "the first load is done", async || {
            let sql = "select count(*) > 0 and count(*) = count(done_at) from walferry.load";
            if self.value(sql).await { Ok(()) } else { Err("it goes on".to_owned()) }
        })
        .await;
    }

    /// The number of jobs in the queue and of completed jobs, by a full count.
    pub(crate) async fn receipts(&self) -> (i64, i64) {
        let all = self.value("select count(*) from elasticsearch_sync_queue").await;
        let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
        (all, self.value(completed).await)
    }

    /// The number of listings in the index.
    pub(crate) async fn documents(&self) -> u64 {
        self.bed.elasticsearch.count(&self.bed.index("listings")).await
    }

    /// The number of listings that are visible to searches.
    pub(crate) async fn searchable(&self) -> u64 {
        let path = format!("/{}/_count", self.bed.index("listings"));
        let answer = self.bed.elasticsearch.request(Method::GET, &path, None).await;
        answer["count"].as_u64().expect("a count is a number")
    }

    pub(crate) async fn value<T: FromSqlOwned>(&self, query: &str) -> T {
        self.bed.sql.value(query, &[]).await
    }
}
