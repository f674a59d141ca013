//! The resources of one test: a database with the application's tables, a slot and an index prefix.
//!
//! Not here: starting servers (`servers`) and expectations (`tests/oracle`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::launcher::note;
use super::walferry::Launch;
use super::{Elasticsearch, Servers, Sql, Walferry, eventually};

/// The application's tables before walferry is installed.
const SOURCE_SCHEMA: &str = include_str!("../fixtures/source-schema.sql");

static SERIAL: AtomicU32 = AtomicU32::new(1);

/// A database, a slot and indices on the servers. It drops them when it is dropped itself. Declare
/// it before the [`Walferry`] that uses it, because variables are dropped in reverse order.
#[derive(Debug)]
pub(crate) struct TestBed {
    /// The name of the database. The slot has the same name, and the index prefix appends `_` to it.
    pub(crate) database: String,
    pub(crate) slot: String,
    pub(crate) publication: String,
    /// The prefix of all index and alias names.
    pub(crate) index_prefix: String,
    /// A session with the database as the superuser.
    pub(crate) sql: Sql,
    pub(crate) elasticsearch: Elasticsearch,
    pub(crate) servers: Servers,
}

impl TestBed {
    /// A test bed on the shared servers. `name` is in lower case with underscores.
    pub(crate) async fn new(name: &str) -> Self {
        Self::on(name, Servers::shared().await).await
    }

    /// A test bed on other servers, which the test can stop.
    pub(crate) async fn on(name: &str, servers: Servers) -> Self {
        Self::with_options(name, servers, "").await
    }

    /// The same, with options of `create database`.
    pub(crate) async fn with_options(name: &str, servers: Servers, options: &str) -> Self {
        let database = format!("{name}_{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        let admin = servers.postgres.connect("postgres").await;
        admin.run(&format!("create database {database} {options}")).await;
        let sql = servers.postgres.connect(&database).await;
        sql.run(SOURCE_SCHEMA).await;
        Self {
            slot: database.clone(),
            publication: "walferry".to_owned(),
            index_prefix: format!("{database}_"),
            elasticsearch: servers.elasticsearch.client(),
            database,
            sql,
            servers,
        }
    }

    /// The connection string of the database as the superuser.
    pub(crate) fn database_url(&self) -> String {
        self.servers.postgres.url(&self.database)
    }

    /// The full name of an index or alias: the prefix and `name`.
    pub(crate) fn index(&self, name: &str) -> String {
        format!("{}{name}", self.index_prefix)
    }

    /// Opens another session with the database.
    pub(crate) async fn connect(&self) -> Sql {
        self.servers.postgres.connect(&self.database).await
    }

    /// Replaces [`TestBed::sql`] after a restart of the server.
    pub(crate) async fn reconnect(&mut self) {
        self.sql = self.connect().await;
    }

    /// A command of walferry with the environment of the test bed. It is not started.
    pub(crate) fn walferry(&self, arguments: &[&str]) -> Launch {
        Launch::new(arguments)
            .env("DATABASE_URL", self.database_url())
            .env("ELASTICSEARCH_URL", self.servers.elasticsearch.url())
            .env("WALFERRY_SLOT", &self.slot)
            .env("WALFERRY_PUBLICATION", &self.publication)
            .env("WALFERRY_INDEX_PREFIX", &self.index_prefix)
    }

    /// Runs `walferry ARGUMENTS` within `limit` and returns the exit code and the output.
    pub(crate) async fn walferry_once(&self, arguments: &[&str], limit: Duration) -> (i32, String) {
        let mut child = self.walferry(arguments).spawn();
        let code = child.wait_exit(limit).await;
        (code, child.output())
    }

    /// Runs `walferry migrate`. It must succeed.
    pub(crate) async fn migrate(&self) {
        let (code, output) = self.walferry_once(&["migrate"], Duration::from_secs(30)).await;
        assert_eq!(code, 0, "walferry migrate: {output}");
    }

    /// Starts `walferry run` and waits until `/readyz` returns 200.
    pub(crate) async fn start(&self) -> Walferry {
        let mut child = self.walferry(&["run"]).spawn();
        child.wait_ready(Duration::from_secs(60)).await;
        child
    }

    /// Waits until the slot's confirmed position is at or after the current end of the WAL.
    pub(crate) async fn wait_acknowledged(&self, limit: Duration) {
        let target: String = self.sql.value("select pg_current_wal_insert_lsn()::text", &[]).await;
        eventually(limit, "the slot has passed the end of the WAL", async || {
            let query = "select coalesce(confirmed_flush_lsn >= $1::text::pg_lsn, false),
                coalesce(confirmed_flush_lsn::text, '-') from pg_replication_slots where slot_name = $2";
            let row = self.sql.query_opt(query, &[&target, &self.slot]).await;
            match row.map_err(|error| error.to_string())? {
                Some(row) if row.get(0) => Ok(()),
                Some(row) => Err(format!("it stands at {} of {target}", row.get::<_, String>(1))),
                None => Err("there is no slot".to_owned()),
            }
        })
        .await;
    }
}

impl Drop for TestBed {
    /// Cleans up on another thread, because the runtime may be shutting down.
    fn drop(&mut self) {
        let (servers, database) = (self.servers.clone(), self.database.clone());
        let prefix = self.index_prefix.clone();
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let limit = Duration::from_secs(20);
                let work = async {
                    let sql = drop_database(&servers, &database).await;
                    let indices = servers.elasticsearch.client().delete_all(&prefix).await;
                    sql.and(indices)
                };
                match tokio::time::timeout(limit, work).await {
                    Ok(result) => result,
                    Err(_) => Err(format!("not within {limit:?}")),
                }
            })
        });
        // A test that ended with its server down leaves nothing that the guard would not remove.
        match cleaner.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => note(&format!("the bed {} stays: {error}", self.database)),
            Err(_) => note(&format!("the bed {} stays", self.database)),
        }
    }
}

/// Ends the sessions of `database`, drops its slots and then itself.
async fn drop_database(servers: &Servers, database: &str) -> Result<(), String> {
    let shown = |error: tokio_postgres::Error| error.to_string();
    let admin = Sql::connect(&servers.postgres.url("postgres")).await.map_err(shown)?;
    let end_sessions =
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1";
    let drop_slots = "select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots
        where database = $1 and not active";
    let slots_left = "select count(*) from pg_replication_slots where database = $1";
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        admin.query(end_sessions, &[&database]).await.map_err(shown)?;
        // A walsender that ends still holds its slot for a moment, so the drop is repeated.
        if admin.query(drop_slots, &[&database]).await.is_ok() {
            let row = admin.query_one(slots_left, &[&database]).await.map_err(shown)?;
            if row.get::<_, i64>(0) == 0 {
                break;
            }
        }
    }
    let statement = format!("drop database if exists {database} with (force)");
    admin.batch_execute(&statement).await.map_err(shown)
}
