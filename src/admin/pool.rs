//! The HTTP server's own connections to PostgreSQL: few, opened when first needed, with limits on
//! time.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::config::Database;
use crate::postgres::{ConnectError, Session, connect};
use crate::storage::QueueError;

/// Shared connections. Reads take milliseconds, so few connections serve many requests.
const SHARED_MAX: usize = 2;
/// Connections for whole records, which take one each.
const RECORDS_MAX: usize = 2;
/// Connections for operations, which take one each. However many clients read, an operator stops
/// indexing.
const OPERATIONS_MAX: usize = 2;
/// The wait for a permit to connect.
const PERMIT_TIME_MAX: Duration = Duration::from_secs(3);
/// For one answer, the permit included; the server's own limit for a statement is less.
const TIME_MAX: Duration = Duration::from_secs(5);
const SETTINGS: &str = "set statement_timeout = '2s'; set lock_timeout = '1s'";

/// Why there is no answer from PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("PostgreSQL did not answer in time")]
    Timeout,
    #[error("all connections that the API may have are busy")]
    Busy,
    #[error("PostgreSQL refused a query")]
    Query(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Cloning shares it.
#[derive(Clone)]
pub struct Pool(Arc<SharedPool>);

struct SharedPool {
    database: Database,
    shared: Arc<Semaphore>,
    records: Arc<Semaphore>,
    operations: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
}

/// A shared connection. Dropped without [`PooledSession::give_back`] it is closed: a query that failed
/// or was dropped half-way may have left it in any state.
struct PooledSession {
    session: Option<Session>,
    pool: Arc<SharedPool>,
    _permit: OwnedSemaphorePermit,
}

impl Deref for PooledSession {
    type Target = Client;

    fn deref(&self) -> &Client {
        let session = self.session.as_ref();
        &session.expect("only `give_back`, which consumes it, takes the session").client
    }
}

impl PooledSession {
    /// Returns it to the pool after a query that succeeded.
    fn give_back(mut self) {
        if let Some(session) = self.session.take() {
            self.pool.idle().push(session);
        }
    }
}

/// What a connection of the caller's own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionPurpose {
    /// To read a whole record.
    Record,
    /// To change something.
    Operation,
}

/// A connection of the caller's own.
pub(crate) struct DedicatedSession {
    pub(crate) client: Arc<Client>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self(Arc::new(SharedPool {
            database,
            shared: Arc::new(Semaphore::new(SHARED_MAX)),
            records: Arc::new(Semaphore::new(RECORDS_MAX)),
            operations: Arc::new(Semaphore::new(OPERATIONS_MAX)),
            idle: Mutex::default(),
        }))
    }

    /// A shared connection. Its statements may take 2 s.
    ///
    /// # Errors
    ///
    /// [`PoolError`].
    async fn lend(&self) -> Result<PooledSession, PoolError> {
        let permit = permit(&self.0.shared).await?;
        let idle = {
            let mut idle = self.0.idle();
            idle.retain(|session| !session.closed.is_closed());
            idle.pop()
        };
        let session = match idle {
            Some(session) => session,
            None => {
                let session = connect(&self.0.database, "walferry api").await?;
                session.client.batch_execute(SETTINGS).await?;
                session
            }
        };
        Ok(PooledSession { session: Some(session), pool: Arc::clone(&self.0), _permit: permit })
    }

    /// What a query on a shared connection returns, within 5 s.
    ///
    /// # Errors
    ///
    /// [`PoolError`].
    pub(crate) async fn read<T>(
        &self,
        query: impl AsyncFnOnce(&Client) -> Result<T, QueueError>,
    ) -> Result<T, PoolError> {
        in_time(async {
            let session = self.lend().await?;
            let found = query(&session).await?;
            session.give_back();
            Ok(found)
        })
        .await
    }

    /// A connection of the caller's own, with the caller's settings.
    ///
    /// # Errors
    ///
    /// [`PoolError`].
    pub(crate) async fn own(
        &self,
        purpose: SessionPurpose,
        settings: &str,
    ) -> Result<DedicatedSession, PoolError> {
        let (permits, name) = match purpose {
            SessionPurpose::Record => (&self.0.records, "walferry record"),
            SessionPurpose::Operation => (&self.0.operations, "walferry operate"),
        };
        let permit = permit(permits).await?;
        let session = connect(&self.0.database, name).await?;
        session.client.batch_execute(settings).await?;
        Ok(DedicatedSession { client: Arc::new(session.client), _permit: permit })
    }
}

impl SharedPool {
    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        // Nothing panics while the lock is held, and a list of sessions is whole at any moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn permit(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, PoolError> {
    let permit = timeout(PERMIT_TIME_MAX, Arc::clone(permits).acquire_owned()).await;
    Ok(permit.map_err(|_| PoolError::Busy)?.expect("the semaphore is never closed"))
}

/// A read, given up when it takes too long.
///
/// # Errors
///
/// [`PoolError`].
pub(crate) async fn in_time<T, E: From<PoolError>>(
    read: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(TIME_MAX, read).await.map_err(|_| PoolError::Timeout)?
}
