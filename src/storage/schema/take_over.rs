//! Takes the original system's queue over, so that no change ends with two jobs or with none.
//!
//! The order is the promise:
//! 1. publication and replica identities (`publication`), then the slot: every change that commits
//!    from then on is on the stream. The triggers still write, so each change comes twice.
//! 2. One transaction, the *cut*: no writer of the tables is left, the triggers are put out of
//!    action, D is the insert LSN of that moment. A writer's commit record precedes the release of
//!    its locks, so changes that the triggers recorded committed below D, and later ones commit
//!    above. The recorder starts from D: what the stream repeats is dropped.
//!    The new table stands in place of the old, with every job that is not completed in it.
//! 3. Completed jobs follow in batches, each row always in one of the two tables, and what is
//!    left of the original system is dropped. Completed jobs are never processed, so writers need
//!    not wait for what may be millions of them.
//!
//! Killed before the cut commits, the original system goes on, and there may be a slot, which the
//! next call takes up. Killed after it, walferry has taken over, and the next call does the rest.
//!
//! Not here: what is recognised as the original system (`original`).

use std::time::Duration;

use postgres_types::{PgLsn, ToSql};
use tokio_postgres::Client;

use super::{FOUNDATION, MIGRATIONS, MigrateError, MigrateOptions, TakenOver};
use super::{database, exclusive, original, patiently, quoted, rights};
use crate::change::Lsn;
use crate::postgres::catalog::slot;
use crate::postgres::catalog::slot::ReplicationSlot;
use crate::postgres::lock::{self, LIMIT_SESSION_WAITS, LockAttempts, LockMode, TableLocks};
use crate::storage::queue::partitions::{self, QUEUE};
use crate::storage::sql::lsn;

const BEGIN: &str = "begin isolation level read committed; set local statement_timeout = 0";

/// Four locks of this length are waited for in less than the deadlock detector's default of 1 s:
/// in a circle with a writer it is the take-over that gives way.
const LIMIT_CUT_WAITS: &str = "set local lock_timeout = '200ms'";

/// The time for all attempts.
const PATIENCE: Duration = Duration::from_secs(120);

/// Completed jobs that follow in one transaction.
const BATCH_ROWS: i64 = 20_000;

/// Where the original queue is put aside.
const ORIGINAL_QUEUE: &str = "walferry.original_queue";

const TRIGGERS: &str = include_str!("take_over_triggers.sql");

/// D. The insert LSN, for a commit that is not waited for (`synchronous_commit = off`) is not flushed
/// when its locks are released.
const CUT: &str = "select pg_current_wal_insert_lsn() as lsn";

const OWN_SEQUENCE: &str = include_str!("take_over_sequence.sql");

const PUT_ASIDE: &str = include_str!("take_over_put_aside.sql");

const SEQUENCE: &str = include_str!("take_over_number.sql");

/// Between what chooses rows and what counts them. No row is lost for what it lacks: a status that
/// is none of the four is `pending` again, with a note; so is `processing`, for the process that
/// worked on it is gone. A row without a finite time counts as made when it ended, else now.
const COPIED: &str = "copied as ( -- keeps status
        insert into public.elasticsearch_sync_queue (id, table_name, operation, record_id,
            change_data, status, retry_count, error_message, created_at, processed_at)
        select id, table_name, operation, record_id, change_data,
            case when status in ('completed', 'failed') then status else 'pending' end,
            coalesce(retry_count, 0),
            case when status in ('pending', 'processing', 'completed', 'failed')
                then error_message
                else concat_ws(E'\\n', error_message,
                    'taken over with status ' || coalesce(quote_literal(status), 'null')) end,
            coalesce(case when isfinite(created_at) then created_at end,
                case when isfinite(processed_at) then processed_at end, transaction_timestamp()),
            processed_at
        from moved)";

const UNFINISHED: &str = "with moved as (
        delete from walferry.original_queue where status is distinct from 'completed' returning *)";

const COUNT_UNFINISHED: &str =
    "select coalesce(status, 'without status') as status, count(*) as jobs
    from moved group by 1 order by 1";

