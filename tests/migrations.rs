//! `walferry migrate` against a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, NoTls};
use walferry::change::{Lsn, Position};
use walferry::storage::lease;
use walferry::storage::position;
use walferry::storage::position::{Settlement, StoredPosition};
use walferry::storage::queue::partitions;
use walferry::storage::schema;
use walferry::storage::schema::{MigrateError, MigrateOptions, Report};

use crate::support::{Servers, eventually};

/// A database of its own for one test, with a table for each kind of key. It goes with the server.
#[derive(Debug)]
pub(crate) struct TestDatabase {
    name: String,
    servers: Servers,
}

static SERIAL: AtomicU32 = AtomicU32::new(1);

impl TestDatabase {
    pub(crate) async fn with_tables() -> Self {
        let servers = Servers::shared().await;
        let name = format!("queue_{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        servers.postgres.connect("postgres").await.run(&format!("create database {name}")).await;
        let database = Self { name, servers };
        let tables = "create table listings (id uuid primary key, title text);
            create table notes (id int primary key, body text)";
        database.connect().await.batch_execute(tables).await.unwrap();
        database
    }

    /// A session of walferry's own kind, as the superuser.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_as("postgres").await
    }

    pub(crate) async fn connect_as(&self, role: &str) -> Client {
        let port = self.servers.postgres.port;
        // The server trusts the superuser only; other roles of these tests have this password.
        let url = format!("postgres://{role}:secret@127.0.0.1:{port}/{}", self.name);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("set row_security = off").await.unwrap();
        client
    }
}

pub(crate) fn options() -> MigrateOptions {
    let table = |name: &str| ("public".to_owned(), name.to_owned());
    MigrateOptions {
        tables: vec![table("listings"), table("notes")],
        publication: "walferry".to_owned(),
        slot: "walferry".to_owned(),
        runtime_role: None,
    }
}

/// Constraints, indexes, columns and parts, as one text.
async fn shape(client: &Client) -> String {
    let query = "select string_agg(line, E'\\n' order by line) from (
        select 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) from pg_constraint
            where conrelid = 'elasticsearch_sync_queue'::regclass and contype <> 'n'
        union all select 'index ' || indexdef from pg_indexes
            where tablename = 'elasticsearch_sync_queue'
        union all select 'column ' || column_name || ' ' || data_type || coalesce(' ' || column_default, '')
            from information_schema.columns where table_name = 'elasticsearch_sync_queue'
        ) lines (line)";
    client.query_one(query, &[]).await.unwrap().get(0)
}

pub(crate) async fn one<T: FromSqlOwned>(client: &Client, query: &str) -> T {
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_table_has_its_original_names() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    schema::run(&client, &options()).await.unwrap();
    let shape = shape(&client).await;
    for line in [
        "constraint elasticsearch_sync_queue_pkey PRIMARY KEY (id, created_at)",
        "constraint elasticsearch_sync_queue_position_key UNIQUE (commit_lsn, ordinal, created_at)",
        "constraint elasticsearch_sync_queue_status_check CHECK",
        "index CREATE INDEX idx_elasticsearch_sync_queue_retry_count ",
        "index CREATE INDEX idx_elasticsearch_sync_queue_status_created ",
        "index CREATE INDEX idx_elasticsearch_sync_queue_table_record ",
        "column id bigint nextval('elasticsearch_sync_queue_id_seq'::regclass)",
        "column table_name character varying",
        "column record_id uuid",
        "column status character varying 'pending'::character varying",
        "column retry_count integer 0",
        "column created_at timestamp with time zone now()",
        "column xid bigint",
    ] {
        assert!(shape.contains(line), "{line} is not in\n{shape}");
    }
    let owned = "select pg_get_serial_sequence('elasticsearch_sync_queue', 'id')";
    assert_eq!(one::<String>(&client, owned).await, "public.elasticsearch_sync_queue_id_seq");
    let compression = "select attcompression::text = case when 'lz4' = any (enumvals) then 'l' else '' end
        from pg_attribute, pg_settings
        where attrelid = to_regclass('walferry.queue_p' || to_char(now() at time zone 'UTC', 'YYYYMMDD'))
          and attname = 'change_data' and pg_settings.name = 'default_toast_compression'";
    assert!(one::<bool>(&client, compression).await);
}

