//! What the HTTP API and the command line do alike, over real servers: a re-sync of a record with any
//! key, and one job as JSON.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Server;
use crate::scene::{Scene, until};
use crate::support::launcher::new_file;
use crate::support::{TestBed, Walferry};

const SOON: Duration = Duration::from_secs(60);

/// A table with a text key and one with a composite key.
const TABLES: &str = "
    create table countries (code text primary key, name text);
    create table rates (country text, year integer, rate numeric, primary key (country, year));
    alter table countries replica identity full;
    alter table rates replica identity full;";

const DEFINITION: &str = r#"
    [[table]]
    name = "countries"

    [[table]]
    name = "rates"

    [[index]]
    name = "countries"
    [[index.source]]
    table = "countries"

    [[index]]
    name = "rates"
    [[index.source]]
    table = "rates"
"#;

/// A scene with a definition of its own.
struct Shop {
    scene: Scene,
    definition: String,
}

impl Shop {
    fn walferry(&self, arguments: &[&str]) -> Walferry {
        self.scene.bed.walferry(arguments).env("WALFERRY_CONFIG", &self.definition).spawn()
    }

    /// Runs a command, which must end with `code` and say `words`.
    #[track_caller]
    fn says(&self, arguments: &[&str], code: i32, words: &str) -> impl Future<Output = String> {
        let mut child = self.walferry(arguments);
        let line = format!("{arguments:?}");
        async move {
            let found = child.wait_exit(SOON).await;
            let output = child.output();
            assert_eq!(found, code, "{line}: {output}");
            assert!(output.contains(words), "{line} does not say {words:?}: {output}");
            output
        }
    }

    /// Writes a document by hand, lets `resync` have it rendered anew, and waits until it is right.
    async fn mends(&self, index: &str, id: &str, resync: impl AsyncFnOnce()) {
        let index = self.scene.bed.index(&format!("{index}-000001"));
        let path = format!("/{index}/_doc/{}", id.replace('|', "%7C"));
        let forged = json!({ "forged": true });
        let elasticsearch = &self.scene.bed.elasticsearch;
        elasticsearch.request(Method::PUT, &path, Some(&forged)).await;
        resync().await;
        until(SOON, "the document is right again", async || {
            let (_, found) = elasticsearch.try_request(Method::GET, &path, None).await.unwrap();
            found["_source"].is_object() && found["_source"]["forged"].is_null()
        })
        .await;
    }

