//! `walferry migrate` on a database in which the original system lives: whatever happens
//! meanwhile, each change ends with one job, and searches go on.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::oracle;
use crate::scene::{Scene, until};
use crate::support::launcher::note;
use crate::workload::statements::{Extras, Step, step};
use crate::workload::{Workload, seeds, session};

const ORIGINAL: &str = include_str!("fixtures/original-system.sql");

/// As Supabase has them, and a role of the operator's.
const ROLES: &str = "
    do $$
    declare name text;
    begin
        foreach name in array array['anon', 'authenticated', 'service_role', 'queue_auditor',
            'web_anon'] loop
            begin
                execute format('create role %I nologin', name);
            exception when duplicate_object or unique_violation then null;
            end;
        end loop;
    end $$;
    alter default privileges in schema public grant all on tables to web_anon;
    alter default privileges in schema public grant all on sequences to web_anon;
    alter default privileges in schema public grant all on functions to web_anon;";

const GRANTS: &str = "
    grant all on elasticsearch_sync_queue to anon, authenticated, service_role;
    grant all on sequence elasticsearch_sync_queue_id_seq to service_role;
    grant select (id, status) on elasticsearch_sync_queue to queue_auditor with grant option;
    grant execute on function get_elasticsearch_queue_stats() to queue_auditor;
    alter table elasticsearch_sync_queue enable row level security;
    create policy \"the auditor's\" on elasticsearch_sync_queue for select to queue_auditor
        using (status <> 'failed');
    create policy nobody_deletes on elasticsearch_sync_queue as restrictive for delete
        using (false);
    comment on column elasticsearch_sync_queue.retry_count is 'Deneme sayısı';";

/// Rows in every state, and in some that the original system never meant; numbers given out for
/// rows that are gone.
const STATES: &str = "
    update elasticsearch_sync_queue set status = 'completed', processed_at = now() where id % 8 = 1;
    update elasticsearch_sync_queue set status = 'failed', retry_count = 3, error_message = 'mapping'
        where id % 8 = 2;
    update elasticsearch_sync_queue set status = 'processing', retry_count = 1 where id % 8 = 3;
    update elasticsearch_sync_queue set status = null where id % 8 = 4;
    update elasticsearch_sync_queue set status = 'skipped', error_message = 'why' where id % 8 = 5;
    update elasticsearch_sync_queue set created_at = null, retry_count = null where id % 8 = 6;
    update elasticsearch_sync_queue set created_at = '2025-08-26 10:25:00+00', status = 'completed'
        where id % 16 = 7;
    select setval('elasticsearch_sync_queue_id_seq', 100000);
    create table oracle.before as table elasticsearch_sync_queue;";

/// Old rows that are not there, or not as defined. What was unfinished may be finished by now.
const ALTERED: &str = "
    select count(*) from oracle.before b
    left join elasticsearch_sync_queue q on q.id = b.id
    where q.id is null
       or (q.table_name, q.operation, q.record_id, q.change_data)
          is distinct from (b.table_name, b.operation, b.record_id, b.change_data)
       or q.created_at is distinct from coalesce(b.created_at, b.processed_at, q.created_at)
       or b.status in ('completed', 'failed')
          and (q.status, q.processed_at, q.error_message, q.retry_count) is distinct from
              (b.status, b.processed_at, b.error_message, coalesce(b.retry_count, 0))
       or b.status = 'skipped' and q.error_message not like '%skipped%'
       or q.status not in ('pending', 'processing', 'completed', 'failed')";

/// What is left of the original system, a line each.
const LEFT: &str = "
    select count(*) from (
        select 1 from pg_trigger where tgname like '%queue_sync'
        union all select 1 from pg_proc where proname = 'add_to_elasticsearch_queue'
        union all select 1 from pg_class where relname = 'original_queue') as left_over";

const COMMIT_MAX: Duration = Duration::from_secs(60);
const CATCH_UP_MAX: Duration = Duration::from_secs(90);
const MIGRATE_MAX: Duration = Duration::from_secs(120);

/// Sessions that write until told to stop.
struct Writers {
    stop: CancellationToken,
    running: JoinSet<usize>,
}

impl Writers {
    fn start(workload: &Workload) -> Self {
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        for number in 0..3 {
            running.spawn(write(workload.clone(), number, stop.clone()));
        }
        Self { stop, running }
    }

