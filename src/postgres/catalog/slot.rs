//! The replication slot in `pg_replication_slots`, and its comparison with the stored position.
//!
//! Every statement on `pg_replication_slots` is here. A slot that was invalidated, created again
//! or advanced by another client skips changes, and the stream does not report the gap. Therefore
//! [`compare`] runs at each start and again after `START_REPLICATION`.
//!
//! Not here: the replication protocol (`engine::wal::connection`) and storing the position
//! (`storage::position`).

use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Error, GenericClient};

use crate::change::Lsn;
use crate::postgres::error::{Disposition, Recovery};

/// The identity of a database cluster, as `IDENTIFY_SYSTEM` returns it (protocol section
/// "Streaming Replication Protocol").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The unique identifier of the cluster.
    pub system_identifier: String,
    /// The current timeline.
    pub timeline: u32,
    /// The current WAL flush location.
    pub wal_end: Lsn,
}

/// A row of `pg_replication_slots` (PostgreSQL, "System Views").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationSlot {
    /// The output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The database of a logical slot.
    pub database: Option<String>,
    /// True if that is the database of the session.
    pub is_of_this_database: bool,
    /// True if a session streams from the slot.
    pub is_active: bool,
    /// The process id of that session.
    pub active_pid: Option<i32>,
    /// The position up to which the client confirmed changes; zero while the slot is created.
    pub confirmed_flush: Lsn,
    /// The oldest WAL that the slot may still need; zero if unknown.
    pub restart_lsn: Lsn,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Why the slot was invalidated. PostgreSQL 17 and later.
    pub invalidation_reason: Option<String>,
    /// The WAL in bytes that can be written before the slot can be lost; `None` if
    /// `max_slot_wal_keep_size` is unlimited.
    pub safe_wal_size: Option<i64>,
    /// The WAL in bytes from `restart_lsn` to the current write location.
    pub retained_bytes: u64,
    /// The WAL in bytes from `confirmed_flush` to the current write location.
    pub unconfirmed_bytes: u64,
    /// True for a slot of a standby that is synchronised from the primary. PostgreSQL 17 and
    /// later.
    pub is_synced: bool,
}

const INSPECT: &str = include_str!("slot.sql");

const COUNT: &str = "select count(*) as slots from pg_catalog.pg_replication_slots";

const TERMINATE_READER: &str =
    "select active_pid as pid, pg_catalog.pg_terminate_backend(active_pid)
    from pg_catalog.pg_replication_slots where slot_name = $1 and active_pid is not null";

const CREATE: &str = "select pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')::text";

const DROP: &str = "select pg_catalog.pg_drop_replication_slot(slot_name)
    from pg_catalog.pg_replication_slots
    where slot_name = $1 and (database is null or database = pg_catalog.current_database())";

/// Reads a slot; `None` if it does not exist.
///
/// # Errors
/// The error of the query.
pub async fn inspect(client: &Client, slot: &str) -> Result<Option<ReplicationSlot>, Error> {
    let Some(row) = client.query_opt(INSPECT, &[&slot]).await? else { return Ok(None) };
    let lsn = |column: &str| -> Result<Option<Lsn>, Error> {
        let lsn: Option<PgLsn> = row.try_get(column)?;
        Ok(lsn.map(|lsn| Lsn(lsn.into())))
    };
    let confirmed_flush = lsn("confirmed_flush_lsn")?;
    let restart_lsn = lsn("restart_lsn")?;
    let wal_end = lsn("wal_lsn")?.unwrap_or_default();
    let bytes_since = |lsn: Option<Lsn>| lsn.map_or(0, |lsn| wal_end.0.saturating_sub(lsn.0));
    Ok(Some(ReplicationSlot {
        plugin: row.try_get("plugin")?,
        database: row.try_get("database")?,
        is_of_this_database: row.try_get("is_of_this_database")?,
        is_active: row.try_get("is_active")?,
        active_pid: row.try_get("active_pid")?,
        confirmed_flush: confirmed_flush.unwrap_or_default(),
        restart_lsn: restart_lsn.unwrap_or_default(),
        wal_status: row.try_get("wal_status")?,
        invalidation_reason: row.try_get("invalidation_reason")?,
        safe_wal_size: row.try_get("safe_wal_size")?,
        retained_bytes: bytes_since(restart_lsn),
        unconfirmed_bytes: bytes_since(confirmed_flush),
        is_synced: row.try_get("is_synced")?,
    }))
}

