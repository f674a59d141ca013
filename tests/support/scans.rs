//! Which parts of the queue a session has read from end to end, by PostgreSQL's own counters.

use tokio_postgres::Client;

/// Counters of earlier transactions that the session has not told the server yet count as well.
const FORGET: &str = "select pg_stat_force_next_flush()";

/// What parallel workers read is counted as theirs.
const BEGIN: &str = "begin; set local max_parallel_workers_per_gather = 0";

/// Of the transaction that asks: its counters are its own, and are exact at once.
const IN_TRANSACTION: &str = "
    select relname || ': ' || seq_tup_read || ' rows by ' || seq_scan || ' scans'
    from pg_stat_xact_user_tables
    where seq_tup_read > 0
      and relid in (select relid from pg_partition_tree('public.elasticsearch_sync_queue'))
    order by relname";

/// What `work` reads of the queue's parts other than by an index, a sentence for each. Parts
/// without rows cost nothing to read, and do not count.
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
