//! `walferry migrate` on a database as version 9 of the schema left it, with jobs in every state,
//! and the next run on it.
//!
//! Not here: a database without walferry (`migrations`) and one with the original system
//! (`take_over`).

use std::fmt::Write;
use std::time::Duration;

use sha2::{Digest, Sha256};
use walferry::storage::lease;
use walferry::storage::queue::claim::Claimer;
use walferry::storage::queue::record_id::{TableKey, TableKeys};
use walferry::storage::schema;
use walferry::storage::schema::MigrateOptions;

use crate::migrations::{TestDatabase, options};
use crate::scene::{Scene, until};

/// Migrations 1 to 9: name, text, and the hash of the text as it was released.
const RELEASED: [(&str, &str, &str); 9] = [
    (
        "sync_queue",
        include_str!("../migrations/0001_sync_queue.sql"),
        "669cbfb8f52d000896dbc3bf9ecf8419aaab7af17136ac212d3558bf14cd049e",
    ),
    (
        "durable_state",
        include_str!("../migrations/0002_durable_state.sql"),
        "21c0a578f8bca3340a21d0e63ce95bcd0046dc46c14d300f4497e0ed3c9ed776",
    ),
    (
        "queue_stats",
        include_str!("../migrations/0003_queue_stats.sql"),
        "192fdbc3f7799e6c52b04f7a99f33bf14cbe8ce16a80f7432c40144e19c4e7cd",
    ),
    (
        "job_counts",
        include_str!("../migrations/0004_job_counts.sql"),
        "47d86a587f3cb6de4b567bafa833558e0ee7b14756f663e6847b00def58c65c1",
    ),
    (
        "drop_partitions",
        include_str!("../migrations/0005_drop_partitions.sql"),
        "67f187c1ffec3f4169d8448e1aa05be0bbdc8731f7c3501b9710f2dd1acf4452",
    ),
    (
        "indexing",
        include_str!("../migrations/0006_indexing.sql"),
        "28e3981e8ffa443f0a74b19a768993469d0df45ab275de0fdcf4f01107002b56",
    ),
    (
        "source",
        include_str!("../migrations/0007_source.sql"),
        "f908eaa9a977e240d0266a3941d34aed4b11e3155be4db62463bf13b021926ce",
    ),
    (
        "take_over",
        include_str!("../migrations/0008_take_over.sql"),
        "3961e27c143bf3f719a55b528e51e22965fd5186f95dac19c84cefc517508d1e",
    ),
    (
        "audit",
        include_str!("../migrations/0009_audit.sql"),
        "65f0326e67fd2f42a216de0c64805c426b7481caea25fda536e64a0603317cd7",
    ),
];

const SCHEMA: &str = "create schema walferry; revoke all on schema walferry from public;
    create table walferry.migration (
        version integer primary key, name text not null, applied_at timestamptz not null default now()
    );";

const ROWS: &str = "
    insert into profiles (id, username, full_name, email)
    values ('a0000000-0000-4000-8000-000000000001', 'ayse', 'Ayşe', 'a@example.com');
    insert into categories (id, name, slug)
    values ('b0000000-0000-4000-8000-000000000001', 'Elektronik', 'elektronik');
    insert into listings (id, user_id, category_id, title, description, status)
    select ('c0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
        'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
        'İlan ' || n, 'açıklama', 'active'
    from generate_series(1, 15) n;";

/// A publication, a slot and a stored position, as a run leaves them.
const PUBLICATION: &str = "
    create publication walferry for table listings, profiles, categories
        with (publish_via_partition_root = true);
    alter table listings replica identity full;
    alter table profiles replica identity full;
    alter table categories replica identity full;";

const SLOT: &str = "select pg_create_logical_replication_slot('{slot}', 'pgoutput')";

const POSITION: &str = "
    insert into walferry.position
        (slot, system_identifier, timeline, recorded_lsn, recorded_ordinal, recorded_end_lsn)
    select '{slot}', c.system_identifier::text, p.timeline_id,
        s.confirmed_flush_lsn - 8, 0, s.confirmed_flush_lsn
    from pg_control_system() c, pg_control_checkpoint() p, pg_replication_slots s
    where s.slot_name = '{slot}';
    insert into walferry.settlement (slot, settled_lsn)
    select slot, recorded_end_lsn from walferry.position;
    insert into walferry.lease (slot, epoch, holder, expires_at)
    values ('{slot}', 3, 'the run before', now() - interval '1 minute');";

/// Jobs in every state. `change_data` of those with a note is not the row itself. The last one was
/// written by hand: what stands in its `error_message` is no note.
const JOBS: &str = r"
    insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, status,
        retry_count, error_message, created_at, processed_at, commit_lsn, ordinal, xid, started_at,
        epoch)
    select 'listings', 'INSERT', l.id,
        case when j.error like '%note: %'
            then to_jsonb(l) || jsonb_build_object('title', 'altered') else to_jsonb(l) end,
        j.status, j.attempts, j.error, now() - j.days_ago * interval '1 day',
        case when j.status in ('completed', 'failed') then now() end,
        case when j.n < 15 then '{position}'::pg_lsn + j.n * 8 end,
        case when j.n < 15 then 0 end, case when j.n < 15 then 700 end,
        case when j.status = 'processing' then now() end,
        case when j.status = 'processing' then 3 end
    from (values
        (1, 0, 'pending', 0, null),
        (2, 0, 'pending', 0, 'note: cut'),
        (3, 0, 'pending', 1, E'refused\nnote: cut'),
        (4, 0, 'processing', 0, null),
        (5, 0, 'processing', 0, 'note: cut'),
        (6, 0, 'failed', 3, 'mapping'),
        (7, 0, 'failed', 3, E'one line\nanother line\nnote: cut'),
        (8, 0, 'failed', 3, E'Max retries exceeded (3/3)\nnote: cut'),
        (9, 0, 'completed', 0, null),
        (10, 0, 'completed', 0, 'note: cut'),
        (11, 0, 'completed', 1, E'note: cut\nsuperseded by a rebuild'),
        (12, 1, 'completed', 0, 'note: cut'),
        (13, 30, 'completed', 0, 'note: cut'),
        (14, 30, 'failed', 3, E'old\nnote: cut'),
        (15, 0, 'completed', 0, 'note: by hand')
    ) j (n, days_ago, status, attempts, error)
    join listings l on l.id = ('c0000000-0000-4000-8000-' || lpad(j.n::text, 12, '0'))::uuid";