#[tokio::test]
async fn a_second_run_finds_nothing_to_do() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    let first = schema::run(&client, &options()).await.unwrap();
    let all = [
        "sync_queue",
        "durable_state",
        "queue_stats",
        "job_counts",
        "drop_partitions",
        "indexing",
        "source",
        "take_over",
        "audit",
        "note",
        "partition",
        "fanout",
        "waits_for",
        "rights",
        "fanout_waits",
        "discarded",
        "operation",
        "verify",
    ];
    assert_eq!(first.applied, all);
    assert_eq!(first.partitions_made, 2 + partitions::DAYS_AHEAD);
    assert!(first.publication_created);
    assert_eq!(first.identities_set, ["public.listings", "public.notes"]);
    let before = shape(&client).await;
    assert_eq!(schema::run(&client, &options()).await.unwrap(), Report::default());
    assert_eq!(shape(&client).await, before);
}

#[tokio::test]
async fn concurrent_runs_apply_each_migration_once() {
    let database = TestDatabase::with_tables().await;
    let clients = [database.connect().await, database.connect().await, database.connect().await];
    let options = options();
    let [a, b, c] = clients.each_ref().map(|client| schema::run(client, &options));
    let (a, b, c) = tokio::join!(a, b, c);
    let reports = [a.unwrap(), b.unwrap(), c.unwrap()];
    assert_eq!(reports.iter().filter(|report| report.publication_created).count(), 1);
    assert_eq!(reports.iter().map(|report| report.applied.len()).sum::<usize>(), 18);
}

#[tokio::test]
async fn a_run_beside_a_busy_table_waits_its_turn() {
    let database = TestDatabase::with_tables().await;
    let busy = database.connect().await;
    busy.batch_execute("begin; insert into notes values (1)").await.unwrap();
    let client = database.connect().await;
    let options = options();
    let run = schema::run(&client, &options);
    let release = async {
        // The run is seen waiting before the table is let go.
        let observer = database.connect().await;
        let waiting = "select exists (select from pg_locks where not granted
            and relation = 'notes'::regclass)";
        eventually(Duration::from_secs(10), "the run waits for notes", async || {
            one::<bool>(&observer, waiting).await.then_some(()).ok_or_else(String::new)
        })
        .await;
        busy.batch_execute("commit").await.unwrap();
    };
    let (report, ()) = tokio::join!(run, release);
    assert_eq!(report.unwrap().identities_set, ["public.listings", "public.notes"]);
}

/// The server's, such as 180000.
async fn version() -> i32 {
    let client = TestDatabase::with_tables().await.connect().await;
    one(&client, "select current_setting('server_version_num')::int").await
}

/// Runs `setup`, then expects the run to be refused with `expected` and nothing to be there.
async fn check_refused(setup: &str, options: &MigrateOptions, expected: &str) {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    client.batch_execute(setup).await.unwrap();
    let error = schema::run(&client, options).await.unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    let untouched = "select to_regnamespace('walferry') is null
        and not exists (select from pg_class where relreplident = 'f')";
    assert!(one::<bool>(&client, untouched).await, "{expected}: something was altered");
}