const COMPLETED: &str = "with moved as (
        delete from walferry.original_queue where id in (
            select id from walferry.original_queue where id > $1::bigint order by id limit $2)
        returning *)";

const COUNT_COMPLETED: &str = "select count(*) as jobs, max(id)::bigint as last_id from moved";

const POSITION: &str = include_str!("take_over_position.sql");

const SETTLEMENT: &str = "insert into walferry.settlement (slot, settled_lsn) values ($1, $2)";

const MARK: &str = "insert into walferry.take_over (slot, taken_lsn) values ($1, $2)";

const UNFINISHED_MARK: &str =
    "select taken_lsn from walferry.take_over where finished_at is null limit 1";

const FINISH: &str = include_str!("take_over_finish.sql");

const FUNCTIONS: &str = include_str!("take_over_functions.sql");

/// Makes the slot, or takes one up that an earlier call made. True if it was made now.
pub(super) async fn make_slot(
    client: &Client,
    options: &MigrateOptions,
) -> Result<bool, MigrateError> {
    let name = &options.slot;
    let failed = |source| database(format!("look at replication slot {name}"), source);
    if let Some(found) = slot::inspect(client, name).await.map_err(failed)? {
        let refused = |reason: String| MigrateError::SlotTaken { slot: name.clone(), reason };
        if !found.is_of_this_database {
            return Err(refused("it is not of this database".to_owned()));
        }
        slot::usable(name, &found).map_err(|error| refused(error.to_string()))?;
        if let Some(pid) = found.active_pid {
            return Err(refused(format!("process {pid} reads it")));
        }
        return Ok(false);
    }
    tracing::info!(
        event = "slot_creating",
        slot = name,
        "creating the replication slot; waits for transactions under way"
    );
    let failed = |source| {
        database(format!("create replication slot {name} (as a role with REPLICATION)"), source)
    };
    // It waits by locks.
    client
        .batch_execute("set lock_timeout = 0; set statement_timeout = 0")
        .await
        .map_err(failed)?;
    let made = slot::create(client, name).await;
    let limit = format!("{LIMIT_SESSION_WAITS}; reset statement_timeout");
    let restored = client.batch_execute(&limit).await;
    made.map_err(failed)?;
    restored.map_err(failed)?;
    Ok(true)
}

/// The cut, tried until no writer is in its way. A slot made for it goes if it cannot be had, for
/// a slot that is not read keeps WAL without end.
pub(super) async fn cut(
    client: &Client,
    options: &MigrateOptions,
    slot_made: bool,
) -> Result<(TakenOver, Vec<&'static str>), MigrateError> {
    let outcome = try_often(client, options).await;
    if outcome.is_err()
        && slot_made
        && let Err(error) = slot::remove(client, &options.slot).await
    {
        tracing::warn!(
            event = "slot_stays", slot = options.slot, %error,
            "the slot stays; it keeps WAL until dropped"
        );
    }
    outcome
}

async fn try_often(
    client: &Client,
    options: &MigrateOptions,
) -> Result<(TakenOver, Vec<&'static str>), MigrateError> {
    let mut tables = names(options);
    tables.push(QUEUE.to_owned());
    let writers = TableLocks { tables, mode: LockMode::ShareRowExclusive, patience: PATIENCE };
    let mut attempts = LockAttempts::new(&writers);
    let mut is_logged = false;
    loop {
        let error = match try_cut(client, options).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        drop(client.batch_execute("rollback").await);
        let source = match error {
            MigrateError::Database { source, .. } if lock::is_lock_failure(&source) => source,
            error => return Err(error),
        };
        if !attempts.next(client).await {
            let tables = writers.tables.join(", ");
            let source = attempts.blocked(client, source).await;
            return Err(MigrateError::WritersStay { tables, source });
        }
        if !is_logged {
            is_logged = true;
            tracing::info!(
                event = "writers_awaited",
                "waiting for transactions that write the tables"
            );
        }
    }
}

