//! Why a database could not be prepared.

use crate::postgres::lock::LockError;
use crate::postgres::{Disposition, Recovery};
use crate::storage::QueueError;
use crate::storage::advisory::Holder;

/// The database could not be prepared. Where a check failed, nothing was altered.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("another walferry migrate is running in this database ({0}); wait for it to end")]
    Busy(Holder),
    #[error("PostgreSQL {0} is too old; walferry needs version 14 or newer")]
    ServerTooOld(i32),
    #[error(
        "this database was prepared by a newer walferry (migration {found}, this one knows \
         {known}); run that version"
    )]
    Newer { found: i32, known: i32 },
    #[error(
        "public.elasticsearch_sync_queue is not the queue of the system that walferry replaces: \
         {0}; nothing was changed; rename the table, or put it right, and run walferry migrate again"
    )]
    NotTheOriginal(String),
    #[error(
        "{0} is built on public.elasticsearch_sync_queue or its statistics, which walferry \
         replaces; nothing was changed; drop it, run walferry migrate, and create it again"
    )]
    QueueUsed(String),
    #[error(
        "public.elasticsearch_sync_queue is a plain table again, while the schema walferry is of \
         an earlier installation; nothing was changed; drop schema walferry cascade and the \
         replication slot {slot}, and run walferry migrate again"
    )]
    OriginalAgain { slot: String },
    #[error(
        "wal_level is not logical; nothing was changed; alter system set wal_level = 'logical', \
         restart PostgreSQL, and run walferry migrate again"
    )]
    WalLevel,
    #[error(
        "replication slot {slot} can't be taken: {reason}; the original system goes on; drop the \
         slot or set WALFERRY_SLOT to another name, and run walferry migrate again"
    )]
    SlotTaken { slot: String, reason: String },
    #[error(
        "transactions that write {tables} or read the queue did not end in time, so the original \
         system goes on; end the oldest (pg_stat_activity), and run walferry migrate again"
    )]
    WritersStay {
        tables: String,
        #[source]
        source: LockError,
    },
    #[error("table {0} does not exist; create it or take it out of the configuration")]
    NoTable(String),
    #[error("{0} is not an ordinary or partitioned table; only those can be published")]
    NotATable(String),
    #[error(
        "table {table} has no primary key; walferry names documents by it: alter table {table} \
         add primary key (…)"
    )]
    NoKey { table: String },
    #[error(
        "publication {name} is for all tables, so it would publish the queue itself; drop \
         publication {name}; walferry migrate creates one for its tables"
    )]
    AllTables { name: String },
    #[error(
        "publication {name} publishes {table}, which walferry itself writes; take it out: {remedy}"
    )]
    QueuePublished { name: String, table: String, remedy: String },
    #[error(
        "publication {name} leaves out some operations; alter publication {name} set \
         (publish = 'insert, update, delete, truncate')"
    )]
    OperationsMissing { name: String },
    #[error("role {0} does not exist; create role {0} login replication")]
    NoRole(String),
    #[error(
        "row-level security of public.elasticsearch_sync_queue would filter role {0}, which must \
         see every job; nothing was changed; alter role {0} bypassrls, and run walferry migrate \
         again"
    )]
    RoleFiltered(String),
    #[error(
        "{object} belongs to role {owner}, and what another role owns is not executed; nothing was \
         changed; if walferry runs as {owner}, run walferry migrate --runtime-role {owner}, which \
         takes it back; if not, drop it or alter its owner"
    )]
    ForeignOwner { object: String, owner: String },
    #[error(
        "{object} is none of walferry's: role {role}, which owned walferry's objects, has added or \
         replaced it; nothing was changed; drop it, and run walferry migrate again"
    )]
    Added { object: String, role: String },
    #[error("migration {name} failed")]
    Migration {
        name: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("could not {what}")]
    Database {
        what: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Recovery for MigrateError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Migration { source, .. } | Self::Database { source, .. } => source.disposition(),
            Self::Lock(error) => error.disposition(),
            Self::Queue(error) => error.disposition(),
            Self::Busy(_) => Disposition::Retry,
            _ => Disposition::Operator,
        }
    }
}
