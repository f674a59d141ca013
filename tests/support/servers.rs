//! The servers of a test: shared with other tests, or its own.
//!
//! Not here: the databases and indices of a test (`bed`).

use std::sync::{Arc, OnceLock};

use super::launcher::stack_blocking;
use super::{ElasticsearchNode, Postgres};

/// A PostgreSQL server and an Elasticsearch node.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pub(crate) postgres: Arc<Postgres>,
    pub(crate) elasticsearch: Arc<ElasticsearchNode>,
}

static SHARED: OnceLock<Result<Servers, String>> = OnceLock::new();

impl Servers {
    /// The servers that all tests of this process share. The first call starts them.
    pub(crate) async fn shared() -> Self {
        let started = tokio::task::spawn_blocking(|| SHARED.get_or_init(|| Self::start(&[])))
            .await
            .expect("starting servers does not panic");
        match started {
            Ok(servers) => servers.clone(),
            Err(error) => panic!("no servers, no integration tests: {error}"),
        }
    }

    /// A PostgreSQL server of this test with these settings, and the shared Elasticsearch.
    pub(crate) async fn private_postgres(
        settings: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self::private_postgres_of(None, settings).await
    }

    /// The same with a PostgreSQL server of a version.
    pub(crate) async fn private_postgres_of(
        version: Option<&'static str>,
        settings: &'static [(&'static str, &'static str)],
    ) -> Self {
        let shared = Self::shared().await;
        Self { postgres: Arc::new(Postgres::private_of(version, settings).await), ..shared }
    }

    /// An Elasticsearch node of this test with these settings, and the shared PostgreSQL.
    pub(crate) async fn private_elasticsearch(
        settings: &'static [(&'static str, &'static str)],
    ) -> Self {
        let shared = Self::shared().await;
        Self { elasticsearch: Arc::new(ElasticsearchNode::private(settings).await), ..shared }
    }

    fn start(settings: &[(&str, &str)]) -> Result<Self, String> {
        stack_blocking(&["install"])?;
        std::thread::scope(|threads| {
            let elasticsearch = threads.spawn(|| ElasticsearchNode::start_blocking(&[]));
            let postgres = Postgres::start_blocking(settings)?;
            let elasticsearch = elasticsearch.join().expect("starting a node does not panic")?;
            Ok(Self { postgres: Arc::new(postgres), elasticsearch: Arc::new(elasticsearch) })
        })
    }
}