async fn try_cut(
    client: &Client,
    options: &MigrateOptions,
) -> Result<(TakenOver, Vec<&'static str>), MigrateError> {
    let failed = |source| database("take the original queue over", source);
    let names = names(options);
    client.batch_execute(BEGIN).await.map_err(failed)?;
    client.batch_execute(LIMIT_CUT_WAITS).await.map_err(failed)?;
    stop_writers(client, options, &names).await?;
    let row = client.query_one(CUT, &[]).await.map_err(failed)?;
    let taken: PgLsn = row.try_get("lsn").map_err(failed)?;
    let slot = slot::inspect(client, &options.slot).await.map_err(failed)?;
    if !slot.is_some_and(|slot| has_all_after(&slot, lsn(taken))) {
        let reason = "it is gone, or past what is taken over".to_owned();
        return Err(MigrateError::SlotTaken { slot: options.slot.clone(), reason });
    }
    client.batch_execute(OWN_SEQUENCE).await.map_err(failed)?;
    let mut legacy = original::legacy(client).await.map_err(failed)?;
    client.batch_execute(FOUNDATION).await.map_err(failed)?;
    client.batch_execute(PUT_ASIDE).await.map_err(failed)?;
    let applied = apply_migrations(client).await?;
    let mut withheld = Vec::new();
    for (statement, name) in rights::of_defaults(client, &[]).await? {
        client.batch_execute(&statement).await.map_err(failed)?;
        withheld.push(name);
    }
    if !withheld.is_empty() {
        let note = format!("taken away what default privileges had given: {}", withheld.join(", "));
        legacy.notes.push(note);
    }
    for statement in &legacy.statements {
        client.batch_execute(statement).await.map_err(|source| {
            database(format!("carry over what was granted on the queue ({statement})"), source)
        })?;
    }
    client.query_one(SEQUENCE, &[]).await.map_err(failed)?;
    let parts = "select walferry.make_partitions($1)";
    client.query_one(parts, &[&partitions::DAYS_AHEAD]).await.map_err(failed)?;
    let unfinished = format!("{UNFINISHED}, {COPIED} {COUNT_UNFINISHED}");
    let mut rows = Vec::new();
    for row in client.query(&unfinished, &[]).await.map_err(failed)? {
        let status = row.try_get("status").map_err(failed)?;
        rows.push((status, row.try_get("jobs").map_err(failed)?));
    }
    for statement in [POSITION, SETTLEMENT, MARK] {
        client.execute(statement, &[&options.slot, &taken]).await.map_err(failed)?;
    }
    client.batch_execute("commit").await.map_err(failed)?;
    Ok((TakenOver { at: lsn(taken), rows, notes: legacy.notes, ..TakenOver::default() }, applied))
}

/// Locks the tables against writers, and disables the original triggers.
async fn stop_writers(
    client: &Client,
    options: &MigrateOptions,
    names: &[String],
) -> Result<(), MigrateError> {
    let failed = |source| database("take the original queue over", source);
    // In the order in which a writer takes them: its table, then, by the trigger, the queue.
    let lock = format!("lock table {} in share row exclusive mode", names.join(", "));
    client.batch_execute(&lock).await.map_err(failed)?;
    let lock = "lock table public.elasticsearch_sync_queue in access exclusive mode";
    client.batch_execute(lock).await.map_err(failed)?;
    // Nothing can be added to the table any more.
    original::check_trust(client, &options.tables).await?;
    for row in client.query(TRIGGERS, &[&names, &false]).await.map_err(failed)? {
        let trigger: String = row.try_get("name").map_err(failed)?;
        let table: String = row.try_get("table_name").map_err(failed)?;
        let disable = format!("alter table {table} disable trigger {trigger}");
        client.batch_execute(&disable).await.map_err(failed)?;
    }
    Ok(())
}