/// The number of slots of the server.
///
/// # Errors
/// The error of the query.
pub async fn count(client: &Client) -> Result<i64, Error> {
    client.query_one(COUNT, &[]).await?.try_get("slots")
}

/// Creates a logical slot for `pgoutput`. The function waits for all transactions that run at the
/// time of the call.
///
/// # Errors
/// The error of the query.
pub async fn create(client: &Client, slot: &str) -> Result<(), Error> {
    client.query_one(CREATE, &[&slot]).await.map(drop)
}

/// Drops a slot; returns false if it does not exist, or is that of another database.
///
/// # Errors
/// The error of the query.
pub async fn remove(client: &impl GenericClient, slot: &str) -> Result<bool, Error> {
    client.execute(DROP, &[&slot]).await.map(|dropped| dropped > 0)
}

/// Terminates the session that streams from a slot; returns its process id, if there is one.
///
/// # Errors
/// The error of the query.
pub async fn terminate_reader(client: &Client, slot: &str) -> Result<Option<i32>, Error> {
    let row = client.query_opt(TERMINATE_READER, &[&slot]).await?;
    row.map(|row| row.try_get("pid")).transpose()
}

/// The cluster and the position that walferry has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredIdentity {
    /// The unique identifier of the cluster.
    pub system_identifier: String,
    /// The timeline.
    pub timeline: u32,
    /// The highest LSN that walferry was allowed to confirm, at first the slot's consistent
    /// point. The slot's own position can be lower (a crash of the server resets it to the last
    /// checkpoint), but not higher.
    pub acknowledged: Lsn,
}

/// Why streaming cannot continue from a slot.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SlotError {
    #[error(
        "replication slot {slot} does not exist although a position is stored; what was \
         committed since is lost to it: run `walferry rebuild` to start over with a new slot \
         and new indices"
    )]
    Missing { slot: String },
    #[error(
        "replication slot {slot} is no pgoutput slot of this database (plugin {plugin}, database \
         {database}); set WALFERRY_SLOT to another name, or drop the slot"
    )]
    Foreign { slot: String, plugin: String, database: String },
    #[error(
        "replication slot {slot} lost its WAL ({reason}); what was committed since is lost to \
         it: run `walferry rebuild` to start over with a new slot and new indices, and raise \
         max_slot_wal_keep_size or idle_replication_slot_timeout if this was too early"
    )]
    Lost { slot: String, reason: String },
    #[error(
        "replication slot {slot} is confirmed up to {confirmed}, but only {acknowledged} is \
         stored; it was made anew or somebody else read it, and there is a gap: run `walferry \
         rebuild` to start over with a new slot and new indices"
    )]
    Ahead { slot: String, confirmed: Lsn, acknowledged: Lsn },
    #[error(
        "this is another PostgreSQL cluster (system identifier {found}, stored is {stored}); \
         correct DATABASE_URL, or run `walferry rebuild` to start over with a new slot and new \
         indices"
    )]
    OtherSystem { found: String, stored: String },
    #[error(
        "PostgreSQL is on timeline {found}, stored is {stored}: it was restored or failed over, \
         and positions before and after do not compare; run `walferry rebuild` to start over \
         with a new slot and new indices"
    )]
    OtherTimeline { found: u32, stored: u32 },
}

impl Recovery for SlotError {
    /// The slot or its history differs from what is stored, and waiting does not change that.
    fn disposition(&self) -> Disposition {
        Disposition::Operator
    }
}

