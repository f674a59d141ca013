//! The HTTP server's own connections to PostgreSQL: few, opened when first needed, bounded in
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

/// For looks. They take milliseconds, so few places serve many.
const LOOKS_MAX: usize = 2;
/// For operations and whole records, which take a connection each.
const OWN_MAX: usize = 3;
/// For a place and a connection.
const PLACE_TIME_MAX: Duration = Duration::from_secs(3);
/// For one answer, a place included; the server's own limit for a statement is less.
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
pub struct Pool(Arc<Shared>);

struct Shared {
    database: Database,
    looks: Arc<Semaphore>,
    own: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
}

/// A connection for looks. Dropped without [`PooledSession::give_back`] it is closed: who knows in what
/// state a query left it that failed or was dropped half-way.
pub(crate) struct PooledSession {
    session: Option<Session>,
    shared: Arc<Shared>,
    _place: OwnedSemaphorePermit,
}

impl Deref for PooledSession {
    type Target = Client;

    fn deref(&self) -> &Client {
        let session = self.session.as_ref();
        &session.expect("only `give_back`, which consumes it, takes the session").client
    }
}

impl PooledSession {
    /// All is well: the next look may have it.
    pub(crate) fn give_back(mut self) {
        if let Some(session) = self.session.take() {
            self.shared.idle().push(session);
        }
    }
}

/// A connection of the caller's own.
pub(crate) struct DedicatedSession {
    pub(crate) session: Session,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        let (looks, own) = (semaphore(LOOKS_MAX), semaphore(OWN_MAX));
        Self(Arc::new(Shared { database, looks, own, idle: Mutex::default() }))
    }

    /// A connection for looks, whose statements may take 2 s.
    ///
    /// # Errors
    ///
    /// [`PoolError`].
    pub(crate) async fn lend(&self) -> Result<PooledSession, PoolError> {
        let place = place(&self.0.looks).await?;
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
        Ok(PooledSession { session: Some(session), shared: Arc::clone(&self.0), _place: place })
    }

    /// A connection of the caller's own, with the caller's settings.
    ///
    /// # Errors
    ///
    /// [`PoolError`].
    pub(crate) async fn own(
        &self,
        name: &str,
        settings: &str,
    ) -> Result<DedicatedSession, PoolError> {
        let place = place(&self.0.own).await?;
        let session = connect(&self.0.database, name).await?;
        session.client.batch_execute(settings).await?;
        Ok(DedicatedSession { session, _place: place })
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        // Nothing panics while the lock is held, and a list of sessions is whole at any moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, PoolError> {
    let place = timeout(PLACE_TIME_MAX, Arc::clone(places).acquire_owned()).await;
    Ok(place.map_err(|_| PoolError::Busy)?.expect("the semaphore is never closed"))
}

/// A look, given up when it takes too long.
///
/// # Errors
///
/// [`PoolError`].
pub(crate) async fn in_time<T>(
    look: impl Future<Output = Result<T, PoolError>>,
) -> Result<T, PoolError> {
    timeout(TIME_MAX, look).await.map_err(|_| PoolError::Timeout)?
}