    async fn record_id(&self, table: &str) -> String {
        let sql = "select max(record_id::text) from elasticsearch_sync_queue where table_name = $1";
        self.scene.bed.sql.value(sql, &[&table]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_any_key_is_resynced_at_the_terminal_and_over_http() {
    let shop = Shop {
        scene: Scene::unwitnessed("resync").await,
        definition: new_file("definition", DEFINITION),
    };
    shop.scene.sql(TABLES).await;
    let mut walferry = shop.walferry(&["run"]);
    walferry.wait_ready(SOON).await;
    shop.scene
        .sql(
            "insert into countries values ('TR', 'Türkiye');
             insert into rates values ('TR', 2024, 1.5)",
        )
        .await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(SOON, "both are indexed", async || shop.scene.number(completed).await == 2).await;
    let country = shop.record_id("countries").await;
    let rate = shop.record_id("rates").await;

    let written = "renders the record's documents anew from its row";
    for (table, id, name) in [
        ("countries", "TR", "TR"),
        ("countries", "TR", country.as_str()),
        ("rates", "TR|2024", "TR|2024"),
        // The same number, so the same row and the same document.
        ("rates", "TR|2024", "TR|02024"),
        ("rates", "TR|2024", rate.as_str()),
    ] {
        shop.mends(table, id, async || {
            shop.says(&["resync", table, name], 0, written).await;
        })
        .await;
    }
    for (table, id, record_id) in [("countries", "TR", &country), ("rates", "TR|2024", &rate)] {
        shop.mends(table, id, async || {
            let path = format!("/api/v1/records/{table}/{record_id}/resync");
            let (status, answer) = walferry.post_json(&path, None).await;
            assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
        })
        .await;
        let (_, record) = walferry.get_json(&format!("/api/v1/records/{table}/{record_id}")).await;
        assert_eq!(record["differs"], false, "{record}");
    }
    let targets = format!(
        "select count(*) from walferry.audit where action = 'resync' and result = 'done'
         and affected = 1 and (target, role) in (('countries {country}', 'terminal'),
            ('rates {rate}', 'terminal'), ('countries {country}', 'admin'), ('rates {rate}', 'admin'))"
    );
    assert_eq!(shop.scene.number(&targets).await, 7);

    let stranger = "00000000-0000-4000-8000-000000000000";
    shop.says(&["resync", "countries", stranger], 1, "give the row's key").await;
    shop.says(&["resync", "rates", "TR"], 2, "the values of country, year").await;
    shop.says(&["resync", "rates", "TR|x"], 2, "is not a key of table rates").await;
    shop.says(&["resync", "bicycles", "TR"], 2, "there is no table bicycles").await;
    let path = format!("/api/v1/records/countries/{stranger}/resync");
    let (status, answer) = walferry.post_json(&path, None).await;
    assert_eq!((status, &answer["code"]), (409, &"unknown_key".into()), "{answer}");
    let failed = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    assert_eq!(shop.scene.number(failed).await, 0);
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_missing_is_said_to_be_missing() {
    const ID: &str = "c0000000-0000-4000-8000-000000000001";
    let bed = TestBed::new("missing").await;
    bed.migrate().await;
    let server = Server::start_at(&bed.database_url()).await;
    let path = format!("/api/v1/records/listings/{ID}");
    assert_eq!(server.get(&path).await.status(), 200);
    let (code, output) = bed.walferry_once(&["resync", "listings", "7"], SOON).await;
    assert_eq!(code, 2, "{output}");
    assert!(output.contains(r#""7" is not a key of table listings"#), "{output}");

    bed.sql.run("drop table categories cascade").await;
    let missing = "table public.categories does not exist";
    for (method, path) in [(Method::GET, path.clone()), (Method::POST, format!("{path}/resync"))] {
        let detail = server.refuses(method, &path, 503, "table_missing").await;
        assert!(detail.contains(missing), "{detail}");
    }
    let (code, output) = bed.walferry_once(&["resync", "listings", ID], SOON).await;
    assert_eq!(code, 3, "{output}");
    assert!(output.contains(missing), "{output}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_the_same_document_at_the_terminal_and_over_http() {
    let scene = Scene::unwitnessed("job_document").await;
    let mut walferry = scene.ready().await;
    scene
        .sql(
            "insert into profiles (id, username, full_name, email, phone)
             values ('a0000000-0000-4000-8000-000000000001', 'ann', 'Ann', 'canary@example.org', '1');
             update profiles set rating = 4.5, email = 'other-canary@example.org';
             update profiles set full_name = repeat('x', 70000);
             delete from profiles",
        )
        .await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(SOON, "all are indexed", async || scene.number(completed).await == 4).await;
    scene
        .sql(
            "insert into elasticsearch_sync_queue
                 (table_name, record_id, operation, status, change_data, error_message, note)
             values ('listings', 'a0000000-0000-4000-8000-000000000001', 'UPDATE', 'failed',
                 '{\"old\": null, \"new\": {\"price\": 12345678901234567890.10}}',
                 'refused', 'a note')",
        )
        .await;
    let rows =
        scene.bed.sql.query("select id from elasticsearch_sync_queue order by id", &[]).await;
    let ids: Vec<i64> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(ids.len(), 5);
    let mut notes = 0;
    for id in ids {
        let path = format!("/api/v1/queue/jobs/{id}");
        let (status, over_http) = walferry.http_get(&path).await.unwrap();
        assert_eq!(status, 200, "{over_http}");
        let (code, output) =
            scene.bed.walferry_once(&["job", &id.to_string(), "--json"], SOON).await;
        assert_eq!(code, 0, "{output}");
        let at_terminal = output.lines().find(|line| line.starts_with('{')).unwrap();
        assert_eq!(at_terminal, over_http);
        assert!(!over_http.contains("canary"), "{over_http}");
        notes += usize::from(is_documented(&over_http));
    }
    assert_eq!(notes, 1);
    walferry.stop().await;
}

/// The document has what each of the two has always had; whether it has a note.
fn is_documented(text: &str) -> bool {
    let document: Value = serde_json::from_str(text).unwrap();
    let members = [
        "id",
        "table_name",
        "operation",
        "record_id",
        "status",
        "created_at",
        "started_at",
        "processed_at",
        "retry_count",
        "error_message",
        "commit_lsn",
        "xid",
        "stuck",
        "changes",
        "job",
        "timing",
        "notes",
        "actions",
    ];
    for member in members {
        assert!(document.get(member).is_some(), "{member} is not in {document}");
    }
    for member in ["ordinal", "next_attempt_at", "epoch", "id", "status"] {
        assert_eq!(document["job"].get(member), document.get(member), "{document}");
    }
    document["note"] == "a note" && document["job"]["note"] == "a note"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_and_a_verification_know_keys_by_their_json() {
    let definition = DEFINITION.replace("rates", "moments");
    let shop = Shop {
        scene: Scene::unwitnessed("json_keys").await,
        definition: new_file("definition", &definition),
    };
    shop.scene
        .sql(
            "create table countries (code text primary key);
             create table moments (at timestamptz, day timestamp, sure boolean, primary key (at, day, sure));
             alter table countries replica identity full;
             alter table moments replica identity full;
             insert into moments select '2024-01-02 03:04:05.5+00', date '2024-01-01' + n, n % 2 = 0
             from generate_series(1, 20) n",
        )
        .await;
    let mut walferry = shop.walferry(&["run"]);
    walferry.wait_ready(SOON).await;
    let id = "2024-01-02T03:04:05.5+00:00|2024-01-03T00:00:00|true";
    shop.mends("moments", id, async || {
        shop.says(&["backfill", "moments"], 0, "").await;
    })
    .await;
    let keys = new_file("keys", "2024-01-02 03:04:05.5+00|2024-01-03|t\n");
    shop.mends("moments", id, async || {
        shop.says(&["backfill", "moments", "--keys", &keys], 0, "").await;
    })
    .await;
    shop.says(&["verify", "moments"], 0, "").await;
    walferry.stop().await;
}