    /// How many transactions committed.
    async fn stop(self) -> usize {
        self.stop.cancel();
        self.running.join_all().await.into_iter().sum()
    }
}

/// Random transactions over all three tables. One that fails, as of a row that others refer to, is
/// rolled back whole.
async fn write(workload: Workload, number: u64, stop: CancellationToken) -> usize {
    let client = session::connect(&workload.database).await.expect("the database answers");
    client.batch_execute("set deadlock_timeout = '1s'; set lock_timeout = 0").await.unwrap();
    let mut rng = fastrand::Rng::with_seed(workload.seed ^ number << 32);
    let mut committed = 0;
    while !stop.is_cancelled() {
        let mut sql = "begin; ".to_owned();
        for _ in 0..rng.u8(1..4) {
            if let Step::Sql(statement) = step(&mut rng, workload.extras) {
                sql.push_str(&statement);
                sql.push(';');
            }
        }
        sql.push_str("commit");
        match client.batch_execute(&sql).await {
            Ok(()) => committed += 1,
            Err(_) => client.batch_execute("rollback").await.expect("the database answers"),
        }
    }
    committed
}

/// A database in which the original system lives and knows of everything.
async fn original(name: &str, seed: u64) -> (Scene, Workload) {
    let scene = Scene::new(name).await;
    let zone = format!("alter database {} set timezone = 'UTC'", scene.bed.database);
    scene.sql(&zone).await;
    scene.sql("set timezone = 'UTC'").await;
    scene.sql(ROLES).await;
    scene.sql(ORIGINAL).await;
    let extras = Extras { truncate: false, deferrable_keys: false };
    let workload = Workload { database: scene.database(), seed, extras };
    workload.prepare().await;
    (scene, workload)
}

/// Waits until so many more changes have been witnessed.
async fn more_changes(scene: &Scene, count: i64) {
    let sql = "select count(*) from oracle.change";
    let before = scene.number(sql).await;
    until(COMMIT_MAX, "more changes", async || scene.number(sql).await >= before + count).await;
}

/// Searches `index` until told to stop; how often, and what went wrong. A search that is under way
/// in an index while that is removed may be answered 503; clients repeat such a search at once.
fn search(scene: &Scene, index: String, stop: CancellationToken) -> JoinHandle<(u32, Vec<String>)> {
    let elasticsearch = scene.bed.elasticsearch.clone();
    let path = format!("/{index}/_search?size=1");
    tokio::spawn(async move {
        let (mut looks, mut problems, mut repeated) = (0, Vec::new(), 0);
        while !stop.is_cancelled() {
            looks += 1;
            match elasticsearch.try_request(Method::GET, &path, None).await {
                Ok((200, answer)) if answer["hits"]["total"]["value"].as_u64() > Some(0) => {}
                Ok((503, answer))
                    if repeated == 0
                        && answer.to_string().contains("no_shard_available_action_exception") =>
                {
                    repeated += 1;
                }
                answer => problems.push(format!("{answer:?}")),
            }
        }
        (looks, problems)
    })
}

