//! Days that are over go, and what is not completed of them stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::Client;
use walferry::storage::queue::maintain::{MaintainError, Maintained, Maintainer};

use crate::job_counts::difference;
use crate::queue_storage::Queue;
use crate::scene::{Scene, until};
use crate::support::eventually;

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const SECONDS_30: Duration = Duration::from_secs(30);

/// The part for the day so many days ago, as it was made ahead then, and jobs of that day in
/// all states.
async fn day(client: &Client, days_ago: i32) {
    let made = format!(
        "do $$
        declare
            day date := (now() at time zone 'UTC')::date - {days_ago};
            part text := 'queue_p' || to_char(day, 'YYYYMMDD');
        begin
            set local timezone = 'UTC';
            execute format('create table walferry.%I (like elasticsearch_sync_queue including all)', part);
            execute format('create trigger count_truncate before truncate on walferry.%I
                for each statement execute function walferry.count_truncate()', part);
            execute format('alter table elasticsearch_sync_queue attach partition walferry.%I
                for values from (%L) to (%L)', part, day::timestamptz, (day + 1)::timestamptz);
        end $$"
    );
    client.batch_execute(&made).await.unwrap();
    fill(client, days_ago).await;
}

/// 12 completed jobs, 4 each of the others.
async fn fill(client: &Client, days_ago: i32) {
    let jobs = format!(
        "insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, status,
            retry_count, error_message, created_at, processed_at, commit_lsn, ordinal, xid,
            started_at, next_attempt_at, epoch)
        select 'notes', 'INSERT', gen_random_uuid(), jsonb_build_object('n', n), s, n % 4, 'why', t,
            case when s in ('completed', 'failed') then t + n * interval '1 s' end,
            '0/0'::pg_lsn + n::numeric, {days_ago}, n, t, t, 1
        from generate_series(1, 24) n,
            lateral (select coalesce((array['pending', 'processing', 'failed'])[n % 6], 'completed')) x (s),
            lateral (select ((now() at time zone 'UTC')::date - {days_ago}) at time zone 'UTC'
                + n * interval '59 minutes') y (t)"
    );
    client.batch_execute(&jobs).await.unwrap();
}

/// All rows but the completed ones of days over, as JSON, and in which part they are where asked.
async fn rows(client: &Client, kept_days: i32) -> Vec<String> {
    let query = format!(
        "select to_jsonb(q)::text from elasticsearch_sync_queue q
        where status <> 'completed'
           or created_at >= ((now() at time zone 'UTC')::date - {kept_days}) at time zone 'UTC'
        order by id"
    );
    client.query(&query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn run(client: &Client) -> Maintained {
    let maintainer = Maintainer::begin(client, None).await.unwrap();
    let done = maintainer.run(WEEK).await.unwrap();
    maintainer.release().await.unwrap();
    done
}

const COMPLETED: &str = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
const PARTS: &str = "select count(*) from pg_inherits
    where inhparent = 'elasticsearch_sync_queue'::regclass";

#[tokio::test]
async fn what_is_not_completed_outlives_its_day() {
    let queue = Queue::new().await;
    for days_ago in [30, 9, 8, 7, 6] {
        day(&queue.admin, days_ago).await;
    }
    let before = rows(&queue.admin, 7).await;
    assert_eq!(before.len(), 3 * 12 + 2 * 24);
    let parts = number(&queue.admin, PARTS).await;
    let done = run(&queue.admin).await;
    assert_eq!(done.dropped.iter().map(|(_, moved)| *moved).collect::<Vec<_>>(), [12, 12, 12]);
    assert_eq!((done.made, done.deleted, done.kept.len()), (0, 0, 0));
    assert_eq!(number(&queue.admin, PARTS).await, parts - 3);
    assert_eq!(rows(&queue.admin, 7).await, before, "ids and all columns");
    assert_eq!(number(&queue.admin, "select count(*) from walferry.queue_default").await, 36);
    assert_eq!(difference(&queue.admin).await, None);
    assert_eq!(run(&queue.admin).await, Maintained::default(), "nothing is left to do");

    // They are jobs like all others; once completed they go.
    let finish = "update elasticsearch_sync_queue set status = 'completed', processed_at = now()
        where status = 'pending'";
    queue.admin.batch_execute(finish).await.unwrap();
    assert_eq!(run(&queue.admin).await.deleted, 12);
    assert_eq!(difference(&queue.admin).await, None);
}

#[tokio::test]
async fn a_month_without_walferry_is_made_up_for() {
    let queue = Queue::new().await;
    // The last days of the run before, then days that nobody made parts for.
    for days_ago in [40, 39, 38, 37, 36] {
        day(&queue.admin, days_ago).await;
    }
    for days_ago in 5..35 {
        fill(&queue.admin, days_ago).await;
    }
    let ahead = "select string_agg(format('drop table walferry.%I', relname), ';')
        from pg_class where relname ~ '^queue_p[0-9]{8}$' and relkind = 'r'
          and to_date(substr(relname, 8), 'YYYYMMDD') >= (now() at time zone 'UTC')::date - 1";
    let drop: String = queue.admin.query_one(ahead, &[]).await.unwrap().get(0);
    queue.admin.batch_execute(&drop).await.unwrap();
    let before = rows(&queue.admin, 7).await;
    let done = run(&queue.admin).await;
    assert_eq!((done.made, done.dropped.len(), done.deleted), (8, 5, 27 * 12));
    assert_eq!(rows(&queue.admin, 7).await, before);
    assert_eq!(number(&queue.admin, COMPLETED).await, 3 * 12);
    assert_eq!(difference(&queue.admin).await, None);
}

#[tokio::test]
async fn a_part_with_too_much_to_move_stays_without_its_completed_jobs() {
    let queue = Queue::new().await;
    day(&queue.admin, 20).await;
    let more = "insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, created_at)
        select 'notes', 'INSERT', gen_random_uuid(), '{}', now() - interval '20 days'
        from generate_series(1, 5000)";
    queue.admin.batch_execute(more).await.unwrap();
    let done = run(&queue.admin).await;
    assert_eq!((done.dropped.len(), done.kept.len(), done.deleted), (0, 1, 12));
    assert_eq!(done.kept[0].1, 5012);
    assert_eq!(difference(&queue.admin).await, None);
    queue
        .admin
        .batch_execute("delete from elasticsearch_sync_queue where change_data = '{}'")
        .await
        .unwrap();
    assert_eq!(run(&queue.admin).await.dropped[0].1, 12);
    assert_eq!(difference(&queue.admin).await, None);
}

#[tokio::test]
async fn a_pass_gives_way_to_readers_and_ends_when_they_do() {
    let queue = Queue::new().await;
    day(&queue.admin, 20).await;
    let (reader, other) = (queue.database.connect().await, queue.database.connect().await);
    reader.batch_execute("begin; select count(*) from elasticsearch_sync_queue").await.unwrap();
    let pass = run(&other);
    let release = async {
        let tried = "select exists (select from pg_locks where not granted
            and relation = 'elasticsearch_sync_queue'::regclass and mode = 'AccessExclusiveLock')";
        eventually(SECONDS_30, "the pass waits for the reader", async || {
            let waits: bool = queue.admin.query_one(tried, &[]).await.unwrap().get(0);
            if waits { Ok(()) } else { Err("it does not".to_owned()) }
        })
        .await;
        // Writers go on meanwhile: none waits for longer than the pass does.
        queue.admin.batch_execute("set lock_timeout = '1s'").await.unwrap();
        fill(&queue.admin, 0).await;
        let second = Maintainer::begin(&queue.admin, None).await;
        assert!(matches!(second, Err(MaintainError::Busy(_))), "one pass at a time");
        reader.batch_execute("commit").await.unwrap();
    };
    let (done, ()) = tokio::join!(pass, release);
    assert_eq!(done.dropped.len(), 1);
    assert_eq!(difference(&queue.admin).await, None);
}

#[tokio::test]
async fn a_dry_run_alters_nothing_and_says_what_would_be_done() {
    let scene = Scene::unwitnessed("maintain_dry").await;
    scene.bed.migrate().await;
    let sql = &scene.bed.sql;
    day(sql, 20).await;
    fill(sql, 15).await;
    scene.sql("set walferry.counted = 'on'").await;
    fill(sql, 0).await;
    scene.sql("reset walferry.counted").await;
    let state = "select md5(string_agg(line, '|' order by line)) from (
        select to_jsonb(q)::text || tableoid from elasticsearch_sync_queue q
        union all select c::text from walferry.job_count c
        union all select relname || relkind::text from pg_class) s (line)";
    let before: String = sql.value(state, &[]).await;
    let (code, output) =
        scene.bed.walferry_once(&["maintain", "--dry-run", "--recount"], SECONDS_30).await;
    assert_eq!(code, 0, "{output}");
    for line in [
        "dry run",
        "part dropped; 12 unfinished or failed",
        "12 completed job(s) deleted",
        "off by 24",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    assert_eq!(sql.value::<String>(state, &[]).await, before);
    let (code, output) = scene.bed.walferry_once(&["maintain", "--recount"], SECONDS_30).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("off by 24; mended"), "{output}");
    assert_eq!(difference(sql).await, None);
    let (code, output) = scene.bed.walferry_once(&["maintain", "--recount"], SECONDS_30).await;
    assert_eq!((code, output.contains("the statistics equal the rows")), (0, true), "{output}");
}

#[tokio::test]
async fn an_unprepared_database_is_named() {
    let scene = Scene::unwitnessed("maintain_bare").await;
    let (code, output) = scene.bed.walferry_once(&["maintain"], SECONDS_30).await;
    assert_eq!((code, output.contains("run `walferry migrate`")), (3, true), "{output}");
}

#[tokio::test]
async fn it_runs_beside_a_live_walferry_which_does_it_too() {
    let scene = Scene::new("maintain_live").await;
    scene.bed.migrate().await;
    let completed = "update elasticsearch_sync_queue set status = 'completed', processed_at = now()
        where status <> 'failed' and commit_lsn < '0/100'";
    day(&scene.bed.sql, 20).await;
    scene.sql(completed).await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    let parts = "select count(*) from pg_class where relname ~ '^queue_p' and relkind = 'r'
        and to_date(substr(relname, 8), 'YYYYMMDD') < (now() at time zone 'UTC')::date - 7";
    until(SECONDS_30, "the duty drops the old day", async || scene.number(parts).await == 0).await;

    for days_ago in [30, 29, 28] {
        day(&scene.bed.sql, days_ago).await;
        scene.sql(completed).await;
        let load = "insert into categories (name, slug)
            select 'c' || n, 'maintain-' || n || '-' || random() from generate_series(1, 300) n";
        let writer = scene.bed.connect().await;
        let maintain = scene.bed.walferry_once(&["maintain"], SECONDS_30);
        let ((code, output), ()) = tokio::join!(maintain, writer.run(load));
        assert_eq!(
            (code, output.contains("part dropped; 4 unfinished or failed")),
            (0, true),
            "{output}"
        );
    }
    let failed = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    assert_eq!(scene.number(failed).await, 4 * 4);
    assert_eq!(difference(&scene.bed.sql).await, None);
    scene.sql("delete from elasticsearch_sync_queue where commit_lsn < '0/100'").await;
    scene.settled(SECONDS_30).await;
    assert_eq!(difference(&scene.bed.sql).await, None);
    walferry.stop().await;
    scene.assert_true().await;
}

/// Completed rows of the day so many days from now, in the default part.
async fn fill_default(client: &Client, days: i32, rows: i32) {
    let jobs = format!(
        "insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, status,
            created_at)
        select 'notes', 'INSERT', gen_random_uuid(), jsonb_build_object('n', repeat(n::text, 200)),
            'completed', now() + {days} * interval '1 day'
        from generate_series(1, {rows}) n"
    );
    client.batch_execute(&jobs).await.unwrap();
}

