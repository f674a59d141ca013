//! The log: a stable code on every line, JSON off a terminal, and never a row's value.

use std::time::Duration;

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::scene::{Scene, until};
use crate::support::faults::{Fault, Faults};

/// Until the refused jobs are failed.
const LIMIT: Duration = Duration::from_secs(60);

/// The names of an object's members, of which none is there twice.
struct Members(BTreeSet<String>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    if let Some(twice) = names.replace(name) {
                        return Err(serde::de::Error::custom(format!("{twice} is there twice")));
                    }
                }
                Ok(Members(names))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A line of the log has its four members once, and no other one twice.
#[track_caller]
pub(crate) fn assert_members_once(line: &str) {
    let members: Members = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    for name in ["level", "message", "target", "timestamp"] {
        assert!(members.0.contains(name), "{name} is not in {line}");
    }
}

/// Values that stand in rows, in changes and in documents, and nowhere else.
const ROWS: &str = "
    insert into profiles (id, username, full_name, email, phone, bio)
    values ('a0000000-0000-4000-8000-000000000001', 'canaryname', 'Canaryfull', 'canary@mail.example',
            '+90555canary', 'canarybio');
    insert into categories (id, name, slug)
    values ('b0000000-0000-4000-8000-000000000001', 'Canarycategory', 'canaryslug');
    insert into listings (id, user_id, category_id, title, description, status, attributes)
    values ('c0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001',
            'b0000000-0000-4000-8000-000000000001', 'Canarytitle', 'canarytext', 'active',
            '{\"canarykey\": \"canaryvalue\"}')";

const CHANGES: &str = "
    update listings set title = 'Canarynew', price = 4711.13;
    update profiles set bio = 'canarynewbio', email = 'canary2@mail.example';
    insert into listings (user_id, category_id, title, description, status, attributes)
    values ('a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
            'Canarypoison', 'canarytext', 'active', '{\"canary\": \"\\u0000\"}');
    delete from listings where title = 'Canarynew'";

/// A reason that quotes what it could not parse, as Elasticsearch's do.
const REFUSED: &str = concat!(
    r#"{"error":{"type":"document_parsing_exception","reason":"failed to parse field [price] of type "#,
    r#"[long] in document with id '1'. Preview of field's value: 'canarypreview'"},"status":400}"#,
);

#[tokio::test(flavor = "multi_thread")]
async fn no_line_shows_a_row_and_each_has_its_code() {
    let scene = Scene::unwitnessed("canary").await;
    scene.sql(ROWS).await;
    let faults = Faults::before(scene.bed.servers.elasticsearch.url()).await;
    let launch = scene.bed.walferry(&["run"]).env("ELASTICSEARCH_URL", &faults.url);
    let launch = launch.env("WALFERRY_QUEUE_ATTEMPTS_MAX", "1").env("RUST_LOG", "trace");
    let mut walferry = launch.spawn();
    walferry.wait_ready(LIMIT).await;
    faults.always("/_bulk", Some(Fault::Answer(400, REFUSED)));
    for statement in CHANGES.split(';').filter(|statement| !statement.contains("u0000")) {
        scene.sql(statement).await;
    }
    let failed = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    until(LIMIT, "a job is refused", async || scene.number(failed).await >= 2).await;
    faults.always("/_bulk", Some(Fault::Answer(503, "")));
    scene
        .sql("update listings set title = 'Canarylast'; update profiles set bio = 'canarylast'")
        .await;
    walferry.wait_output("sink_down", LIMIT).await;
    faults.always("/_bulk", None);
    walferry.wait_output("sink_up", LIMIT).await;
    walferry.stop().await;
    let output = walferry.output();
    assert!(output.lines().count() > 10, "{output}");
    for line in output.lines() {
        let shown = line.to_lowercase().replace(&scene.bed.database, "");
        assert!(!shown.contains("canary") && !shown.contains("4711.13"), "{line}");
        assert_members_once(line);
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let ours = line["target"].as_str().is_some_and(|target| target.starts_with("walferry"));
        let level = line["level"].as_str().unwrap_or_default();
        if ours && ["INFO", "WARN", "ERROR"].contains(&level) {
            assert!(line["event"].is_string(), "{line}");
        }
    }
}
