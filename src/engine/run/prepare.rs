//! Prepares a run that may write: checks the environment, takes the lease, recognises or creates
//! the slot, and starts the stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::{Context, Fault, RunError, slot_creation};
use crate::change::Lsn;
use crate::engine::document::definition::Definition;
use crate::engine::document::shape::Shapes;
use crate::engine::feed::inspect;
use crate::engine::preflight;
use crate::engine::supervisor::slot_watch::STREAM;
use crate::engine::supervisor::upkeep;
use crate::engine::wal::{Replication, ReplicationStream};
use crate::postgres::catalog::slot;
use crate::postgres::catalog::slot::StoredIdentity;
use crate::postgres::catalog::slot::SystemIdentity;
use crate::postgres::catalog::standby;
use crate::postgres::{self, Closed};
use crate::storage::lease;
use crate::storage::lease::{AcquireError, Lease};
use crate::storage::position;
use crate::storage::position::{Settlement, StoredPosition};
use crate::storage::queue::record_id::TableKeys;
use crate::storage::schema;
use crate::storage::schema::MigrateOptions;
use crate::storage::source_identity::Source;
use crate::telemetry::metrics::source::ReplicationFailure;
use crate::telemetry::readiness::Component;

/// A standby tries to take the lease this often.
const STANDBY_EVERY: Duration = Duration::from_millis(250);

/// Between two reads of a setting that an operator must mend.
const SETTING_AGAIN: Duration = Duration::from_secs(1);

/// What a run starts with.
pub(super) struct Prepared {
    pub lease: Lease,
    /// The session that holds the lease. Nothing else waits on it, so that renewals wait for nothing.
    pub holder: Arc<Client>,
    /// For what the run begins and ends with.
    pub control: Arc<Client>,
    pub closed: Vec<Closed>,
    /// Taken by the stream's task.
    pub stream: Option<ReplicationStream>,
    pub start: Lsn,
    pub stored: StoredPosition,
    pub settlement: Settlement,
    pub shapes: Shapes,
    pub keys: Arc<TableKeys>,
    /// What the stream is made of.
    pub source: Source,
    /// The slot's confirmed position: below everything that is still to be indexed.
    pub confirmed: Lsn,
    /// The WAL's flushed end when the run began.
    pub wal_end: Lsn,
    /// Tasks that end with the run; the lease is renewed from the moment it is taken.
    pub beside: JoinSet<Result<(), Fault>>,
}

impl Prepared {
    /// Another session of this epoch.
    pub(super) async fn session(
        &mut self,
        context: &Context,
        purpose: &str,
    ) -> Result<Client, Fault> {
        let session = connect(context, &self.lease.application_name(purpose)).await?;
        self.closed.push(session.closed);
        Ok(session.client)
    }
}

pub(super) async fn connect(
    context: &Context,
    application_name: &str,
) -> Result<postgres::Session, Fault> {
    Ok(postgres::connect(&context.config.database, application_name).await?)
}