/// Applies all migrations; returns their names.
async fn apply_migrations(client: &Client) -> Result<Vec<&'static str>, MigrateError> {
    let mut applied = Vec::new();
    for (version, (name, text)) in (1..).zip(MIGRATIONS) {
        let failed = |source| MigrateError::Migration { name, source };
        client.batch_execute(text).await.map_err(failed)?;
        let done = "insert into walferry.migration (version, name) values ($1, $2)";
        client.execute(done, &[&version, name]).await.map_err(failed)?;
        applied.push(*name);
    }
    Ok(applied)
}

/// Whether the slot has every change that commits after `taken`.
fn has_all_after(slot: &ReplicationSlot, taken: Lsn) -> bool {
    slot.plugin.as_deref() == Some("pgoutput")
        && slot.is_of_this_database
        && slot.confirmed_flush > Lsn(0)
        && slot.confirmed_flush <= taken
}

/// What an unfinished take-over still lacks; `None` where there is none.
pub(super) async fn unfinished(client: &Client) -> Result<Option<Lsn>, MigrateError> {
    let failed = |source| database("look for an unfinished take-over", source);
    let row = client.query_opt(UNFINISHED_MARK, &[]).await.map_err(failed)?;
    row.map(|row| row.try_get("taken_lsn").map(lsn).map_err(failed)).transpose()
}

/// Everything after the cut. May be repeated at any point.
pub(super) async fn finish(
    client: &Client,
    options: &MigrateOptions,
    taken: &mut TakenOver,
) -> Result<(), MigrateError> {
    let completed = move_completed(client).await?;
    if completed > 0 {
        taken.rows.push(("completed".to_owned(), completed));
    }
    let failed = |source| database("drop the original system's triggers", source);
    for row in client.query(TRIGGERS, &[&names(options), &true]).await.map_err(failed)? {
        let trigger: String = row.try_get("name").map_err(failed)?;
        let table: String = row.try_get("table_name").map_err(failed)?;
        let sql = format!("drop trigger {trigger} on {table}");
        patiently(client, &exclusive(&table), failed, || client.batch_execute(&sql)).await?;
        taken.dropped.push(format!("trigger {trigger} on {table}"));
    }
    let failed = |source| database("drop the original system's function", source);
    let original_queue = exclusive(ORIGINAL_QUEUE);
    for row in client.query(FUNCTIONS, &[]).await.map_err(failed)? {
        let name: String = row.try_get("name").map_err(failed)?;
        let users: Option<String> = row.try_get("users").map_err(failed)?;
        if let Some(users) = users {
            taken.notes.push(format!("function {name} stays: {users} executes it"));
            continue;
        }
        let sql = format!("drop function {name}");
        patiently(client, &original_queue, failed, || client.batch_execute(&sql)).await?;
        taken.dropped.push(format!("function {name}"));
    }
    let failed = |source| database("drop the original queue", source);
    patiently(client, &original_queue, failed, || client.batch_execute(FINISH)).await
}

/// Moves what the cut left, in the order of ids. Returns how many rows.
async fn move_completed(client: &Client) -> Result<i64, MigrateError> {
    let failed = |source| database("move completed jobs of the original queue", source);
    let sql = format!("{COMPLETED}, {COPIED} {COUNT_COMPLETED}");
    let statement = client.prepare(&sql).await.map_err(failed)?;
    let original_queue = exclusive(ORIGINAL_QUEUE);
    let mut after = i64::MIN;
    let mut total = 0_i64;
    loop {
        let range: [&(dyn ToSql + Sync); 2] = [&after, &BATCH_ROWS];
        let batch =
            patiently(client, &original_queue, failed, || client.query_one(&statement, &range));
        let row = batch.await?;
        let count: i64 = row.try_get("jobs").map_err(failed)?;
        let Some(last) = row.try_get("last_id").map_err(failed)? else { return Ok(total) };
        after = last;
        total += count;
        tracing::info!(event = "completed_jobs_moved", rows = total, "moved completed jobs");
    }
}

/// The tables as SQL has them.
fn names(options: &MigrateOptions) -> Vec<String> {
    let tables = options.tables.iter();
    tables.map(|(schema, name)| format!("{}.{}", quoted(schema), quoted(name))).collect()
}