/// A line for each job: number, status, attempts, error and note.
const STATE: &str = "
    select string_agg(concat_ws(' ', right(record_id::text, 2), status, retry_count,
            quote_nullable(error_message), quote_nullable(note)), E'\\n' order by record_id)
    from elasticsearch_sync_queue";

const STATISTICS: &str = "
    select concat_ws(' ', total_jobs, pending_jobs, processing_jobs, completed_jobs, failed_jobs)
    from get_elasticsearch_queue_stats()";

/// Parts whose columns are not those of the whole, in its order.
const ODD_PARTS: &str = "
    select count(*) from pg_inherits i
    where i.inhparent = 'elasticsearch_sync_queue'::regclass
      and (select array_agg((attname, atttypid) order by attnum) from pg_attribute
           where attrelid = i.inhrelid and attnum > 0)
          <> (select array_agg((attname, atttypid) order by attnum) from pg_attribute
              where attrelid = i.inhparent and attnum > 0)";

/// Functions of the schema that every role may execute, and functions without a fixed search_path:
/// a body that was not parsed when it was made, and no setting.
const OPEN_FUNCTIONS: &str = "
    select count(*) from pg_proc p
    where p.pronamespace = 'walferry'::regnamespace
      and (has_function_privilege('public', p.oid, 'execute')
           or p.proname in ('note_in', 'error_in', 'iso', 'attempt', 'status_after', 'next_attempt',
                            'job_micros', 'is_stuck')
              and p.prosqlbody is null)";

/// The database as version 9 leaves it, without jobs.
async fn version_9(client: &tokio_postgres::Client) {
    client.batch_execute(SCHEMA).await.unwrap();
    for (version, (name, text, _)) in (1..).zip(RELEASED) {
        let step = format!(
            "begin; {text}; insert into walferry.migration (version, name) \
             values ({version}, '{name}'); commit"
        );
        client.batch_execute(&step).await.unwrap();
    }
    client.batch_execute("begin; select walferry.make_partitions(3); commit").await.unwrap();
}

