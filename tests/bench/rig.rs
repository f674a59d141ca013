//! A PostgreSQL and an Elasticsearch for one run, and walferry beside them as a user would run it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use tokio::sync::OnceCell;
use tokio_postgres::types::FromSqlOwned;

use crate::cost;
use crate::support::{ElasticsearchNode, Postgres, Servers, Sql, TestBed, Walferry, eventually};

/// From a start to being ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// Tests trade safety for speed; a measurement must not.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
];

/// One pair for all runs: a server that has just started spends its time compiling itself.
static SERVERS: OnceCell<Servers> = OnceCell::const_new();

pub(crate) struct Rig {
    pub(crate) bed: TestBed,
    /// A configuration file, where it is not the built-in definition that is measured.
    definition: Option<&'static str>,
}

/// Processor time that the servers have used since they started.
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

    /// Whether everything up to an LSN is settled; costs the server nothing.
    pub(crate) async fn has_settled(&self, lsn: &str) -> bool {
        let sql = format!("select settled_lsn >= '{lsn}' from walferry.settlement");
        self.value(&sql).await
    }

    /// Waits until the rows that stood before the first start are loaded.
    pub(crate) async fn loaded(&self) {
        eventually(READY_MAX, "the first load is done", async || {
            let sql = "select count(*) > 0 and count(*) = count(done_at) from walferry.load";
            if self.value(sql).await { Ok(()) } else { Err("it goes on".to_owned()) }
        })
        .await;
    }

    /// Jobs in the queue, counted one by one, and how many of them are completed.
    pub(crate) async fn receipts(&self) -> (i64, i64) {
        let all = self.value("select count(*) from elasticsearch_sync_queue").await;
        let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
        (all, self.value(completed).await)
    }

    /// Listings in the index.
    pub(crate) async fn documents(&self) -> u64 {
        self.bed.elasticsearch.count(&self.bed.index("listings")).await
    }

    /// Listings that a search sees now.
    pub(crate) async fn searchable(&self) -> u64 {
        let path = format!("/{}/_count", self.bed.index("listings"));
        let answer = self.bed.elasticsearch.request(Method::GET, &path, None).await;
        answer["count"].as_u64().expect("a count is a number")
    }

    pub(crate) async fn value<T: FromSqlOwned>(&self, query: &str) -> T {
        self.bed.sql.value(query, &[]).await
    }
}
