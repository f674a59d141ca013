//! The partitions of the queue that a session has scanned sequentially, by PostgreSQL's statistics.
//!
//! Not here: the queries that must not scan.

use tokio_postgres::Client;

/// Statistics of earlier transactions that the session has not flushed yet are included.
const FORGET: &str = "select pg_stat_force_next_flush()";

/// Parallel workers report their own statistics.
const BEGIN: &str = "begin; set local max_parallel_workers_per_gather = 0";

/// The statistics of the current transaction, which are exact without a flush.
const IN_TRANSACTION: &str = "
    select relname || ': ' || seq_tup_read || ' rows by ' || seq_scan || ' scans'
    from pg_stat_xact_user_tables
    where seq_tup_read > 0
      and relid in (select relid from pg_partition_tree('public.elasticsearch_sync_queue'))
    order by relname";

/// The partitions of the queue that `work` reads without an index, as a sentence for each. Empty
/// partitions are excluded.
pub(crate) async fn scanned<T, E: std::fmt::Debug>(
    client: &Client,
    work: impl AsyncFnOnce(&Client) -> Result<T, E>,
) -> Vec<String> {
    client.batch_execute(FORGET).await.expect("the counters can be told");
    client.batch_execute(BEGIN).await.expect("a transaction can begin");
    work(client).await.expect("the work is done");
    let rows = client.query(IN_TRANSACTION, &[]).await.expect("the counters can be read");
    client.batch_execute("rollback").await.expect("a transaction can end");
    rows.iter().map(|row| row.get(0)).collect()
}
