//! The HTTP server's own connections to PostgreSQL: few, opened when first needed, bounded in
//! time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::config::Database;
use crate::postgres::{ConnectError, Session, connect};

const CONNECTIONS_MAX: usize = 2;
/// For one query, a place and a connection included; the server's own limit is a little less.
const QUERY_TIME_MAX: Duration = Duration::from_secs(3);
const SETTINGS: &str = "set statement_timeout = '2s'; set lock_timeout = '1s'";

/// Why there is no answer from PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("PostgreSQL did not answer in time")]
    Timeout,
    #[error("PostgreSQL refused a query")]
    Query(#[from] tokio_postgres::Error),
}

/// At most two connections. Cloning shares them.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    database: Database,
    places: Semaphore,
    idle: Mutex<Vec<Session>>,
}

impl Pool {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let places = Semaphore::new(CONNECTIONS_MAX);
        Self(Arc::new(Shared { database, places, idle: Mutex::default() }))
    }

    /// The rows of one query.
    ///
    /// # Errors
    ///
    /// [`PoolError`]. A connection on which a query failed or took too long is not used again.
    pub async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PoolError> {
        let query = async {
            let place = self.0.places.acquire().await;
            let _place = place.expect("the semaphore is never closed");
            let session = self.session().await?;
            let rows = session.client.query(sql, parameters).await?;
            self.idle().push(session);
            Ok(rows)
        };
        timeout(QUERY_TIME_MAX, query).await.map_err(|_| PoolError::Timeout)?
    }

    /// A connection that is the caller's alone.
    ///
    /// # Errors
    ///
    /// [`PoolError`].
    pub async fn connect(&self, name: &str) -> Result<Session, PoolError> {
        Ok(connect(&self.0.database, name).await?)
    }

    async fn session(&self) -> Result<Session, PoolError> {
        let idle = {
            let mut idle = self.idle();
            idle.retain(|session| !session.closed.is_closed());
            idle.pop()
        };
        if let Some(session) = idle {
            return Ok(session);
        }
        let session = connect(&self.0.database, "walferry api").await?;
        session.client.batch_execute(SETTINGS).await?;
        Ok(session)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        // Nothing panics while the lock is held, and a list of sessions is whole at any moment.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
