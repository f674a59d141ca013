//! The admin page in a real browser: what people do with it, step by step.
//!
//! Two walks, one browser each: starting one costs more than looking at a dozen pages.
//!
//! Not here: the HTTP API by itself (`tests/api.rs`), the page's words and size (`api::page`).

mod login;
mod looks;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::scene::{Scene, until};
use crate::support::{Browser, Walferry};

const RECOVERY_MAX: Duration = Duration::from_secs(30);
const ENTER: &str = "\u{E007}";
const ESCAPE: &str = "\u{E00C}";

const ROWS: &str = "
    insert into profiles (id, username, full_name, email)
    values ('a0000000-0000-4000-8000-000000000001', 'ayse', 'Ayşe', 'a@example.com');
    insert into categories (id, name, slug)
    values ('b0000000-0000-4000-8000-000000000001', 'Elektronik', 'elektronik');";

/// Jobs of a table that the definition does not know: walferry fails them.
const FOREIGN: &str = "
    insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data)
    select 'bicycles', 'INSERT', ('d0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '{}'
    from generate_series(1, 3) n;";

const UNFINISHED: &str =
    "select count(*) from elasticsearch_sync_queue where status in ('pending', 'processing')";
const FAILED: &str = "select count(*) from elasticsearch_sync_queue where status = 'failed'";

fn listing(n: u32) -> String {
    format!("c0000000-0000-4000-8000-{n:012}")
}

fn listings(first: u32, last: u32) -> String {
    format!(
        "insert into listings (id, user_id, category_id, title, description, price, status)
         select ('c0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
                'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
                '<b>İlan</b> ' || n, 'açıklama', 10.50, 'active'
         from generate_series({first}, {last}) n;"
    )
}

/// A page before a running walferry.
struct Walk {
    scene: Scene,
    walferry: Walferry,
    browser: Browser,
}

impl Walk {
    async fn open(&self, place: &str) {
        self.browser.load(&self.walferry.url(&format!("/{place}"))).await;
    }

    async fn open_jobs(&self, place: &str) {
        self.open(place).await;
        self.browser.wait("document.querySelector('tr[data-job]')").await;
    }

    /// The column of the rows on show.
    async fn column(&self, name: &str) -> Vec<String> {
        let script = format!(
            "[...document.querySelectorAll('tr[data-job] .cell-{name}')].map((one) => one.innerText.trim())"
        );
        serde_json::from_value(self.browser.value(&script).await).unwrap()
    }

    async fn first_id(&self, condition: &str) -> i64 {
        let query = format!("select max(id) from elasticsearch_sync_queue where {condition}");
        self.scene.number(&query).await
    }

    async fn idle(&self) {
        until(RECOVERY_MAX, "nothing is unfinished", async || {
            self.scene.number(UNFINISHED).await == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_works_with_the_page() {
    let scene = Scene::unwitnessed("page").await;
    scene.sql(ROWS).await;
    let walferry = scene.ready().await;
    let walk = Walk { scene, walferry, browser: Browser::start().await };
    walk.browser.resize(1280, 900).await;
    nothing_yet(&walk).await;
    walk.scene.sql(&listings(1, 24)).await;
    walk.scene.sql(&format!("update listings set price = 11.25 where id = '{}'", listing(5))).await;
    walk.scene.sql(FOREIGN).await;
    walk.idle().await;

    cards_and_filters(&walk).await;
    pages_and_search(&walk).await;
    a_job_tells_what_changed(&walk).await;
    a_record_is_compared_and_mended(&walk).await;
    looks::assert_accessible(&walk).await;
    failed_jobs_are_retried_and_discarded(&walk).await;
    stopping_keeps_rows_in_place(&walk).await;
    clearing_needs_a_typed_word(&walk).await;
    the_keyboard_works(&walk).await;
    looks::assert_no_complaints(&walk).await;
    looks::assert_nothing_external(&walk).await;
    a_lost_server_is_told(walk).await;
}

async fn nothing_yet(walk: &Walk) {
    walk.open("").await;
    walk.browser.wait_text(".empty-title", "No jobs yet").await;
    walk.browser.wait("document.querySelector('[data-link=live]')").await;
    walk.browser.wait_text("[data-banner=open]", "Nobody is asked who they are").await;
    walk.browser.wait_text("[data-card=total] .card-count", "0").await;
}

async fn cards_and_filters(walk: &Walk) {
    walk.open_jobs("").await;
    let browser = &walk.browser;
    browser.wait_text("[data-card=total] .card-count", "28").await;
    for (card, count) in [("completed", 25), ("failed", 3)] {
        let selector = format!("[data-card={card}]");
        browser.wait_text(&format!("{selector} .card-count"), &count.to_string()).await;
        browser.click(&selector).await;
        browser.wait(&format!("location.hash === '#/?status={card}'")).await;
        browser.wait(&format!("document.querySelector('{selector}[aria-current]')")).await;
        let badges = "[...document.querySelectorAll('tr[data-job] .badge')]";
        let rows = count.min(20);
        browser
            .wait(&format!(
                "{badges}.length === {rows} \
                 && {badges}.every((one) => one.dataset.status === '{card}')"
            ))
            .await;
    }
    for card in ["pending", "processing", "stuck"] {
        browser.click(&format!("[data-card={card}]")).await;
        browser.wait(&format!("location.hash === '#/?status={card}'")).await;
        browser.wait_text(".empty-title", "No job matches these filters").await;
    }
    browser.click("[data-card=total]").await;
    browser.wait("location.hash === '#/'").await;
    // Every other filter, as it stands in a link that somebody shares.
    let failed = walk.first_id("status = 'failed'").await;
    for (filter, rows) in [
        ("table=bicycles", 3),
        ("operation=UPDATE", 1),
        ("error=NOT+in+the+definition", 3),
        (&format!("id={failed}"), 1),
        ("attempts_min=0&table=bicycles", 3),
        ("since=2001-01-01T00:00:00Z&table=bicycles", 3),
        (&format!("record_id={}", listing(5)), 2),
    ] {
        walk.open_jobs(&format!("#/?{filter}")).await;
        assert_eq!(walk.column("id").await.len(), rows, "{filter}");
        assert!(!browser.text(".chips").await.is_empty(), "{filter}");
    }
    walk.open("#/?until=2001-01-01T00%3A00%3A00Z").await;
    browser.wait_text(".empty-title", "No job matches").await;
    browser.click(".empty .act").await;
    browser.wait("document.querySelectorAll('tr[data-job]').length === 20").await;
}

async fn pages_and_search(walk: &Walk) {
    walk.open_jobs("").await;
    let browser = &walk.browser;
    let first = walk.column("id").await;
    browser.click("a[rel=next]").await;
    browser.wait("location.hash === '#/?page=2' && document.querySelectorAll('tr[data-job]').length === 8").await;
    assert!(walk.column("id").await.iter().all(|id| !first.contains(id)));
    browser.wait_text(".pager", "21–28 of 28").await;
    browser.press("/").await;
    browser.wait("document.activeElement?.id === 'search'").await;
    browser.press(&format!("{}{ENTER}", listing(7))).await;
    browser.wait("document.querySelectorAll('tr[data-job]').length === 1").await;
    assert_eq!(walk.column("record_id").await, [listing(7)]);
    let hash = browser.value("location.hash").await;
    assert_eq!(hash, Value::from(format!("#/?record_id={}", listing(7))));
    // What cannot be an id is refused by the server, and the page says why.
    walk.open("#/?record_id=ISTANBUL").await;
    browser.wait_text(".box.bad", "record_id").await;
}

async fn a_job_tells_what_changed(walk: &Walk) {
    let browser = &walk.browser;
    walk.open_jobs(&format!("#/?record_id={}&operation=UPDATE", listing(5))).await;
    browser.click("tr[data-job] .row-link").await;
    browser.wait_text("h1", "Job").await;
    browser.wait_text(".diff tr.changed", "price").await;
    let changed = browser.text(".diff tr.changed").await;
    assert!(changed.contains("11.25"), "{changed}");
    let disabled = browser.value("document.querySelector('[data-act=retry-job]').title").await;
    assert!(disabled.as_str().unwrap().contains("Only a failed job"), "{disabled}");
}

async fn a_record_is_compared_and_mended(walk: &Walk) {
    let browser = &walk.browser;
    let id = listing(5);
    browser.click(".row a.act").await;
    browser.wait("document.querySelector('[data-verdict=same]')").await;
    let row = browser.text("[data-panel=row]").await;
    assert!(row.contains("<b>İlan</b> 5") && row.contains("11.25"), "{row}");
    // Somebody tampers with the document.
    let index = walk.scene.bed.index("listings-000001");
    let path = format!("/{index}/_doc/{id}");
    walk.scene.bed.elasticsearch.request(Method::DELETE, &path, None).await;
    browser.click(".row button.act:not(.main)").await;
    browser.wait("document.querySelector('[data-verdict=differs]')").await;
    browser.click("[data-act=resync]").await;
    browser.wait_text(".notice.good", "re-sync is under way").await;
    browser.wait("document.querySelector('[data-verdict=same]')").await;
    browser.wait("document.querySelectorAll('tr[data-job]').length === 3").await;
    walk.open(&format!("#/records/listings/{}", listing(999_999))).await;
    browser.wait_text("[data-panel=row]", "There is no such row").await;
    walk.open(&format!("#/records/nothing/{id}")).await;
    browser.wait_text(".box.bad", "does not follow such a table").await;
}

async fn failed_jobs_are_retried_and_discarded(walk: &Walk) {
    let browser = &walk.browser;
    let first = walk.first_id("status = 'failed'").await;
    walk.open(&format!("#/jobs/{first}")).await;
    browser.click("[data-act=retry-job]:not([aria-disabled])").await;
    browser.wait_text(".notice.good", "is pending again").await;
    // The cause is not gone, so it fails again, and the page tells so by itself.
    until(RECOVERY_MAX, "it fails again", async || walk.scene.number(FAILED).await == 3).await;
    browser.wait("document.querySelector('main .badge[data-status=failed]')").await;
    browser.click("[data-act=discard-job]:not([aria-disabled])").await;
    browser.fill("dialog [name=reason]", "the table is not followed").await;
    browser.click("dialog [data-confirm]").await;
    browser.wait_text(".notice.good", "is discarded").await;
    assert_eq!(walk.scene.number(FAILED).await, 2);
    browser.click(".notice.good .act").await;
    browser.wait("document.querySelector('dialog [data-matched=\"1\"]')").await;
    browser.click("dialog [data-confirm]:not([disabled])").await;
    browser.wait_text(".notice.good", "1 job is failed again").await;
    assert_eq!(walk.scene.number(FAILED).await, 3);
    walk.scene.sql(&format!("delete from elasticsearch_sync_queue where id = {first}")).await;

    walk.open_jobs("#/?table=bicycles&status=failed").await;
    browser.wait_text("[data-act=retry]", "Retry 2 matching").await;
    browser.click("[data-act=retry]").await;
    browser.wait("document.querySelector('[data-matched=\"2\"]')").await;
    browser.wait_text("dialog .facts", "bicycles").await;
    // One fewer matches by the time of the click: nothing is done before it is confirmed again.
    let third = walk.first_id("status = 'failed'").await;
    walk.scene.sql(&format!("delete from elasticsearch_sync_queue where id = {third}")).await;
    browser.click("dialog [data-confirm]").await;
    browser.wait_text("dialog .box.warn", "from 2 to 1").await;
    browser.click("dialog [data-confirm]").await;
    browser.wait_text(".notice.good", "1 job is pending again").await;
    until(RECOVERY_MAX, "it fails again", async || walk.scene.number(FAILED).await == 1).await;

    walk.open_jobs("#/?status=failed").await;
    browser.wait_text("[data-act=discard]", "Discard 1 failed").await;
    browser.click("[data-act=discard]").await;
    browser.wait("document.querySelector('dialog[open] [data-confirm]')?.disabled").await;
    browser.press(ESCAPE).await;
    browser.wait("!document.querySelector('dialog')").await;
    assert_eq!(walk.scene.number(FAILED).await, 1);
}

async fn stopping_keeps_rows_in_place(walk: &Walk) {
    let browser = &walk.browser;
    walk.open_jobs("").await;
    browser.wait("document.querySelector('[data-link=live]')").await;
    browser.click("[data-act=stop]").await;
    browser.wait_text("dialog", "captured into the queue").await;
    browser.fill("dialog [name=reason]", "a mapping is replaced").await;
    browser.click("dialog [data-confirm]").await;
    browser.wait("document.querySelector('[data-banner=stopped]')").await;
    let before = walk.column("id").await;
    walk.scene.sql(&listings(31, 32)).await;
    browser.wait_text("[data-pill]", "2 new jobs").await;
    assert_eq!(walk.column("id").await, before, "no row moves by itself");
    browser.click("[data-pill]").await;
    browser
        .wait("document.querySelectorAll('tr[data-job] [data-status=pending]').length === 2")
        .await;
    browser.wait_text("[data-card=pending] .card-count", "2").await;
    looks::assert_turkish_issue(walk).await;
    browser.click("[data-banner=stopped] .act").await;
    browser.wait("!document.querySelector('[data-banner=stopped]')").await;
    browser.wait("!document.querySelector('tr[data-job] [data-status=pending]')").await;
    // Live updates can be halted: then nothing on the page changes.
    browser.run("document.activeElement?.blur()").await;
    browser.press("p").await;
    browser.wait("document.querySelector('[data-banner=paused]')").await;
    browser.press("p").await;
    browser.wait("document.querySelector('[data-link=live]')").await;
}

async fn clearing_needs_a_typed_word(walk: &Walk) {
    let browser = &walk.browser;
    walk.idle().await;
    walk.open_jobs("").await;
    browser.click("[data-act=clear]").await;
    browser.wait_text("dialog", "Deleted for good").await;
    assert_eq!(
        browser.value("document.querySelector('dialog [data-confirm]').disabled").await,
        true
    );
    browser.fill("dialog [name=typed]", "clear").await;
    browser.fill("dialog [name=reason]", "the walk is over").await;
    browser.click("dialog [data-confirm]:not([disabled])").await;
    browser.wait_text(".notice.good", "finished jobs are deleted").await;
    assert_eq!(walk.scene.number("select count(*) from elasticsearch_sync_queue").await, 0);
    walk.open("").await;
    browser.wait_text(".empty-title", "No jobs yet").await;
    walk.open("#/audit").await;
    browser.wait("document.querySelectorAll('tr[data-entry]').length > 5").await;
    let entries = browser.text("table").await;
    for action in ["clear", "stop", "start", "discard", "retry", "resync"] {
        assert!(entries.contains(action), "{action}: {entries}");
    }
    for reason in ["the table is not followed", "a mapping is replaced", "the walk is over"] {
        assert!(entries.contains(reason), "{reason}: {entries}");
    }
    walk.open("#/audit?action=discard&result=done").await;
    browser.wait("document.querySelectorAll('tr[data-entry]').length === 1").await;
    assert!(browser.text("table").await.contains("the table is not followed"));
    browser.fill("[name=actor]", "somebody").await;
    browser.click(".filters [type=submit]").await;
    browser.wait_text(".empty-title", "No entry matches").await;
    let hash = browser.value("location.hash").await;
    assert_eq!(hash, "#/audit?actor=somebody&action=discard&result=done");
}

async fn the_keyboard_works(walk: &Walk) {
    let browser = &walk.browser;
    walk.scene.sql(&listings(41, 43)).await;
    walk.idle().await;
    walk.open_jobs("").await;
    let ids = walk.column("id").await;
    browser.press("jjk").await;
    let focused = browser.value("document.activeElement.innerText").await;
    assert_eq!(focused, json!(ids[0]));
    browser.press("d").await;
    browser.wait_text("h1", &ids[0]).await;
    browser.press("?").await;
    browser.wait("document.querySelector('dialog kbd')").await;
    browser.press(ESCAPE).await;
    browser.wait("!document.querySelector('dialog')").await;
    browser.click(".settings > .act").await;
    browser.click("[name=keys]").await;
    browser.run("document.activeElement?.blur()").await;
    browser.press("?").await;
    assert_eq!(browser.value("document.querySelector('dialog')").await, Value::Null);
}

async fn a_lost_server_is_told(mut walk: Walk) {
    walk.open_jobs("").await;
    walk.browser.wait("document.querySelector('[data-link=live]')").await;
    walk.walferry.kill9();
    walk.browser.wait("document.querySelector('[data-link=down]')").await;
    walk.browser.wait_text("[data-banner=down]", "can’t be reached").await;
    assert_eq!(walk.column("id").await.len(), 3, "what was known stays");
}