/// Makes everything ready that a run starts from.
///
/// # Errors
/// The [`Fault`] that ends the attempt.
pub(super) async fn prepare(context: &Context) -> Result<Prepared, Fault> {
    let config = &context.config;
    let session = connect(context, &format!("walferry/{}/standby", config.slot)).await;
    let session = session.inspect_err(|fault| note(context, Component::Database, fault))?;
    if let Some(reason) = &session.read_only {
        let fault = Fault::Passing(format!("PostgreSQL takes no writes: {reason}"));
        note(context, Component::Database, &fault);
        return Err(fault);
    }
    let holder = Arc::new(session.client);
    await_asynchronous(context, &holder).await?;
    migrate_virgin(context, &holder).await?;
    environment(context, &holder).await?;
    context.status.ok(Component::Database, "connected");
    let lease = take_lease(context, &holder).await?;
    let rename = "select pg_catalog.set_config('application_name', $1, false)";
    holder.execute(rename, &[&lease.application_name("lease")]).await?;
    let mut beside = JoinSet::new();
    let renewal = upkeep::renew(Arc::clone(&holder), lease.clone(), context.metrics.waits.clone());
    beside.spawn(async move { renewal.await.map_err(Fault::from) });
    let control = connect(context, &lease.application_name("control")).await?;
    let closed = vec![session.closed, control.closed];
    let control = Arc::new(control.client);

    let replication = Replication::connect(&config.database, &lease.application_name(STREAM)).await;
    let mut replication = replication.map_err(|error| replication_fault(context, error))?;
    let system = replication.identify_system().await;
    let system = system.map_err(|error| replication_fault(context, error))?;
    let Recognised { stored, settlement, anew } =
        recognise(context, &control, &lease, &mut replication, &system).await?;
    let start = stored.recorded_end_lsn.max(settlement.settled_lsn);
    let tables = tables(&context.definition);
    let source = Source::recognise(&control, &lease, &config.publication, &tables, anew).await?;
    // After the keys that every second's are compared with.
    let (shapes, keys) = shapes(&control, &context.definition).await?;
    let stream = replication.start(&config.slot, start, &config.publication).await;
    let stream = stream.map_err(|error| replication_fault(context, error))?;
    // Once more, now that no other session can read the slot.
    let actual = slot::inspect(&control, &config.slot).await?;
    slot::compare(&config.slot, &identity(&stored, start), &system, actual.as_ref())?;
    let confirmed = actual.map_or(start, |slot| slot.confirmed_flush);
    let wal_end = flushed(&control).await?;
    Ok(Prepared {
        lease,
        holder,
        control,
        closed,
        stream: Some(stream),
        start,
        stored,
        settlement,
        shapes,
        keys,
        source,
        confirmed,
        wal_end,
        beside,
    })
}

fn note(context: &Context, component: Component, fault: &Fault) {
    context.status.fault(component, fault.to_string());
}

/// Waits while `synchronous_standby_names` would make commits wait for the stream. It comes before
/// the first commit, which would wait as well.
async fn await_asynchronous(context: &Context, control: &Client) -> Result<(), Fault> {
    let mut is_logged = false;
    loop {
        let found = standby::inspect(control, "").await?;
        let Err(error) = found.verify() else { return Ok(()) };
        if context.options.once {
            return Err(error.into());
        }
        context.status.fault(Component::Slot, error.to_string());
        if !std::mem::replace(&mut is_logged, true) {
            tracing::warn!(
                event = "synchronous_standby",
                error = %error,
                "not streaming, so that no commit waits for walferry"
            );
        }
        tokio::time::sleep(SETTING_AGAIN).await;
    }
}

/// Prepares a database that has no object of walferry yet, and none of the system that it replaces,
/// as `walferry migrate` does. Every other database is left to that command.
async fn migrate_virgin(context: &Context, control: &Client) -> Result<(), Fault> {
    let sql = "select pg_catalog.to_regnamespace('walferry') is null
        and pg_catalog.to_regclass('public.elasticsearch_sync_queue') is null
        and not exists (select from pg_catalog.pg_publication where pubname = $1)";
    let row = control.query_one(sql, &[&context.config.publication]).await;
    let is_virgin: bool = row?.get(0);
    let settings = "show wal_level";
    let row = control.query_one(settings, &[]).await?;
    if !is_virgin || row.get::<_, &str>(0) != "logical" {
        return Ok(());
    }
    tracing::info!(
        event = "first_start",
        "first start: preparing the database as `walferry migrate` does"
    );
    let options = MigrateOptions {
        tables: tables(&context.definition),
        publication: context.config.publication.clone(),
        slot: context.config.slot.clone(),
        runtime_role: None,
    };
    let report = schema::run(control, &options).await;
    report?;
    let reset = control.batch_execute("reset lock_timeout; reset client_min_messages").await;
    Ok(reset?)
}

fn tables(definition: &Definition) -> Vec<(String, String)> {
    definition.tables.iter().map(|t| (t.schema.clone(), t.name.clone())).collect()
}

async fn environment(context: &Context, control: &Client) -> Result<(), Fault> {
    Ok(preflight::environment(control, &context.config, &context.definition).await?)
}