#[tokio::test]
async fn what_cannot_serve_is_refused_before_anything_is_altered() {
    let with = |name: &str| {
        let mut options = options();
        options.tables.push(("public".to_owned(), name.to_owned()));
        options
    };
    check_refused("", &with("absent"), "\"public\".\"absent\" does not exist").await;
    check_refused("create table k (a int)", &with("k"), "has no primary key").await;
    check_refused("create view v as select 1", &with("v"), "not an ordinary").await;
    let all = "create publication walferry for all tables";
    check_refused(all, &options(), "drop publication \"walferry\"").await;
    if version().await >= 150_000 {
        let schema = "create publication walferry for tables in schema public";
        check_refused(schema, &options(), "drop tables in schema \"public\"").await;
    }
    let narrow = "create publication walferry for table notes with (publish = 'insert')";
    check_refused(narrow, &options(), "set (publish = 'insert, update, delete, truncate')").await;
    let other = "create table elasticsearch_sync_queue (id serial primary key)";
    check_refused(other, &options(), "not the queue of the system").await;
    let mut nobody = options();
    nobody.runtime_role = Some("no such role".to_owned());
    check_refused("", &nobody, "create role \"no such role\" login replication").await;
}

#[tokio::test]
async fn a_published_queue_is_refused() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    schema::run(&client, &options()).await.unwrap();
    client
        .batch_execute("alter publication walferry add table elasticsearch_sync_queue")
        .await
        .unwrap();
    let error = schema::run(&client, &options()).await.unwrap_err();
    let remedy = "alter publication \"walferry\" drop table public.elasticsearch_sync_queue";
    assert!(error.to_string().contains(remedy), "{error}");
    client.batch_execute(remedy).await.unwrap();
    schema::run(&client, &options()).await.unwrap();
}

#[tokio::test]
async fn a_publication_gains_what_it_lacks() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    client.batch_execute("create publication walferry for table notes").await.unwrap();
    let report = schema::run(&client, &options()).await.unwrap();
    assert!(!report.publication_created);
    assert_eq!(report.tables_added, ["\"public\".\"listings\""]);
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    schema::run(&client, &options()).await.unwrap();
    client.batch_execute("insert into walferry.migration values (999, 'later')").await.unwrap();
    let error = schema::run(&client, &options()).await.unwrap_err();
    assert!(matches!(error, MigrateError::Newer { found: 999, .. }), "{error}");
}

/// A role of this name in the cluster, which other tests share.
pub(crate) async fn role(client: &Client, name: &str, attributes: &str) {
    let create = format!(
        "do $$ begin create role {name} {attributes};
            exception when duplicate_object or unique_violation then null; end $$"
    );
    client.batch_execute(&create).await.unwrap();
}

#[tokio::test]
async fn api_roles_see_nothing_and_service_role_the_statistics() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    for name in ["anon", "authenticated", "service_role"] {
        role(&client, name, "nologin").await;
    }
    // As Supabase has it.
    let defaults =
        "alter default privileges in schema public grant all on tables to anon, authenticated;
        alter default privileges in schema public grant all on functions to anon, authenticated;
        alter default privileges in schema public grant all on sequences to anon, authenticated";
    client.batch_execute(defaults).await.unwrap();
    schema::run(&client, &options()).await.unwrap();
    let rights = "select concat_ws(' ', r,
            has_table_privilege(r, 'elasticsearch_sync_queue', 'select, insert, update, delete'),
            has_sequence_privilege(r, 'elasticsearch_sync_queue_id_seq', 'usage, select'),
            has_schema_privilege(r, 'walferry', 'usage, create'),
            has_function_privilege(r, 'get_elasticsearch_queue_stats()', 'execute'))
        from unnest($1::text[]) r";
    let roles = ["anon", "authenticated", "service_role"];
    let rows = client.query(rights, &[&&roles[..]]).await.unwrap();
    let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, ["anon f f f f", "authenticated f f f f", "service_role f f f t"]);
    let unprotected = "select count(*) from pg_class
        where (oid = 'elasticsearch_sync_queue'::regclass or relname like 'queue\\_%' and relkind = 'r')
          and not relrowsecurity";
    assert_eq!(one::<i64>(&client, unprotected).await, 0);
}

