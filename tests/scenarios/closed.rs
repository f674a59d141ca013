//! An index that stays closed: the others go on, its jobs wait for it, and follow once it opens.

use serde_json::json;

use super::{RECOVERY_MAX, ROWS, listings, mode_is_live};
use crate::scene::{Scene, get, until};
use crate::support::{Walferry, eventually};

const SMALL: [(&str, &str); 2] =
    [("WALFERRY_LIMITS_BULK_BYTES_MAX", "256KiB"), ("WALFERRY_LIMITS_ACTIONS_BYTES_MAX", "1MiB")];

const CLOSED: &str = "ai_suggestions";

impl Scene {
    async fn block(&self, on: bool) {
        let index = self.bed.index(&format!("{CLOSED}-000001"));
        let block = json!({ "index.blocks.write": on.then_some(true) });
        self.bed.elasticsearch.put_index_settings(&index, &block).await;
    }

    /// Jobs that wait for the closed index, by their sentence.
    async fn parked(&self) -> i64 {
        let index = self.bed.index(CLOSED);
        self.number(&format!(
            "select count(*) from elasticsearch_sync_queue where status = 'pending'
                and retry_count = 0 and error_message like 'waits for index {index}: %'"
        ))
        .await
    }

    /// Waits until this many jobs are parked, and none else is unfinished.
    async fn all_others_done(&self, parked: i64) {
        let unfinished = "select count(*) from elasticsearch_sync_queue
            where status in ('pending', 'processing')";
        eventually(RECOVERY_MAX, "the other jobs are done", async || {
            let found = self.parked().await;
            let unfinished = self.number(unfinished).await;
            if found == parked && unfinished == parked {
                Ok(())
            } else {
                Err(format!("{found} parked of {unfinished} unfinished; {parked} expected"))
            }
        })
        .await;
    }

    async fn indexed(&self, index: &str, count: u64) {
        let index = self.bed.index(index);
        eventually(RECOVERY_MAX, "the other indices go on", async || {
            match self.bed.elasticsearch.count(&index).await {
                found if found == count => Ok(()),
                found => Err(format!("{found} of {count}, {}", self.statuses().await)),
            }
        })
        .await;
    }

    /// Opens the index: everything follows.
    async fn opens(&self, mut walferry: Walferry) {
        self.block(false).await;
        self.settled(RECOVERY_MAX).await;
        self.assert_true().await;
        self.assert_no_attempt_lost("a closed index").await;
        walferry.stop().await;
    }
}

/// A scene whose first rows are indexed, and its walferry with small limits.
async fn loaded(name: &str) -> (Scene, Walferry) {
    let scene = Scene::new(name).await;
    scene.sql(ROWS).await;
    let mut walferry = scene.start_with(&SMALL);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    (scene, walferry)
}

#[tokio::test(flavor = "multi_thread")]
async fn live_mode_goes_on_while_jobs_wait_for_an_index() {
    let (scene, walferry) = loaded("waiting").await;
    scene.block(true).await;
    scene.sql(&listings(1, 3000)).await;
    scene.indexed("listings", 3000).await;
    scene.all_others_done(3000).await;
    mode_is_live(&walferry).await;
    // Later changes of the same documents wait with the earlier ones; others do not wait at all.
    scene.sql("update listings set price = 7 where title like 'İlan 1%'").await;
    scene.sql("delete from listings where title like 'İlan 2%'").await;
    scene.sql("update profiles set bio = 'yeni' where username = 'ayse'").await;
    let profiles = "select count(*) from elasticsearch_sync_queue
        where table_name = 'profiles' and status = 'completed'";
    until(RECOVERY_MAX, "a profile is indexed", async || scene.number(profiles).await == 1).await;
    scene.indexed("listings", 1889).await;
    mode_is_live(&walferry).await;
    let (_, health) = get(&walferry, "/api/v1/ai-suggestions/queue/health").await;
    let health = format!("{health:?}");
    assert!(health.contains("index_awaited"), "{health}");
    assert!(
        health.contains(&format!("jobs wait for index {}", scene.bed.index(CLOSED))),
        "{health}"
    );
    until(RECOVERY_MAX, "the metric names the index", async || {
        let Ok((_, metrics)) = walferry.http_get("/metrics").await else { return false };
        metrics.contains(&format!(
            r#"walferry_queue_parked_jobs{{index="{}"}}"#,
            scene.bed.index(CLOSED)
        ))
    })
    .await;
    assert!(!scene.statuses().await.contains("failed"), "{}", scene.statuses().await);
    scene.opens(walferry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_an_index_across_restarts() {
    let (scene, mut walferry) = loaded("waiting_on").await;
    scene.block(true).await;
    scene.sql(&listings(1, 2000)).await;
    scene.all_others_done(2000).await;
    walferry.stop().await;
    scene.sql(&listings(2001, 2500)).await;
    let mut walferry = scene.start_with(&SMALL);
    scene.indexed("listings", 2500).await;
    scene.all_others_done(2500).await;
    mode_is_live(&walferry).await;
    walferry.stop().await;
    // Opened while walferry is away: nothing tells of it but the index itself.
    scene.block(false).await;
    let walferry = scene.start_with(&SMALL);
    scene.opens(walferry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_run_names_the_index_that_jobs_wait_for() {
    let scene = Scene::new("waiting_once").await;
    scene.sql(ROWS).await;
    scene.once().await;
    scene.forget_witnessed().await;
    scene.block(true).await;
    scene.sql(&listings(1, 50)).await;
    let output = scene.command(&["run", "--once"], 3).await;
    let expected = format!("jobs wait for {}, which takes no documents", scene.bed.index(CLOSED));
    assert!(output.contains(&expected), "{output}");
    scene.indexed("listings", 50).await;
    assert_eq!(scene.parked().await, 50);
    scene.block(false).await;
    scene.once().await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.assert_no_attempt_lost("a closed index").await;
}

/// A TRUNCATE lists the documents of an index, which one that is gone cannot do.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_waits_for_a_missing_index_and_holds_up_no_other() {
    let scene = Scene::new("waiting_empty").await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 20)).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    scene.bed.elasticsearch.delete_index(&scene.bed.index(&format!("{CLOSED}-000001"))).await;
    scene.sql("truncate listings").await;
    scene.sql("update profiles set bio = 'yeni' where username = 'ayse'").await;
    scene.indexed("listings", 0).await;
    let profiles = "select count(*) from elasticsearch_sync_queue
        where table_name = 'profiles' and status = 'completed'";
    until(RECOVERY_MAX, "a profile is indexed", async || scene.number(profiles).await == 1).await;
    scene.all_others_done(1).await;
    let made = scene.bed.elasticsearch.indices(&scene.bed.index(CLOSED)).await;
    assert_eq!(made, Vec::<String>::new(), "no delete and no probe has made the index anew");
    walferry.stop().await;
}
