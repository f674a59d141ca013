//! The oracle against a stand-in for walferry that copies what it should have made: then it must be
//! content, and with each thing broken it must say so.

use std::fmt::Write;

use tokio_util::sync::CancellationToken;

use super::{INDICES, Indices, audit_problems, document_problems, install, progress};
use crate::support::TestBed;
use crate::workload::Workload;
use crate::workload::statements::Extras;

/// The queue as the contract has it, filled from the witness, one commit per change.
const QUEUE: &str = "
    create table elasticsearch_sync_queue (
        id bigserial primary key, table_name varchar(100), operation varchar(20), record_id uuid, change_data jsonb,
        status varchar(20) default 'completed', commit_lsn pg_lsn, ordinal bigint);
    insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, commit_lsn, ordinal)
    select table_name, operation, record_id, change_data, '0/0'::pg_lsn + number, 0 from oracle.change;";

#[tokio::test(flavor = "multi_thread")]
async fn the_oracle_is_content_with_the_truth_and_finds_each_lie() {
    let bed = TestBed::new("oracle").await;
    install(&bed.sql).await;
    let database = bed.database_url().parse().expect("the bed's address is one");
    let extras = Extras { truncate: true, deferrable_keys: false };
    let workload = Workload { database, seed: 7, extras };
    workload.prepare().await;
    let committed = workload.run(60, &CancellationToken::new()).await;
    assert!(committed > 100, "the workload hardly commits: {committed} of 240");
    bed.sql.run(QUEUE).await;
    let url = bed.servers.elasticsearch.url();
    let indices = Indices::new(&url, &bed.index_prefix);
    for index in INDICES {
        fill(&bed, &url, index).await;
    }
    assert!(progress(&bed.sql).await.expect("the database answers").is_done());
    assert_eq!(audit_problems(&bed.sql).await, Vec::<String>::new());
    assert_eq!(document_problems(&bed.sql, &indices).await, Vec::<String>::new());

    let lies = [
        ("delete from elasticsearch_sync_queue where id = 5", "has no job"),
        ("insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, commit_lsn)
          select table_name, operation, record_id, change_data, 'F/0' from elasticsearch_sync_queue where id = 5",
         "was not made"),
        ("update elasticsearch_sync_queue set operation = 'DELETE' where id = 5", "recorded as DELETE"),
        ("update elasticsearch_sync_queue set change_data = change_data - 'created_at' where id = 5", "created_at"),
        ("update listings set view_count = 0 where status = 'active'", ".view_count: expected"),
        ("update listings set status = 'sold' where status = 'active'", "must not exist"),
        ("update listings set status = 'active'", "missing"),
        ("update categories set parent_id = null, name = 'x'", ".category.path"),
        ("update profiles set rating = 1.10", ".seller.rating: expected Number(\"1.10\")"),
    ];
    for (lie, telling) in lies {
        bed.sql.run(&format!("begin; {lie}")).await;
        let mut problems = audit_problems(&bed.sql).await;
        problems.extend(document_problems(&bed.sql, &indices).await);
        assert!(problems.iter().any(|problem| problem.contains(telling)), "{lie}: {problems:?}");
        bed.sql.run("rollback").await;
    }
}

/// Writes what `index` must hold, with a fixed version.
async fn fill(bed: &TestBed, url: &str, index: &str) {
    bed.sql.run("set timezone = 'UTC'").await;
    let rows = bed.sql.query(include_str!("documents.sql"), &[&index]).await;
    let mut body = String::new();
    for row in rows.expect("the oracle's query runs") {
        let (id, document): (String, String) = (row.get(1), row.get(2));
        writeln!(body, "{{\"index\":{{\"_id\":{id:?}}}}}\n{document}").expect("a string grows");
    }
    let http = reqwest::Client::new();
    let name = bed.index(index);
    let mapping = r#"{"mappings":{"enabled":false}}"#;
    for request in [
        http.put(format!("{url}/{name}")).body(mapping),
        http.post(format!("{url}/{name}/_bulk")).body(body),
    ] {
        let answer = request.header("content-type", "application/json").send().await;
        let answer = answer.expect("Elasticsearch answers");
        let text = answer.text().await.expect("Elasticsearch answers in full");
        assert!(!text.contains("\"error\":"), "{text}");
    }
}