/// The index that the original service fills under the name itself.
async fn old_index(scene: &Scene) -> String {
    let name = scene.bed.index("listings");
    for n in 0..3 {
        let path = format!("/{name}/_doc/{n}?refresh=true");
        let body = json!({"title": "eski ilan", "status": "active"});
        scene.bed.elasticsearch.request(Method::PUT, &path, Some(&body)).await;
    }
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_original_system_is_taken_over_without_a_gap() {
    for seed in seeds(300, 1) {
        taken_over(seed).await;
    }
}

async fn taken_over(seed: u64) {
    let (scene, workload) = original("taken", seed).await;
    scene.sql(GRANTS).await;
    scene.sql(STATES).await;
    let index = old_index(&scene).await;
    let stop = CancellationToken::new();
    let searching = search(&scene, index.clone(), stop.clone());
    let writers = Writers::start(&workload);
    more_changes(&scene, 200).await;

    let (code, output) = scene.bed.walferry_once(&["migrate"], MIGRATE_MAX).await;
    assert_eq!(code, 0, "{output}");
    for words in [
        "taken over",
        "failed",
        "processing (now pending)",
        "trigger listings_queue_sync",
        "anon and authenticated and web_anon could do",
        "web_anon on public.elasticsearch_sync_queue",
        "PUBLIC may no longer execute get_elasticsearch_queue_stats()",
    ] {
        assert!(output.contains(words), "{words} is not in {output}");
    }
    assert_eq!(scene.number(LEFT).await, 0, "something of the original system is left");
    assert_eq!(scene.number(ALTERED).await, 0, "old rows are missing or altered");
    let clash = "select count(*) from (select id from elasticsearch_sync_queue group by id having count(*) > 1) twice";
    assert_eq!(scene.number(clash).await, 0);
    let unmade = "select count(*) from elasticsearch_sync_queue where commit_lsn is not null";
    assert_eq!(scene.number(unmade).await, 0, "nothing has read the slot yet");
    more_changes(&scene, 200).await;
    rights_are_carried_over(&scene).await;
    let (code, output) = scene.bed.walferry_once(&["migrate"], MIGRATE_MAX).await;
    assert!(code == 0 && output.contains("everything is in place"), "{output}");

    // Old completed jobs would be dropped otherwise, as they should.
    let mut walferry = scene.start_with(&[("WALFERRY_QUEUE_COMPLETED_RETENTION", "3650d")]);
    walferry.wait_ready(CATCH_UP_MAX).await;
    more_changes(&scene, 200).await;
    let committed = writers.stop().await;
    scene.bed.wait_acknowledged(CATCH_UP_MAX).await;
    scene.assert_true().await;
    assert_eq!(scene.number(ALTERED).await, 0, "old rows are missing or altered");
    let below = "select count(*) from elasticsearch_sync_queue where commit_lsn is not null
        and id <= greatest(100000, (select max(id) from elasticsearch_sync_queue where commit_lsn is null))";
    assert_eq!(scene.number(below).await, 0, "new ids are above the old ones");
    swapped(&scene, &index).await;
    stop.cancel();
    let (looks, problems) = searching.await.expect("the searches end");
    note(&format!("seed {seed}: {committed} transactions, {looks} searches"));
    assert_eq!(problems, Vec::<String>::new(), "seed {seed}: searches failed");
    walferry.stop().await;
}

/// The name is an alias of a generation of walferry's own.
async fn swapped(scene: &Scene, index: &str) {
    until(CATCH_UP_MAX, "the alias has taken the name", async || {
        let aliases = scene.bed.elasticsearch.aliases(index).await;
        let concrete = &aliases[format!("{index}-000001")]["aliases"];
        concrete.get(index).is_some() && aliases.get(index).is_none()
    })
    .await;
    let noted = "select count(*) from walferry.take_over where replaced_at is not null";
    until(CATCH_UP_MAX, "the swap is noted", async || scene.number(noted).await == 1).await;
}

async fn rights_are_carried_over(scene: &Scene) {
    let query = "select array[
        has_table_privilege('service_role', q, 'select, insert, update, delete'),
        has_sequence_privilege('service_role', 'elasticsearch_sync_queue_id_seq', 'usage'),
        has_column_privilege('queue_auditor', q, 'status', 'select with grant option'),
        has_function_privilege('queue_auditor', 'get_elasticsearch_queue_stats()', 'execute'),
        not has_table_privilege('queue_auditor', q, 'select'),
        not has_table_privilege('anon', q, 'select, insert, update, delete'),
        not has_table_privilege('authenticated', q, 'select, insert, update, delete'),
        not has_any_column_privilege('authenticated', q, 'select'),
        not has_table_privilege('web_anon', q, 'select, insert, update, delete, truncate'),
        not has_sequence_privilege('web_anon', 'elasticsearch_sync_queue_id_seq', 'usage'),
        not has_function_privilege('web_anon', 'get_elasticsearch_queue_stats()', 'execute'),
        (select relrowsecurity and relkind = 'p' from pg_class where oid = q),
        col_description(q, (select attnum from pg_attribute where attrelid = q
            and attname = 'retry_count')) = 'Deneme sayısı']
        from (select 'elasticsearch_sync_queue'::regclass::oid) as queue (q)";
    let held: Vec<bool> = scene.bed.sql.value(query, &[]).await;
    assert_eq!(held, [true; 13]);
    let policies =
        "select string_agg(concat_ws(' ', policyname, permissive, cmd, roles, qual), E'\\n'
        order by policyname) from pg_policies where tablename = 'elasticsearch_sync_queue'";
    let policies: String = scene.bed.sql.value(policies, &[]).await;
    assert_eq!(
        policies,
        "nobody_deletes RESTRICTIVE DELETE {public} false\n\
         the auditor's PERMISSIVE SELECT {queue_auditor} ((status)::text <> 'failed'::text)"
    );
}

