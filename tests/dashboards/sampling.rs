//! Reading the figures costs no table: PostgreSQL's own counters tell what each reading scanned.
//!
//! Not here: how long it takes with ten million jobs (`./bench api`).

use std::time::Duration;

use walferry::admin::figures::sample;

use crate::support::TestBed;
use crate::support::scans::scanned;

const SOON: Duration = Duration::from_secs(60);

/// 20,000 jobs on each of eight days: five that walferry has made parts for, and three that stand
/// in the default part. A few of each day are unfinished, so that every figure is looked for.
const JOBS: &str = "
    set walferry.counted = 'on';
    insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, status,
        created_at, started_at, processed_at)
    select 'listings', 'UPDATE', gen_random_uuid(), '{}', status, at,
           case when status = 'processing' then at end,
           case when status in ('completed', 'failed') then at + interval '1 s' end
    from generate_series(-4, 3) day, generate_series(1, 20000) n,
        lateral (select now() + day * interval '1 day' + n * interval '1 ms',
            (array['pending', 'processing', 'failed'])[nullif(n % 1000, 0)]) found (at, word),
        lateral (select coalesce(word, 'completed')) named (status);
    analyze elasticsearch_sync_queue";

#[tokio::test]
async fn no_figure_is_read_by_a_scan_of_a_part() {
    let bed = TestBed::new("sampling").await;
    bed.migrate().await;
    let parts =
        "select count(*) from pg_partition_tree('public.elasticsearch_sync_queue') where isleaf";
    assert!(bed.sql.value::<i64>(parts, &[]).await >= 6);
    bed.sql.run(JOBS).await;
    let (code, said) = bed.walferry_once(&["maintain", "--recount"], SOON).await;
    assert_eq!(code, 0, "{said}");
    // A statement that does scan, lest the counters say nothing whatever is done.
    let all = async |client: &tokio_postgres::Client| {
        client.query_one("select count(change_data) from elasticsearch_sync_queue", &[]).await
    };
    assert!(scanned(&bed.sql, all).await.len() >= 6);

    let found = sample::read(&bed.sql, "s").await.unwrap().figures();
    assert!(found.pending > 0 && found.stuck > 0 && found.oldest_failed > 0.0, "{found:?}");
    let nothing = Vec::<String>::new();
    assert_eq!(scanned(&bed.sql, async |client| sample::read(client, "s").await).await, nothing);
}