/// Waits as a standby until the lease is free.
async fn take_lease(context: &Context, control: &Client) -> Result<Lease, Fault> {
    let holder = format!("{} on {}", std::process::id(), context.config.listen);
    let mut is_logged = false;
    loop {
        match lease::acquire(control, &context.config.slot, &holder).await {
            Ok(lease) => return Ok(lease),
            Err(error @ AcquireError::Held { .. }) => {
                context.status.standby(format!("standing by: {error}"));
                if !is_logged {
                    tracing::info!(event = "standing_by", %error, "standing by");
                    context.metrics.stands_by();
                    is_logged = true;
                }
                tokio::time::sleep(STANDBY_EVERY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn replication_fault(context: &Context, error: crate::engine::wal::ReplicationError) -> Fault {
    context.metrics.source.failed(error.failure());
    Fault::from(error)
}

fn identity(stored: &StoredPosition, acknowledged: Lsn) -> StoredIdentity {
    StoredIdentity {
        system_identifier: stored.system_identifier.clone(),
        timeline: u32::try_from(stored.timeline).unwrap_or_default(),
        acknowledged,
    }
}

/// Where the stream continues.
struct Recognised {
    stored: StoredPosition,
    settlement: Settlement,
    /// There was no position before.
    anew: bool,
}

/// The stored position, checked against the slot; or a new slot with a position of its own.
async fn recognise(
    context: &Context,
    control: &Client,
    lease: &Lease,
    replication: &mut Replication,
    system: &SystemIdentity,
) -> Result<Recognised, Fault> {
    let name = &context.config.slot;
    let stored = position::load(control, name).await?;
    let actual = slot::inspect(control, name).await?;
    // A rebuild leaves nothing of the position but the generation.
    if let Some(stored) = stored.clone().filter(|stored| stored.recorded_end_lsn > Lsn(0)) {
        let settlement = position::load_settlement(control, name).await?;
        let start = stored.recorded_end_lsn.max(settlement.settled_lsn);
        slot::compare(name, &identity(&stored, start), system, actual.as_ref())?;
        return Ok(Recognised { stored, settlement, anew: false });
    }
    if let Some(other) = position::other_slot(control, name).await? {
        return Err(Fault::Permanent(RunError::Environment(format!(
            "this database's queue is fed from slot {other}, and a second slot would write every \
             change again; set WALFERRY_SLOT={other}, or give that slot up: stop its walferry, \
             run `WALFERRY_SLOT={other} walferry rebuild --yes`, and delete its row from \
             walferry.position"
        ))));
    }
    let start = match actual {
        Some(slot) => {
            slot::usable(name, &slot)?;
            slot.confirmed_flush
        }
        None => {
            let created = slot_creation::create(context, control, replication).await;
            created.inspect_err(|_| context.metrics.source.failed(ReplicationFailure::Server))?
        }
    };
    let stored = StoredPosition {
        system_identifier: system.system_identifier.clone(),
        timeline: i32::try_from(system.timeline).unwrap_or(i32::MAX),
        generation: stored.map_or(1, |stored| stored.generation),
        recorded: crate::change::Position::default(),
        recorded_end_lsn: start,
    };
    let settlement = Settlement { settled_lsn: start, read_ahead_lsn: Lsn(0) };
    position::store(control, lease, &stored, settlement).await?;
    Ok(Recognised { stored, settlement, anew: true })
}

async fn flushed(control: &Client) -> Result<Lsn, Fault> {
    let row = control.query_one("select pg_catalog.pg_current_wal_flush_lsn()::text", &[]).await;
    let text: String = row?.get(0);
    text.parse().map_err(|error: crate::change::ParseLsnError| Fault::passing(&error))
}

/// What the catalog says of the configured tables.
async fn shapes(
    client: &Client,
    definition: &Definition,
) -> Result<(Shapes, Arc<TableKeys>), Fault> {
    let (shapes, keys) = inspect::shapes(client, definition).await?;
    Ok((shapes, Arc::new(keys)))
}