/// Many finished jobs, so that the last part takes a while.
const HISTORY: &str = "
    with made as (
        insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, status)
        select 'listings', 'INSERT', gen_random_uuid(), '{}', 'completed'
        from generate_series(1, 60000)
        returning record_id)
    insert into oracle.change (table_name, operation, record_id, change_data)
    select 'listings', 'INSERT', record_id, '{}' from made;
    create table oracle.before as table elasticsearch_sync_queue;";

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_is_either_the_old_system_or_the_new() {
    let (scene, workload) = original("retaken", 310).await;
    scene.sql(HISTORY).await;
    let writers = Writers::start(&workload);
    more_changes(&scene, 50).await;
    let (mut kills, mut life) = ([0, 0, 0], Duration::from_millis(30));
    loop {
        let mut migrate = scene.bed.walferry(&["migrate"]).spawn();
        let ended = tokio::time::timeout(life, migrate.wait_exit(MIGRATE_MAX)).await;
        if let Ok(code) = ended {
            assert_eq!(code, 0, "{}", migrate.output());
            break;
        }
        migrate.kill9();
        // A statement under way on the server ends by itself, with or without its client.
        let phase = scene.number(PHASE).await;
        kills[usize::try_from(phase).expect("there are three")] += 1;
        life = life * 13 / 10;
        // Whichever system it is, writers go on.
        more_changes(&scene, 5).await;
    }
    note(&format!("killed before the cut, after it, and before the slot: {kills:?}"));
    assert!(kills.iter().sum::<i32>() > 5, "{kills:?}");
    assert_eq!(scene.number(LEFT).await, 0, "something of the original system is left");
    more_changes(&scene, 50).await;
    writers.stop().await;
    assert_eq!(scene.number(ALTERED).await, 0, "old rows are missing or altered");
    scene.once().await;
    scene.assert_true().await;
}

/// 0: the original system with a slot beside it; 1: taken over; 2: the original system alone.
const PHASE: &str = "select case
    when (select relkind = 'p' from pg_class where oid = 'elasticsearch_sync_queue'::regclass) then 1
    when exists (select from pg_replication_slots where database = current_database()) then 0
    else 2 end::bigint";

/// `walferry migrate` refuses the database that `make` alters, and alters nothing.
async fn refuses(scene: &Scene, make: &str, undo: &str, words: &str) {
    scene.sql(make).await;
    let (code, output) = scene.bed.walferry_once(&["migrate"], MIGRATE_MAX).await;
    assert_eq!(code, 3, "{make}: {output}");
    assert!(output.contains(words), "{make}: {words} is not in {output}");
    let untouched = "select (to_regnamespace('walferry') is null
        and not exists (select from pg_class where relreplident = 'f')
        and not exists (select from pg_publication)
        and (select count(*) = 3 from pg_trigger where tgname like '%queue_sync' and tgenabled = 'O')
        and not exists (select from pg_replication_slots
            where database = current_database() and plugin = 'pgoutput'))::int::bigint";
    assert_eq!(scene.number(untouched).await, 1, "{make}: something was altered");
    scene.sql(undo).await;
}

#[tokio::test]
async fn what_cannot_be_taken_over_is_refused_before_anything_is_altered() {
    let (scene, _) = original("refused", 320).await;
    let queue = "alter table elasticsearch_sync_queue";
    refuses(
        &scene,
        &format!("{queue} add column tenant text"),
        &format!("{queue} drop column tenant"),
        "column tenant is none of the original",
    )
    .await;
    refuses(
        &scene,
        &format!("{queue} alter column retry_count type bigint"),
        &format!("{queue} alter column retry_count type integer"),
        "column retry_count is of type bigint, not integer",
    )
    .await;
    refuses(
        &scene,
        &format!("{queue} rename column processed_at to done_at"),
        &format!("{queue} rename column done_at to processed_at"),
        "done_at is none of the original",
    )
    .await;
    refuses(
        &scene,
        "create view stuck as select * from elasticsearch_sync_queue where status = 'processing'",
        "drop view stuck",
        "view public.stuck",
    )
    .await;
    refuses(
        &scene,
        "create function jobs() returns setof elasticsearch_sync_queue language sql
            as 'select * from elasticsearch_sync_queue'",
        "drop function jobs()",
        "function public.jobs()",
    )
    .await;
    refuses(
        &scene,
        "create trigger mine after insert on elasticsearch_sync_queue
            for each statement execute function suppress_redundant_updates_trigger()",
        "drop trigger mine on elasticsearch_sync_queue",
        "trigger mine",
    )
    .await;
}

