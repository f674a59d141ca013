//! PostgreSQL servers for tests, and sessions with them.
//!
//! Not here: downloading PostgreSQL (`tests/stack/stack`).

use std::ops::Deref;
use std::path::PathBuf;

use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, NoTls};

use super::launcher::{free_port, new_directory, note, signal, stack, stack_blocking, text};

/// The shutdown mode of a server (PostgreSQL, "Shutting Down the Server").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopMode {
    /// Fast: sessions are ended and a checkpoint is written. The server waits for walsenders.
    Fast,
    /// Immediate: as a crash, without a checkpoint.
    Immediate,
}

impl StopMode {
    fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

/// A version whose WAL sender says nothing while it skips what a REFRESH wrote, as later ones do.
pub(crate) const POSTGRES_15: &str = "15.18.0";

/// A server with `wal_level = logical` on a loopback port. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    /// The port on 127.0.0.1. It does not change with a restart.
    pub(crate) port: u16,
    directory: PathBuf,
}

impl Postgres {
    /// Creates and starts a server. `settings` are parameters of postgresql.conf, such as
    /// `("wal_keep_size", "1GB")`.
    ///
    /// # Errors
    /// The output of a server that does not start.
    pub(crate) fn start_blocking(settings: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_of_blocking(None, settings)
    }

    /// The same with a server of a version, such as `15.18.0`, which is fetched once.
    fn start_of_blocking(version: Option<&str>, settings: &[(&str, &str)]) -> Result<Self, String> {
        let server = Self { port: free_port(), directory: new_directory("postgres") };
        let (directory, port) = (text(&server.directory), server.port.to_string());
        let lines: Vec<String> =
            settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut arguments = match version {
            None => vec!["pg-init", &directory, &port],
            Some(version) => vec!["pg-init-of", version, &directory, &port],
        };
        arguments.extend(lines.iter().map(String::as_str));
        stack_blocking(&arguments)?;
        stack_blocking(&["pg-start", &directory])?;
        Ok(server)
    }

    /// A server of one test, which can stop it.
    pub(crate) async fn private(settings: &'static [(&'static str, &'static str)]) -> Self {
        Self::private_of(None, settings).await
    }

    /// The same with a server of a version.
    pub(crate) async fn private_of(
        version: Option<&'static str>,
        settings: &'static [(&'static str, &'static str)],
    ) -> Self {
        tokio::task::spawn_blocking(move || Self::start_of_blocking(version, settings))
            .await
            .expect("starting a server does not panic")
            .expect("PostgreSQL starts")
    }

    /// Starts the server after [`Postgres::stop`] or [`Postgres::kill9`].
    pub(crate) async fn start(&self) {
        stack(vec!["pg-start".into(), text(&self.directory)]).await.expect("PostgreSQL starts");
    }

    /// Stops the server and waits for its end, for up to 60 s.
    ///
    /// # Errors
    /// The output of `pg_ctl`, if the server does not stop.
    pub(crate) async fn try_stop(&self, mode: StopMode) -> Result<(), String> {
        stack(vec!["pg-stop".into(), text(&self.directory), mode.name().into()]).await
    }

    /// As [`Postgres::try_stop`]. It must succeed.
    pub(crate) async fn stop(&self, mode: StopMode) {
        self.try_stop(mode).await.expect("PostgreSQL stops");
    }

    /// Restarts the server.
    pub(crate) async fn restart(&self, mode: StopMode) {
        self.stop(mode).await;
        self.start().await;
    }

    /// Kills the postmaster. Its child processes end as well.
    pub(crate) fn kill9(&self) {
        signal(self.pid(), "KILL");
    }

    /// The process id of the postmaster.
    pub(crate) fn pid(&self) -> u32 {
        let file = self.data_directory().join("postmaster.pid");
        let lines = std::fs::read_to_string(file).expect("the server runs");
        let first = lines.lines().next().expect("the file's first line is the pid");
        first.trim().parse().expect("a pid is a number")
    }

    /// The data directory.
    pub(crate) fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The log of the server.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("server.log")).unwrap_or_default()
    }

    /// The connection string of a database as the superuser.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Opens a session with a database as the superuser.
    pub(crate) async fn connect(&self, database: &str) -> Sql {
        Sql::connect(&self.url(database)).await.expect("PostgreSQL accepts the connection")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.data_directory().join("postmaster.pid").exists() {
            let stopped = stack_blocking(&["pg-stop", &text(&self.directory), "immediate"]);
            if let Err(error) = stopped {
                note(&error);
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            note(&format!("{} stays: {error}", self.directory.display()));
        }
    }
}

/// A session, which a task of the test's runtime drives. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Sql {
    client: Client,
}

impl Sql {
    /// Opens a session with `url`.
    ///
    /// # Errors
    /// The server rejects the session or cannot be reached.
    pub(crate) async fn connect(url: &str) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(async move {
            // The next call of the client returns the error.
            drop(connection.await);
        });
        Ok(Self { client })
    }

    /// Runs statements without results.
    pub(crate) async fn run(&self, statements: &str) {
        if let Err(error) = self.client.batch_execute(statements).await {
            panic!("{}: {statements}", said(&error));
        }
    }

    /// Runs one statement with parameters and returns the number of affected rows.
    pub(crate) async fn execute(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> u64 {
        match self.client.execute(statement, values).await {
            Ok(rows) => rows,
            Err(error) => panic!("{}: {statement}", said(&error)),
        }
    }

    /// The first column of the only row of `query`.
    pub(crate) async fn value<T: FromSqlOwned>(
        &self,
        query: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> T {
        match self.client.query_one(query, values).await {
            Ok(row) => row.get(0),
            Err(error) => panic!("{}: {query}", said(&error)),
        }
    }

    /// The first column of all rows of `query`.
    pub(crate) async fn column<T: FromSqlOwned>(
        &self,
        query: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Vec<T> {
        match self.client.query(query, values).await {
            Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
            Err(error) => panic!("{}: {query}", said(&error)),
        }
    }

    /// The JSON value of `query`, such as `select to_jsonb(l) from listings l where …`.
    pub(crate) async fn json(&self, query: &str) -> serde_json::Value {
        let text: String = self.value(&format!("select ({query})::text"), &[]).await;
        serde_json::from_str(&text).expect("PostgreSQL prints valid JSON")
    }
}

impl Deref for Sql {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// An error with its cause. tokio-postgres prints only `db error`.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}