#[test]
fn released_migrations_are_as_they_were() {
    for (name, text, released) in RELEASED {
        let mut hash = String::new();
        for byte in Sha256::digest(text.as_bytes()) {
            write!(hash, "{byte:02x}").unwrap();
        }
        assert_eq!(hash, released, "migration {name} was released: write a new one instead");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_every_state_outlive_the_upgrade_and_unfinished_ones_are_completed() {
    let scene = Scene::new("upgrade").await;
    scene.sql(ROWS).await;
    version_9(&scene.bed.sql).await;
    for statements in [PUBLICATION, SLOT, POSITION] {
        scene.sql(&statements.replace("{slot}", &scene.bed.slot)).await;
    }
    let position = "select (recorded_lsn - 1000)::text from walferry.position";
    let position: String = scene.bed.sql.value(position, &[]).await;
    scene.sql(&JOBS.replace("{position}", &position)).await;
    let before: String = scene.bed.sql.value(STATISTICS, &[]).await;
    assert_eq!(before, "15 3 2 6 4");

    scene.bed.migrate().await;
    let finished = "06 failed 3 'mapping' NULL
07 failed 3 'one line
another line' 'cut'
08 failed 3 'Max retries exceeded (3/3)' 'cut'
09 completed 0 NULL NULL
10 completed 0 NULL 'cut'
11 completed 1 'superseded by a rebuild' 'cut'
12 completed 0 NULL 'cut'
";
    let state: String = scene.bed.sql.value(STATE, &[]).await;
    let expected = format!(
        "01 pending 0 NULL NULL
02 pending 0 NULL 'cut'
03 pending 1 'refused' 'cut'
04 processing 0 NULL NULL
05 processing 0 NULL 'cut'
{finished}13 completed 0 NULL 'cut'
14 failed 3 'old' 'cut'
15 completed 0 'note: by hand' NULL"
    );
    assert_eq!(state, expected);
    assert_eq!(scene.bed.sql.value::<String>(STATISTICS, &[]).await, before);
    assert_eq!(scene.number(ODD_PARTS).await, 0, "each part has the columns of the whole");
    assert_eq!(scene.number(OPEN_FUNCTIONS).await, 0);
    let left = "select count(*) from pg_class where relname = 'note_move'";
    assert_eq!(scene.number(left).await, 0);
    let (_, output) = scene.bed.walferry_once(&["migrate"], Duration::from_secs(30)).await;
    assert!(output.contains("everything is in place"), "{output}");

    let mut walferry = scene.ready().await;
    let open = "select pending_jobs + processing_jobs from get_elasticsearch_queue_stats()";
    until(Duration::from_secs(120), "all are done", async || scene.number(open).await == 0).await;
    scene.documents_become_true(Duration::from_secs(60)).await;
    walferry.stop().await;
    let recent = format!("{STATE} where created_at > now() - interval '7 days'");
    let state: String = scene.bed.sql.value(&recent, &[]).await;
    let expected = format!(
        "01 completed 0 NULL NULL
02 completed 0 NULL 'cut'
03 completed 1 NULL 'cut'
04 completed 0 NULL NULL
05 completed 0 NULL 'cut'
{finished}15 completed 0 'note: by hand' NULL"
    );
    assert_eq!(state, expected);
}

/// The notes of unfinished and of completed jobs that are where version 9 had them.
const OLD_NOTES: &str = "
    select concat_ws(' ', count(*) filter (where status <> 'completed'),
        count(*) filter (where status = 'completed'))
    from elasticsearch_sync_queue where error_message like '%note: %' and ordinal is not null";

/// An older instance reads the notes of the jobs that it claims in `error_message`.
#[tokio::test]
async fn beside_an_older_instance_only_notes_of_completed_jobs_move() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    version_9(&client).await;
    let older = database.connect().await;
    older
        .batch_execute(
            "insert into walferry.lease (slot, epoch, holder, backend_pid, backend_start, expires_at)
             select 'walferry', 3, 'older', pid, backend_start, now() + interval '1 hour'
             from pg_stat_activity where pid = pg_backend_pid()",
        )
        .await
        .unwrap();
    // The role that runs owns the queue, as earlier versions had it.
    client
        .batch_execute(
            "do $$ begin create role upgrade_runtime nologin;
                exception when duplicate_object or unique_violation then null; end $$;
             alter table elasticsearch_sync_queue owner to upgrade_runtime",
        )
        .await
        .unwrap();
    // Several batches of pages.
    client
        .batch_execute(
            "insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data,
                status, error_message, commit_lsn, ordinal)
             select 'listings', 'INSERT', gen_random_uuid(), jsonb_build_object('t', t),
                case when n % 3 = 0 then 'pending' else 'completed' end,
                case when n % 100 < 2 then 'note: cut' end, '0/10', n
             from generate_series(0, 5999) n,
                  lateral (select string_agg(md5(n || '/' || m), '') t from generate_series(1, 60) m) x",
        )
        .await
        .unwrap();
    let runtime_role = Some("upgrade_runtime".to_owned());
    schema::run(&client, &MigrateOptions { runtime_role, ..options() }).await.unwrap();
    let owned = "select count(*) from (
        select relowner as owner from pg_class union all select proowner from pg_proc) o
        where owner = 'upgrade_runtime'::regrole";
    assert_eq!(client.query_one(owned, &[]).await.unwrap().get::<_, i64>(0), 0);
    let notes = async || client.query_one(OLD_NOTES, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(notes().await, "40 0");

    drop(older);
    let holder = database.connect().await;
    let lease = lease::acquire(&holder, "walferry", "newer").await.unwrap();
    let key = TableKey { name: "listings".into(), columns: vec!["id".into()], uuid: true };
    let keys = std::sync::Arc::new(TableKeys(vec![key]));
    let mut claimer = Claimer::new(database.connect().await, &lease, keys).await.unwrap();
    claimer.reset_orphans().await.unwrap();
    assert_eq!(notes().await, "0 0");
    let moved = "select count(*) from elasticsearch_sync_queue where note = 'cut'";
    assert_eq!(client.query_one(moved, &[]).await.unwrap().get::<_, i64>(0), 120);
}