#[tokio::test]
async fn a_queue_that_another_role_may_alter_is_not_taken_over() {
    let (scene, _) = original("strangers", 340).await;
    let queue = "alter table elasticsearch_sync_queue";
    // A role that may create in the schema can make the table first, and goes on reading it.
    scene
        .sql(
            "do $$ begin create role take_over_stranger;
                exception when duplicate_object then null; end $$;
            grant create on schema public to take_over_stranger",
        )
        .await;
    refuses(
        &scene,
        &format!("{queue} owner to take_over_stranger"),
        &format!("{queue} owner to current_user"),
        "it belongs to role take_over_stranger",
    )
    .await;
    // The planner executes it, as the role that migrates.
    refuses(
        &scene,
        "create function own(text) returns boolean immutable language plpgsql
            as $$ begin return true; end $$;
        create index own on elasticsearch_sync_queue (status) where own('a') or status = 'none';
        create or replace function own(text) returns boolean immutable language plpgsql
            as $$ begin raise exception 'own was executed'; end $$;
        alter function own(text) owner to take_over_stranger",
        "drop index own; drop function own(text)",
        "uses function public.own(text), which role take_over_stranger can replace",
    )
    .await;
    scene.sql("revoke create on schema public from take_over_stranger").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_of_somebody_elses_and_a_writer_that_stays_leave_the_old_system_working() {
    let (scene, _) = original("kept", 330).await;
    let slot = &scene.bed.slot;
    scene.sql(&format!("select pg_create_physical_replication_slot('{slot}')")).await;
    let (code, output) = scene.bed.walferry_once(&["migrate"], MIGRATE_MAX).await;
    assert_eq!(code, 3, "{output}");
    assert!(output.contains(slot.as_str()) && output.contains("WALFERRY_SLOT"), "{output}");
    scene.sql(&format!("select pg_drop_replication_slot('{slot}')")).await;
    let counted = "select count(*) from elasticsearch_sync_queue";
    let before = scene.number(counted).await;
    scene.sql("insert into categories (name, slug) values ('Ev', 'ev')").await;
    assert_eq!(scene.number(counted).await, before + 1);

    // A table of an unpublished kind goes on using the function.
    scene
        .sql(
            "create table reviews (id uuid primary key default gen_random_uuid());
             create trigger reviews_queue after insert on reviews
                 for each row execute function add_to_elasticsearch_queue()",
        )
        .await;
    // An earlier call was killed when it had made the slot.
    scene.sql(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    let busy = scene.bed.connect().await;
    busy.run("begin; insert into categories (name, slug) values ('Bahçe', 'bahce')").await;
    let mut migrate = scene.bed.walferry(&["migrate"]).spawn();
    let waiting = "select count(*) from pg_locks where not granted and database =
        (select oid from pg_database where datname = current_database())";
    until(COMMIT_MAX, "migrate waits", async || scene.number(waiting).await > 0).await;
    busy.run("commit").await;
    assert_eq!(migrate.wait_exit(MIGRATE_MAX).await, 0, "{}", migrate.output());
    let output = migrate.output();
    assert!(output.contains("trigger reviews_queue on public.reviews executes it"), "{output}");
    scene.sql("insert into reviews default values").await;
    let foreign = "select count(*) from elasticsearch_sync_queue where table_name = 'reviews'
        and status = 'pending' and commit_lsn is null";
    assert_eq!(scene.number(foreign).await, 1);
    assert_eq!(
        oracle::audit_problems(&scene.bed.sql).await.len(),
        1,
        "the review is not witnessed"
    );
}