#[tokio::test]
async fn statistics_have_their_original_columns() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    schema::run(&client, &options()).await.unwrap();
    let fill = "insert into elasticsearch_sync_queue
            (table_name, operation, record_id, change_data, status, created_at, processed_at)
        select 'notes', 'INSERT', gen_random_uuid(), '{}', s, now(), now() + interval '2 s'
        from unnest(array['pending', 'processing', 'completed', 'completed', 'failed']) s";
    client.batch_execute(fill).await.unwrap();
    let row = client.query_one("select * from get_elasticsearch_queue_stats()", &[]).await.unwrap();
    let columns: Vec<&str> = row.columns().iter().map(|column| column.name()).collect();
    let expected = [
        "total_jobs",
        "pending_jobs",
        "processing_jobs",
        "completed_jobs",
        "failed_jobs",
        "avg_processing_time",
        "last_processed_at",
    ];
    assert_eq!(columns, expected);
    let counts: Vec<i64> = (0..5).map(|index| row.get(index)).collect();
    assert_eq!(counts, [5, 1, 1, 2, 1]);
    let average = "select avg_processing_time = 2000 from get_elasticsearch_queue_stats()";
    assert!(one::<bool>(&client, average).await);
    let refused = client.batch_execute("update elasticsearch_sync_queue set status = 'done'").await;
    assert!(refused.is_err(), "the check names all statuses");
}

#[tokio::test]
async fn a_role_that_owns_nothing_can_run() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    role(&client, "walferry_runtime", "login replication password 'secret'").await;
    // Before version 15 everybody may create there.
    client.batch_execute("revoke create on schema public from public").await.unwrap();
    client.batch_execute("grant select on listings, notes to walferry_runtime").await.unwrap();
    let mut options = options();
    options.runtime_role = Some("walferry_runtime".to_owned());
    let report = schema::run(&client, &options).await.unwrap();
    assert!(report.granted.contains(&"schema walferry".to_owned()), "{report:?}");
    assert!(report.unsecured.contains(&"public.elasticsearch_sync_queue".to_owned()), "{report:?}");
    let owned = "select count(*) from (select relowner from pg_class
            union all select proowner from pg_proc union all select nspowner from pg_namespace) o (owner)
        where owner = 'walferry_runtime'::regrole";
    assert_eq!(one::<i64>(&client, owned).await, 0);
    assert!(
        !one::<bool>(
            &client,
            "select has_schema_privilege('walferry_runtime', 'public', 'create')"
        )
        .await
    );

    let runtime = database.connect_as("walferry_runtime").await;
    assert_eq!(partitions::make(&runtime, None, partitions::DAYS_AHEAD + 1).await.unwrap(), 1);
    one::<i64>(&runtime, "select total_jobs from get_elasticsearch_queue_stats()").await;
    let lease = lease::acquire(&runtime, "walferry", "runtime").await.unwrap();
    let stored = StoredPosition {
        system_identifier: "1".into(),
        timeline: 1,
        generation: 1,
        recorded: Position::default(),
        recorded_end_lsn: Lsn(0),
    };
    position::store(&runtime, &lease, &stored, Settlement::default()).await.unwrap();
    crate::queue_storage::records_settles_and_claims(&database, "walferry_runtime", &lease).await;
    // A successor of the same role may end the predecessor's sessions.
    let paused = database.connect_as("walferry_runtime").await;
    let name = format!("set application_name = '{}'", lease.application_name("feed"));
    paused.batch_execute(&name).await.unwrap();
    lease::release(&runtime, &lease).await.unwrap();
    let successor = database.connect_as("walferry_runtime").await;
    lease::acquire(&successor, "walferry", "successor").await.unwrap();
    assert!(paused.batch_execute("select 1").await.is_err());
    // New parts that an owner's later migrate makes change hands as well.
    assert_eq!(schema::run(&client, &options).await.unwrap(), Report::default());
}
