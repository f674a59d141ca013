//! The queue's figures for those who watch: counted at the commit, so no table is read for them.
//!
//! Not here: how they are kept (the migrations) and who is told.

use tokio_postgres::{Client, Error};

use crate::metrics::queue::Figures;

/// Where nothing is unfinished nothing is looked for. What is looked for stands at the front of
/// the index on status and commit time, and 10,000 stuck jobs are bad enough.
const FIGURES: &str = "
    select s.pending_jobs, s.processing_jobs, s.completed_jobs, s.failed_jobs,
           s.avg_processing_time::float8,
           case when s.processing_jobs > 0 then
               (select count(*)
                from (select q.started_at, q.created_at
                      from public.elasticsearch_sync_queue q
                      where q.status = 'processing' and q.created_at < now() - interval '30 s'
                      order by q.created_at limit 10000) oldest
                where coalesce(oldest.started_at, oldest.created_at) < now() - interval '30 s')
           else 0 end,
           age.pending, age.processing, age.failed
    from public.get_elasticsearch_queue_stats() s,
         lateral (
             select case when s.pending_jobs > 0 then
                        extract(epoch from clock_timestamp() - (
                            select min(q.created_at) from public.elasticsearch_sync_queue q
                            where q.status = 'pending' and isfinite(q.created_at)))::float8 end,
                    case when s.processing_jobs > 0 then
                        extract(epoch from clock_timestamp() - (
                            select min(q.created_at) from public.elasticsearch_sync_queue q
                            where q.status = 'processing' and isfinite(q.created_at)))::float8 end,
                    case when s.failed_jobs > 0 then
                        extract(epoch from clock_timestamp() - (
                            select min(q.created_at) from public.elasticsearch_sync_queue q
                            where q.status = 'failed' and isfinite(q.created_at)))::float8 end
         ) age (pending, processing, failed)";

const SPILLED: &str = "select s.spill_bytes, s.spill_txns
    from pg_catalog.pg_stat_replication_slots s where s.slot_name = $1";

/// Reads them.
///
/// # Errors
/// What the query returns.
pub async fn read(client: &Client) -> Result<Figures, Error> {
    let row = client.query_one(FIGURES, &[]).await?;
    let count = |at: usize| row.try_get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
    let age = |at: usize| -> Result<f64, Error> {
        Ok(row.try_get::<_, Option<f64>>(at)?.unwrap_or(0.0).max(0.0))
    };
    Ok(Figures {
        pending: count(0)?,
        processing: count(1)?,
        completed: count(2)?,
        failed: count(3)?,
        mean_processing_seconds: row.try_get::<_, Option<f64>>(4)?.unwrap_or(0.0) / 1000.0,
        stuck: count(5)?,
        oldest_pending: age(6)?,
        oldest_processing: age(7)?,
        oldest_failed: age(8)?,
    })
}

/// Bytes and transactions that PostgreSQL spilled while decoding for a slot; `None` before it has
/// decoded anything.
///
/// # Errors
/// What the query returns.
pub async fn spilled(client: &Client, slot: &str) -> Result<Option<(u64, u64)>, Error> {
    let Some(row) = client.query_opt(SPILLED, &[&slot]).await? else { return Ok(None) };
    let count = |at: usize| row.try_get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(Some((count(0)?, count(1)?)))
}
