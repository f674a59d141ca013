//! Moves notes out of `error_message` into their own column, in batches, so that a large queue is
//! neither locked for long nor rewritten in one transaction.
//!
//! `walferry.note_move` holds what is left to do; the migration makes it, the last batch drops it.
//! Killed at any point, the next call goes on.
//!
//! Not here: notes of jobs that an older instance still works on
//! (`storage::queue::claim`, when the next run begins).

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::{MigrateError, database, exclusive, patiently};
use crate::storage::queue::partitions::QUEUE;

/// Pages whose notes are moved in one transaction: some tens of thousands of jobs.
const BATCH_PAGES: i32 = 1_024;

const IS_LEFT: &str = "select to_regclass('walferry.note_move') is not null as is_left";

const MOVE: &str = "select walferry.move_notes($1) as jobs";

const DROP: &str = "drop function walferry.move_notes(integer); drop table walferry.note_move";

/// Moves what is left, if anything is.
pub(super) async fn finish(client: &Client) -> Result<(), MigrateError> {
    let failed = |source| database("move the notes of jobs into their column", source);
    let row = client.query_one(IS_LEFT, &[]).await.map_err(failed)?;
    if !row.try_get::<_, bool>("is_left").map_err(failed)? {
        return Ok(());
    }
    let pages: [&(dyn ToSql + Sync); 1] = [&BATCH_PAGES];
    let queue = exclusive(QUEUE);
    let mut total = 0;
    loop {
        let batch = patiently(client, &queue, failed, || client.query_one(MOVE, &pages));
        let row = batch.await?;
        let Some(jobs) = row.try_get::<_, Option<i64>>("jobs").map_err(failed)? else { break };
        total += jobs;
    }
    if total > 0 {
        tracing::info!(
            event = "notes_moved",
            jobs = total,
            "moved notes of jobs into their column"
        );
    }
    let drop = format!("begin; {DROP}; commit");
    let locks = exclusive("walferry.note_move");
    patiently(client, &locks, failed, || client.batch_execute(&drop)).await
}
