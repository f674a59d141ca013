//! The HTTP API over real servers: what it tells of jobs and records, and what it does to them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::scene::{Scene, until};
use crate::support::{Sql, Walferry, eventually};

const SOON: Duration = Duration::from_secs(60);
const Q: &str = "/api/v1/queue";

const ANN: &str = "a0000000-0000-4000-8000-000000000001";

fn listing(n: u32) -> String {
    format!("c0000000-0000-4000-8000-{n:012}")
}

/// A seller with private data and a category, then `count` listings.
async fn shop(scene: &Scene, count: u32) {
    scene
        .sql(&format!(
            "insert into profiles (id, username, full_name, email, phone)
             values ('{ANN}', 'ann', 'Ann', 'canary@example.org', '+90 555 0000');
             insert into categories (id, name, slug)
             values ('b0000000-0000-4000-8000-000000000001', 'Cars', 'cars');
             insert into listings (id, user_id, category_id, title, description,
                 price, status)
             select ('c0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '{ANN}',
                    'b0000000-0000-4000-8000-000000000001', 'car ' || n, 'fast', n, 'active'
             from generate_series(1, {count}) n"
        ))
        .await;
}

async fn completed(scene: &Scene, count: i64) {
    let sql = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(SOON, "the jobs are completed", async || scene.number(sql).await == count).await;
}

/// The answer to a GET, which must be 200.
async fn get(walferry: &Walferry, path: &str) -> Value {
    let (status, body) = walferry.get_json(path).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// A problem with this status that names the field.
async fn refuses(walferry: &Walferry, path: &str, status: u16, field: &str) {
    let (code, body) = walferry.get_json(path).await;
    assert_eq!(code, status, "{path}: {body}");
    assert_eq!(body["success"], false, "{body}");
    assert_eq!(body["errors"][0]["field"], field, "{path}: {body}");
    assert!(body["errors"][0]["allowed"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    assert!(body["request_id"].as_str().is_some_and(|id| id.len() == 32), "{body}");
}

fn ids(body: &Value) -> Vec<i64> {
    let jobs = body["jobs"].as_array().expect("there is a list of jobs");
    jobs.iter().map(|job| job["id"].as_i64().expect("an id is a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_by_page_and_filter() {
    let scene = Scene::unwitnessed("api_jobs").await;
    let mut walferry = scene.ready().await;
    shop(&scene, 25).await;
    completed(&scene, 27).await;

    for prefix in [Q, "/api/v1/ai-suggestions/queue"] {
        let first = get(&walferry, &format!("{prefix}/jobs")).await;
        let page = [&first["total"], &first["page"], &first["limit"]];
        assert_eq!(page, [27, 1, 20]);
        let second = get(&walferry, &format!("{prefix}/jobs?page=2")).await;
        let mut all = ids(&first);
        all.extend(ids(&second));
        assert_eq!(all.len(), 27);
        assert!(all.windows(2).all(|pair| pair[0] > pair[1]), "the newest first: {all:?}");
        let keys: Vec<&String> = first["jobs"][0].as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 9, "{keys:?}");
    }
    let jobs = format!("{Q}/jobs");
    for (filter, count) in [
        ("status=completed", 27),
        ("status=failed", 0),
        ("status=stuck", 0),
        ("table=listings", 25),
        ("table=listings&operation=DELETE", 0),
        (&format!("record_id={}", listing(7)), 1),
        (&format!("record_id={}&status=completed", listing(7)), 1),
        ("since=2000-01-01T00:00:00Z&limit=200", 27),
        ("until=2000-01-01T00:00:00Z", 0),
        ("page=400", 27),
    ] {
        let body = get(&walferry, &format!("{jobs}?{filter}")).await;
        assert_eq!(body["total"], count, "{filter}: {body}");
    }
    for (query, field) in [
        ("page=0", "page"),
        ("page=x", "page"),
        ("limit=0", "limit"),
        ("limit=1000000000", "limit"),
        ("status=lost", "status"),
        ("record_id=7", "record_id"),
        ("id=-1", "id"),
        ("since=yesterday", "since"),
        ("stauts=failed", "stauts"),
    ] {
        refuses(&walferry, &format!("{jobs}?{query}"), 400, field).await;
    }

    let newest = ids(&get(&walferry, &jobs).await)[0];
    let changed = "rating = 4.5, email = 'other-canary@example.org'";
    scene.sql(&format!("update profiles set {changed} where id = '{ANN}'")).await;
    completed(&scene, 28).await;
    let change = ids(&get(&walferry, &format!("{jobs}?table=profiles")).await)[0];
    assert!(change > newest);
    let detail = get(&walferry, &format!("{jobs}/{change}")).await;
    let column = |name: &str| {
        let changes = detail["changes"].as_array().unwrap();
        changes.iter().find(|change| change["column"] == name).unwrap().clone()
    };
    assert_eq!(column("rating")["new"], json!(4.5), "{detail}");
    assert_eq!(column("rating")["changed"], true);
    assert_eq!(column("username")["changed"], false);
    assert_eq!(
        (&column("email")["old"], &column("email")["new_state"]),
        (&Value::Null, &"masked".into())
    );
    assert!(!detail.to_string().contains("canary"), "{detail}");
    assert!(detail["job"]["commit_lsn"].is_string() && detail["timing"]["total_ms"].is_number());
    refuses(&walferry, &format!("{jobs}/x"), 400, "id").await;
    let (status, body) = walferry.get_json(&format!("{jobs}/999999")).await;
    assert_eq!((status, &body["code"]), (404, &"no_such_job".into()));
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_tell_what_was_committed_before_they_were_asked_for() {
    let scene = Scene::unwitnessed("api_now").await;
    let mut walferry = scene.ready().await;
    for total in 1..=20_i64 {
        scene
            .sql(&format!(
                "insert into elasticsearch_sync_queue (table_name, record_id, operation, status, change_data)
                 values ('listings', '{ANN}', 'UPDATE', 'failed', '{{}}')"
            ))
            .await;
        let paths = [format!("{Q}/stats"), format!("{Q}/health")];
        let (stats, health) = tokio::join!(get(&walferry, &paths[0]), get(&walferry, &paths[1]));
        assert_eq!(stats["total"], total);
        assert_eq!(stats["failed"], total);
        assert_eq!(health["errorRate"], 1.0, "{health}");
    }
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_differs_is_seen_and_put_right_again() {
    let scene = Scene::unwitnessed("api_record").await;
    let launch = scene.bed.walferry(&["run"]).env("WALFERRY_API_AUDIT_READS", "true");
    let mut walferry = launch.env("WALFERRY_LIMITS_ROW_BYTES_MAX", "64KiB").spawn();
    walferry.wait_ready(SOON).await;
    shop(&scene, 2).await;
    completed(&scene, 4).await;
    let path = format!("/api/v1/records/listings/{}", listing(2));
    let record = get(&walferry, &path).await;
    assert_eq!(record["differs"], false, "{record}");
    assert_eq!(
        record["documents"].as_array().unwrap().len(),
        2,
        "listing and suggestion: {record}"
    );
    assert_eq!((&record["jobs_total"], &record["row"]["title"]), (&1.into(), &"car 2".into()));

    // The newest change of all, written by hand and deleted by hand, more than once.
    let index = scene.bed.index("listings-000001");
    let document = format!("/{index}/_doc/{}", listing(2));
    for round in 1..=4_u32 {
        let body = json!({ "title": "forged", "price": round });
        let method = if round == 2 { Method::DELETE } else { Method::PUT };
        let body = (round != 2).then_some(body);
        scene.bed.elasticsearch.request(method, &document, body.as_ref()).await;
        let record = get(&walferry, &path).await;
        assert_eq!(record["differs"], true, "round {round}: {record}");
        let (status, answer) = walferry.post_json(&format!("{path}/resync"), None).await;
        assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
        eventually(SOON, "the document is put right", async || {
            let record = get(&walferry, &path).await;
            let right = record["unfinished"] == 0 && record["differs"] == false;
            if right { Ok(()) } else { Err(format!("round {round}: {record}")) }
        })
        .await;
    }
    // While another transaction is open it is not known what it will have committed before: the
    // re-sync waits for its end, and is not lost.
    let other = Sql::connect(&scene.bed.database_url()).await.expect("PostgreSQL answers");
    other.run("begin; update listings set view_count = 1 where price = -1; select pg_current_xact_id()").await;
    let forged = json!({ "title": "forged again" });
    scene.bed.elasticsearch.request(Method::PUT, &document, Some(&forged)).await;
    walferry.post_json(&format!("{path}/resync"), None).await;
    walferry.wait_output("unplaced_jobs_wait", SOON).await;
    assert_eq!(get(&walferry, &path).await["differs"], true);
    other.run("commit").await;
    until(SOON, "the document is put right", async || {
        get(&walferry, &path).await["differs"] == false
    })
    .await;
    let profile = get(&walferry, &format!("/api/v1/records/profiles/{ANN}")).await;
    assert_eq!((&profile["row"]["email"], &profile["differs"]), (&"masked".into(), &false.into()));
    assert!(!profile.to_string().contains("canary"), "{profile}");
    // Nor is a private column shown that an earlier definition left in a document.
    let stale = json!({ "id": ANN, "username": "ann", "email": "canary", "note": "canary" });
    let document = format!("/{}/_doc/{ANN}", scene.bed.index("profiles-000001"));
    scene.bed.elasticsearch.request(Method::PUT, &document, Some(&stale)).await;
    let profile = get(&walferry, &format!("/api/v1/records/profiles/{ANN}")).await;
    let found = &profile["documents"][0]["found"];
    assert_eq!((&found["email"], &found["username"]), (&"masked".into(), &"ann".into()));
    assert!(!profile.to_string().contains("canary"), "{profile}");
    let unknown = get(&walferry, &format!("/api/v1/records/listings/{}", listing(99))).await;
    assert_eq!((&unknown["row"], &unknown["differs"]), (&Value::Null, &false.into()), "{unknown}");
    refuses(&walferry, "/api/v1/records/listings/7", 400, "record_id").await;
    a_large_row_stays_at_the_server(&scene, &walferry).await;
    reads_are_written_down(&scene, &walferry).await;
    let (status, _) = walferry.get_json(&format!("/api/v1/records/bicycles/{ANN}")).await;
    assert_eq!(status, 404);
    walferry.stop().await;
}

/// A view of a row above `limits.row_bytes_max` takes little memory.
async fn a_large_row_stays_at_the_server(scene: &Scene, walferry: &Walferry) {
    let large = "update listings set description = repeat('x', 100000) where title = 'car 1'";
    scene.sql(large).await;
    let large = get(walferry, &format!("/api/v1/records/listings/{}", listing(1))).await;
    let row = &large["row"];
    assert_eq!(
        (&row["title"], &row["description"]),
        (&"car 1".into(), &"masked".into()),
        "{large}"
    );
    let reason = large["reason"].as_str().expect("it could not be compared");
    assert!(reason.contains("more than limits.row_bytes_max (65536)"), "{reason}");
    assert_eq!((&large["differs"], &large["documents"]), (&Value::Null, &json!([])), "{large}");
}

/// Each reader and record once a minute, before the answer.
async fn reads_are_written_down(scene: &Scene, walferry: &Walferry) {
    let job = "select max(id) from elasticsearch_sync_queue";
    let job = scene.number(job).await;
    get(walferry, &format!("{Q}/jobs/{job}")).await;
    let reads = get(walferry, "/api/v1/audit?action=read&result=done").await;
    let entries = reads["entries"].as_array().expect("entries");
    let targets = |target: &str| entries.iter().filter(|entry| entry["target"] == target).count();
    assert_eq!(targets(&format!("job {job}")), 1, "{reads}");
    assert_eq!(targets(&format!("listings {}", listing(1))), 1, "{reads}");
    assert!((1..=2).contains(&targets(&format!("listings {}", listing(2)))), "{reads}");
    assert_eq!(entries[0]["actor"], "anonymous", "{reads}");
    // What cannot be written down is not read.
    scene.sql("alter table walferry.audit rename to audit_away").await;
    let (status, refused) = walferry.get_json(&format!("{Q}/jobs/1")).await;
    assert_eq!((status, &refused["code"]), (503, &"not_migrated".into()), "{refused}");
    scene.sql("alter table walferry.audit_away rename to audit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_jobs_are_retried_and_discarded_by_filter_and_it_is_written_down() {
    let scene = Scene::unwitnessed("api_failed").await;
    let mut walferry = scene.ready().await;
    shop(&scene, 6).await;
    completed(&scene, 8).await;
    scene
        .sql(
            "update elasticsearch_sync_queue set status = 'failed', retry_count = 3,
                error_message = case when table_name = 'listings' then 'Mapper said no' else 'other' end",
        )
        .await;
    until(SOON, "health tells of the failed jobs", async || {
        let health = get(&walferry, &format!("{Q}/health")).await;
        health["status"] == "degraded" && health["errorRate"] == 1.0
    })
    .await;
    let post = async |path: &str, body: Value| {
        walferry.post_json(&format!("{Q}/{path}"), Some(&body)).await
    };

    let filter = json!({ "error": "mapper SAID" });
    let (_, dry) = post("operations/retry", json!({ "filter": filter, "dry_run": true })).await;
    assert_eq!((&dry["matched"], &dry["retried"]), (&6.into(), &0.into()), "{dry}");
    let failed = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    assert_eq!(scene.number(failed).await, 8, "a dry run changes nothing");
    let (status, changed) =
        post("operations/retry", json!({ "filter": filter, "expected_count": 5 })).await;
    assert_eq!(
        (status, &changed["code"], &changed["matched"]),
        (409, &"count_changed".into(), &6.into())
    );
    assert_eq!(scene.number(failed).await, 8);
    let (_, done) =
        post("operations/retry", json!({ "filter": filter, "expected_count": 6 })).await;
    assert_eq!(done["retried"], 6, "{done}");
    completed(&scene, 6).await;

    let (status, refused) = post("operations/discard", json!({ "filter": {} })).await;
    assert_eq!((status, &refused["errors"][0]["field"]), (400, &"reason".into()), "{refused}");
    let (status, refused) =
        post("operations/retry", json!({ "filter": { "stauts": "failed" } })).await;
    assert_eq!((status, &refused["success"]), (400, &false.into()), "{refused}");
    let failed_ids = ids(&get(&walferry, &format!("{Q}/jobs?status=failed")).await);
    assert_eq!(failed_ids.len(), 2);
    let (status, one) =
        post(&format!("jobs/{}/discard", failed_ids[0]), json!({ "reason": "a test" })).await;
    assert_eq!((status, &one["discarded"]), (200, &1.into()), "{one}");
    let (status, one) = post(&format!("jobs/{}/retry", failed_ids[1]), json!({})).await;
    assert_eq!((status, &one["retried"]), (200, &1.into()), "{one}");
    completed(&scene, 7).await;
    let (status, one) = post(&format!("jobs/{}/retry", failed_ids[1]), json!({})).await;
    assert_eq!((status, &one["code"]), (409, &"not_failed".into()), "{one}");

    stopped_and_cleared(&scene, &walferry).await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_about_the_jobs_that_were_there_when_it_began() {
    let scene = Scene::unwitnessed("api_chosen").await;
    let mut walferry = scene.ready().await;
    // While some are discarded, others fail.
    scene
        .sql(
            "create function fail_another() returns trigger language plpgsql as $$ begin
                 if (select count(*) from public.elasticsearch_sync_queue) < 9 then
                     insert into public.elasticsearch_sync_queue
                         (table_name, operation, record_id, change_data, status)
                     values ('listings', 'UPDATE', gen_random_uuid(), '{}', 'failed');
                 end if;
                 return null;
             end $$;
             insert into elasticsearch_sync_queue
                 (table_name, operation, record_id, change_data, status)
             select 'listings', 'UPDATE', gen_random_uuid(), '{}', 'failed'
             from generate_series(1, 3);
             create trigger fail_another after delete on elasticsearch_sync_queue
             for each statement execute function fail_another()",
        )
        .await;
    let chosen = ids(&get(&walferry, &format!("{Q}/jobs?status=failed")).await);
    let body = json!({ "expected_count": 3, "reason": "a test" });
    let path = format!("{Q}/operations/discard");
    let (status, done) = walferry.post_json(&path, Some(&body)).await;
    assert_eq!((status, &done["discarded"]), (200, &3.into()), "{done}");
    let left = ids(&get(&walferry, &format!("{Q}/jobs?status=failed")).await);
    assert!(!left.is_empty() && left.iter().all(|id| !chosen.contains(id)), "{left:?}");
    let audit = get(&walferry, "/api/v1/audit?limit=1").await;
    let mut chosen: Vec<String> = chosen.iter().map(ToString::to_string).collect();
    chosen.sort();
    let target = format!("jobs {}: all failed jobs", chosen.join(", "));
    assert_eq!(audit["entries"][0]["target"], target, "{audit}");
    // For a day a discard can be undone.
    let sql = "alter table elasticsearch_sync_queue disable trigger fail_another;
        update walferry.discarded_job set discarded_at = now() - interval '25 h'
        where id = (select max(id) from walferry.discarded_job)";
    scene.sql(sql).await;
    let path = format!("{Q}/operations/restore");
    let (status, dry) = walferry.post_json(&path, Some(&json!({ "dry_run": true }))).await;
    assert_eq!((status, &dry["matched"], &dry["restored"]), (200, &2.into(), &0.into()), "{dry}");
    let one: i64 = chosen[0].parse().unwrap();
    let body = json!({ "ids": [one], "reason": "a mistake" });
    let (status, back) = walferry.post_json(&path, Some(&body)).await;
    assert_eq!((status, &back["restored"]), (200, &1.into()), "{back}");
    let job = get(&walferry, &format!("{Q}/jobs/{one}")).await;
    assert_eq!(job["status"], "failed", "{job}");
    let (code, said) = scene.bed.walferry_once(&["restore", "--reason", "the rest"], SOON).await;
    assert!(code == 0 && said.contains("1 discarded jobs are failed again"), "{said}");
    let audit = get(&walferry, "/api/v1/audit?action=restore").await;
    let entry = &audit["entries"][1];
    assert_eq!((&entry["affected"], &entry["reason"]), (&1.into(), &"a mistake".into()), "{audit}");
    assert_eq!(audit["entries"][0]["reason"], "the rest", "{audit}");
    scene.bed.walferry_once(&["maintain"], SOON).await;
    assert_eq!(scene.number("select count(*) from walferry.discarded_job").await, 0);
    let differs = "select count(*) from get_elasticsearch_queue_stats()
        where failed_jobs <> (select count(*) from elasticsearch_sync_queue where status = 'failed')";
    assert_eq!(scene.number(differs).await, 0, "the counts are exact");
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_fails_or_dies_half_way_leaves_its_trail() {
    let scene = Scene::unwitnessed("api_trail").await;
    let mut walferry = scene.ready().await;
    shop(&scene, 1).await;
    completed(&scene, 3).await;
    walferry.post_json(&format!("{Q}/stop"), Some(&json!({}))).await;
    // The second batch fails.
    scene
        .sql(
            "insert into elasticsearch_sync_queue
                 (table_name, operation, record_id, change_data, status)
             select 'listings', 'UPDATE', gen_random_uuid(), '{}', 'failed'
             from generate_series(1, 3000);
             create function enough() returns trigger language plpgsql as $$ begin
                 if exists (select from public.elasticsearch_sync_queue where status = 'pending')
                 then
                     raise 'that is enough';
                 end if;
                 return null;
             end $$;
             create trigger enough before update on elasticsearch_sync_queue
             for each statement execute function enough()",
        )
        .await;
    let (status, problem) =
        walferry.post_json(&format!("{Q}/operations/retry"), Some(&json!({}))).await;
    assert_eq!(status, 503, "{problem}");
    let moved = scene
        .number("select count(*) from elasticsearch_sync_queue where status = 'pending'")
        .await;
    assert_eq!(moved, 2000);
    let newest = async |walferry: &Walferry| {
        get(walferry, "/api/v1/audit?limit=1").await["entries"][0].clone()
    };
    let line = newest(&walferry).await;
    assert_eq!((&line["result"], &line["affected"]), (&"failed".into(), &moved.into()), "{line}");

    // Killed while it waits for a lock.
    scene.sql("drop trigger enough on elasticsearch_sync_queue").await;
    let holder = Sql::connect(&scene.bed.database_url()).await.expect("PostgreSQL answers");
    holder.run("begin; lock table elasticsearch_sync_queue in exclusive mode").await;
    let asked = reqwest::Client::new().post(walferry.url(&format!("{Q}/clear"))).send();
    let asked = tokio::spawn(asked);
    let started = "select count(*) from walferry.audit where result = 'started'";
    until(SOON, "it has begun", async || scene.number(started).await == 1).await;
    walferry.kill9();
    assert!(asked.await.unwrap().is_err(), "nobody answers");
    holder.run("commit").await;
    let mut walferry = scene.start();
    until(SOON, "the next one answers", async || walferry.http_get("/livez").await.is_ok()).await;
    let line = newest(&walferry).await;
    assert_eq!((&line["action"], &line["result"]), (&"clear".into(), &"started".into()), "{line}");
    assert_eq!(line["affected"], Value::Null, "{line}");
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_of_changes_and_ends_with_the_server() {
    let scene = Scene::unwitnessed("api_events").await;
    let mut walferry = scene.ready().await;
    let mut answer = reqwest::get(walferry.url(&format!("{Q}/events"))).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut read_until = async |wanted: &str| {
        let read = async {
            while !text.contains(wanted) {
                let Some(piece) = answer.chunk().await.unwrap() else { return false };
                text.push_str(&String::from_utf8_lossy(&piece));
            }
            true
        };
        tokio::time::timeout(SOON, read).await.unwrap_or_else(|_| panic!("no {wanted} in time"))
    };
    assert!(read_until("event: state").await);
    shop(&scene, 3).await;
    assert!(read_until("event: jobs").await);
    assert!(read_until("\"completed\":5").await);
    let detailed = get(&walferry, "/api/v1/health/detailed").await;
    assert_eq!(detailed["components"]["database"]["status"], "up", "{detailed}");
    assert!(detailed["components"]["elasticsearch"]["latency"].is_number(), "{detailed}");
    assert!(
        detailed["memory"]["rss_bytes"].as_u64() > Some(1 << 20) && detailed["uptime"].is_u64()
    );
    let tested = get(&walferry, "/api/v1/elasticsearch/test-connection").await;
    assert_eq!(tested["success"], true, "{tested}");
    let (code, output) = scene.bed.walferry_once(&["status"], SOON).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("5 completed"), "{output}");
    walferry.stop().await;
    assert!(!read_until("event: nothing of the kind").await, "the stream ends with the server");
}

/// What halts and clears, and what the audit log says of all that was done before.
async fn stopped_and_cleared(scene: &Scene, walferry: &Walferry) {
    let why = json!({ "reason": "the index moves" });
    let (status, _) = walferry.post_json(&format!("{Q}/stop"), Some(&why)).await;
    assert_eq!(status, 200);
    let short = json!({ "reason": "x" });
    assert_eq!(walferry.post_json(&format!("{Q}/clear"), Some(&short)).await.0, 400);
    let health = get(walferry, &format!("{Q}/health")).await;
    let issues = health["issues"].as_array().unwrap();
    assert!(
        issues.iter().any(|issue| issue.as_str().unwrap().contains("stopped by an operator")),
        "{health}"
    );
    assert_eq!(issues.len(), health["recommendations"].as_array().unwrap().len());
    walferry.post_json(&format!("{Q}/start"), Some(&json!({}))).await;
    let why = json!({ "reason": "all is read" });
    let (_, cleared) = walferry.post_json(&format!("{Q}/clear"), Some(&why)).await;
    assert_eq!(cleared["cleared"], 7, "{cleared}");

    let audit = get(walferry, "/api/v1/audit").await;
    let actions: Vec<&str> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["clear", "start", "stop", "retry", "discard", "retry"], "{audit}");
    let reason = |entry: usize| audit["entries"][entry]["reason"].as_str();
    assert_eq!([0, 1, 2].map(reason), [Some("all is read"), None, Some("the index moves")]);
    let discard = &audit["entries"][4];
    assert_eq!(
        (&discard["result"], &discard["affected"], &discard["reason"]),
        (&"done".into(), &1.into(), &"a test".into())
    );
    assert_eq!((&discard["actor"], &discard["role"]), (&"anonymous".into(), &"admin".into()));
    let of = async |query: &str| {
        get(walferry, &format!("/api/v1/audit?{query}")).await["total"].as_u64().unwrap()
    };
    assert_eq!((of("action=retry").await, of("action=retry&result=failed").await), (2, 0));
    assert_eq!((of("actor=anonymous").await, of("actor=ann").await), (6, 0));
    assert_eq!(
        (of("since=2020-01-01T00:00:00Z").await, of("until=2020-01-01T00:00:00Z").await),
        (6, 0)
    );
    let export = walferry.url("/api/v1/audit/export?format=csv&action=discard");
    let export = reqwest::get(export).await.unwrap();
    assert_eq!(export.headers()["content-type"], "text/csv");
    let export = export.text().await.unwrap();
    assert!(export.lines().count() == 2 && export.contains(",done,a test"), "{export}");
    let export = reqwest::get(walferry.url("/api/v1/audit/export")).await.unwrap();
    assert_eq!(export.text().await.unwrap().lines().count(), 6);
    let line = ["audit", "--action", "discard", "--result", "done", "--actor", "anonymous"];
    let (code, output) = scene.bed.walferry_once(&line, SOON).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("a test") && !output.contains("all is read"), "{output}");
    let (_, output) = scene.bed.walferry_once(&["audit", "--day", "2020-01-31"], SOON).await;
    assert!(output.contains("no entry matches"), "{output}");
}