/// Checks that streaming can continue at the stored position.
///
/// # Errors
/// [`SlotError`] if streaming would skip changes or mix two histories.
pub fn compare(
    slot: &str,
    stored: &StoredIdentity,
    system: &SystemIdentity,
    actual: Option<&ReplicationSlot>,
) -> Result<(), SlotError> {
    if stored.system_identifier != system.system_identifier {
        return Err(SlotError::OtherSystem {
            found: system.system_identifier.clone(),
            stored: stored.system_identifier.clone(),
        });
    }
    if stored.timeline != system.timeline {
        return Err(SlotError::OtherTimeline { found: system.timeline, stored: stored.timeline });
    }
    let actual = actual.ok_or_else(|| SlotError::Missing { slot: slot.to_owned() })?;
    usable(slot, actual)?;
    if actual.confirmed_flush > stored.acknowledged {
        return Err(SlotError::Ahead {
            slot: slot.to_owned(),
            confirmed: actual.confirmed_flush,
            acknowledged: stored.acknowledged,
        });
    }
    Ok(())
}

/// Checks that the slot uses the plugin `pgoutput` and is not invalidated.
///
/// # Errors
/// [`SlotError::Foreign`], [`SlotError::Lost`].
pub fn usable(slot: &str, actual: &ReplicationSlot) -> Result<(), SlotError> {
    if actual.plugin.as_deref() != Some("pgoutput") {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        return Err(SlotError::Foreign {
            slot: slot.to_owned(),
            plugin: or_none(&actual.plugin),
            database: or_none(&actual.database),
        });
    }
    let lost = actual.wal_status.as_deref() == Some("lost");
    let reason = actual.invalidation_reason.clone();
    if let Some(reason) = reason.or_else(|| lost.then(|| "wal_status is lost".to_owned())) {
        return Err(SlotError::Lost { slot: slot.to_owned(), reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> SystemIdentity {
        SystemIdentity { system_identifier: "7".to_owned(), timeline: 1, wal_end: Lsn(900) }
    }

    fn stored() -> StoredIdentity {
        StoredIdentity { system_identifier: "7".to_owned(), timeline: 1, acknowledged: Lsn(500) }
    }

    fn slot() -> ReplicationSlot {
        ReplicationSlot {
            plugin: Some("pgoutput".to_owned()),
            database: Some("app".to_owned()),
            is_of_this_database: true,
            is_active: false,
            active_pid: None,
            confirmed_flush: Lsn(500),
            restart_lsn: Lsn(400),
            wal_status: Some("reserved".to_owned()),
            invalidation_reason: None,
            safe_wal_size: None,
            retained_bytes: 500,
            unconfirmed_bytes: 400,
            is_synced: false,
        }
    }

    fn check(system: &SystemIdentity, slot: Option<&ReplicationSlot>, expected: Result<(), &str>) {
        let found = compare("s", &stored(), system, slot).map_err(|error| error.to_string());
        match (&found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            _ => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_slot_may_be_behind_the_stored_position_but_not_ahead() {
        check(&system(), Some(&slot()), Ok(()));
        check(&system(), Some(&ReplicationSlot { confirmed_flush: Lsn(300), ..slot() }), Ok(()));
        let ahead = ReplicationSlot { confirmed_flush: Lsn(501), ..slot() };
        check(&system(), Some(&ahead), Err("confirmed up to 0/1F5, but only 0/1F4"));
    }

    #[test]
    fn a_missing_lost_or_foreign_slot_is_refused() {
        check(&system(), None, Err("does not exist"));
        let lost = ReplicationSlot { wal_status: Some("lost".to_owned()), ..slot() };
        check(&system(), Some(&lost), Err("wal_status is lost"));
        let idle =
            ReplicationSlot { invalidation_reason: Some("idle_timeout".to_owned()), ..slot() };
        check(&system(), Some(&idle), Err("idle_timeout"));
        let foreign = ReplicationSlot { plugin: Some("wal2json".to_owned()), ..slot() };
        check(&system(), Some(&foreign), Err("plugin wal2json"));
    }

    #[test]
    fn another_history_is_refused_before_the_slot_is_checked() {
        let other = SystemIdentity { system_identifier: "8".to_owned(), ..system() };
        check(&other, None, Err("another PostgreSQL cluster"));
        let restored = SystemIdentity { timeline: 2, ..system() };
        check(&restored, None, Err("timeline 2, stored is 1"));
    }
}