/// The part of the day so many days from now.
async fn part(client: &Client, days: i32) -> String {
    let name = format!(
        "select 'walferry.queue_p' || to_char((now() at time zone 'UTC')::date + {days}, 'YYYYMMDD')"
    );
    client.query_one(&name, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_day_never_holds_up_readers_and_writers_for_what_is_in_the_default_part() {
    let queue = Queue::new().await;
    let today = part(&queue.admin, 0).await;
    for days in 0..=3 {
        let drop = format!("drop table {}", part(&queue.admin, days).await);
        queue.admin.batch_execute(&drop).await.unwrap();
    }
    // Of today more than can be moved in a moment; of an earlier day few; of the next days none.
    fill_default(&queue.admin, 0, 150_000).await;
    fill_default(&queue.admin, -3, 20).await;
    let count = "select count(*) from elasticsearch_sync_queue";
    let before = number(&queue.admin, count).await;
    let client = queue.database.connect().await;
    let done = AtomicBool::new(false);
    let pass = async {
        let report = run(&client).await;
        done.store(true, Ordering::Relaxed);
        report
    };
    let other = queue.database.connect().await;
    other.batch_execute("set lock_timeout = '400ms'").await.unwrap();
    let application = async {
        let mut rounds = 0;
        while !done.load(Ordering::Relaxed) {
            fill_default(&other, 0, 1).await;
            number(&other, "select count(*) from elasticsearch_sync_queue where id = 1").await;
            rounds += 1;
        }
        rounds
    };
    let (report, rounds) = tokio::join!(pass, application);
    assert!(rounds > 0);
    // Three days to come. Today stays where it is, and so does the earlier day, as the default part
    // is too large to be scanned under the lock.
    assert_eq!(report.made, 3);
    let exists = format!("select count(*) from pg_class where oid = to_regclass('{today}')");
    assert_eq!(number(&queue.admin, &exists).await, 0);
    assert_eq!(number(&queue.admin, count).await, before + rounds);
    let constraints =
        "select count(*) from pg_constraint where conname = 'queue_default_without_day'";
    assert_eq!(number(&queue.admin, constraints).await, 0);
    assert_eq!(difference(&queue.admin).await, None);
}

#[tokio::test]
async fn the_default_part_is_not_scanned_for_a_day_that_has_not_begun() {
    let queue = Queue::new().await;
    let client = queue.database.connect().await;
    fill_default(&client, -20, 50).await;
    let day = "select ((now() at time zone 'UTC')::date + 9)::text";
    let day: String = client.query_one(day, &[]).await.unwrap().get(0);
    let scans = "select pg_stat_get_xact_numscans('walferry.queue_default'::regclass)";
    for is_excluded in [true, false] {
        client.batch_execute("begin").await.unwrap();
        if is_excluded {
            let exclude = format!(
                "select walferry.exclude_day('{day}');
                 alter table walferry.queue_default validate constraint queue_default_without_day"
            );
            client.batch_execute(&exclude).await.unwrap();
        }
        let before = number(&client, scans).await;
        let add = format!("select walferry.add_partition('{day}', 5000)");
        client.batch_execute(&add).await.unwrap();
        assert_eq!(number(&client, scans).await == before, is_excluded);
        client.batch_execute("rollback").await.unwrap();
    }
}
