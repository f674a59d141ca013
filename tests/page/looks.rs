//! What holds for every page: axe finds nothing, nothing is asked from elsewhere.

use reqwest::Method;
use serde_json::{Value, json};

use super::{RECOVERY_MAX, Walk, listing};
use crate::scene::until;

const AXE: &str = include_str!("../vendor/axe/axe.min.js");

/// WCAG 2.2 A and AA, and what axe holds to be good practice.
const FIND: &str = "axe.run(document, { resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa',
    'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }).then((found) => found.violations.map(
    (one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 200)).join(' | ')}`))";

/// Each kind of page in each theme, language and width.
pub(super) async fn assert_accessible(walk: &Walk) {
    let failed = walk.first_id("status = 'failed'").await;
    operation_with_findings(walk).await;
    let places = [
        String::new(),
        "#/?status=failed&error=definition".to_owned(),
        "#/?table=nothing".to_owned(),
        format!("#/jobs/{failed}"),
        format!("#/records/listings/{}", listing(5)),
        "#/audit".to_owned(),
        "#/operations".to_owned(),
        "#/operations/1".to_owned(),
    ];
    for (width, height) in [(1280, 900), (390, 844)] {
        walk.browser.resize(width, height).await;
        for (theme, language) in [("light", "en"), ("light", "tr"), ("dark", "en"), ("dark", "tr")]
        {
            let kept = format!(
                "localStorage.setItem('walferry.theme', '{theme}');
                 localStorage.setItem('walferry.language', '{language}')"
            );
            walk.browser.run(&kept).await;
            walk.open_jobs("").await;
            walk.browser.run(AXE).await;
            assert_eq!(walk.browser.value("document.documentElement.lang").await, language);
            for place in &places {
                go(walk, place).await;
                assert_page(walk, &format!("{place} {theme} {language} {width}")).await;
            }
        }
    }
    walk.browser.run("localStorage.clear()").await;
    walk.browser.resize(1280, 900).await;
    dialogs(walk).await;
}

/// Operation 1: a verification that has found and repaired an orphan.
async fn operation_with_findings(walk: &Walk) {
    let bed = &walk.scene.bed;
    let path = format!("/{}/_doc/no-row", bed.index("categories"));
    bed.elasticsearch.request(Method::PUT, &path, Some(&json!({ "name": "x" }))).await;
    let body = json!({ "name": "categories", "repair": true });
    let (status, queued) = walk.walferry.post_json("/api/v1/operations/verify", Some(&body)).await;
    assert_eq!((status, &queued["ids"]), (200, &json!([1])), "{queued}");
    let repaired = "select coalesce(sum(repaired_count), 0)::bigint from walferry.operation";
    until(RECOVERY_MAX, "it is repaired", async || walk.scene.number(repaired).await == 1).await;
}

/// What is wrong is told in the page's language, with its figures.
pub(super) async fn assert_turkish_issue(walk: &Walk) {
    let browser = &walk.browser;
    let issue = "[data-issue=indexing_stopped]";
    browser.wait_text(issue, "Indexing was stopped by an operator; 2 jobs wait.").await;
    browser.run("localStorage.setItem('walferry.language', 'tr')").await;
    walk.open_jobs("").await;
    browser.wait_text(issue, "İndekslemeyi bir operatör durdurdu; 2 iş bekliyor.").await;
    browser.wait_text(issue, "Zamanı gelince yeniden başlatın.").await;
    browser.run("localStorage.clear()").await;
    walk.open_jobs("").await;
}

async fn dialogs(walk: &Walk) {
    walk.open_jobs("").await;
    walk.browser.run(AXE).await;
    for act in ["retry", "discard", "stop", "clear"] {
        walk.browser.click(&format!("[data-act={act}]:not([aria-disabled])")).await;
        walk.browser
            .wait("document.querySelector('dialog[open]') && !document.querySelector('dialog .loading')")
            .await;
        assert_page(walk, act).await;
        walk.browser.press(super::ESCAPE).await;
        walk.browser.wait("!document.querySelector('dialog')").await;
    }
}

/// To another place within the page; an empty one is where it is.
async fn go(walk: &Walk, place: &str) {
    if !place.is_empty() {
        let drawn = "requestAnimationFrame(() => requestAnimationFrame(() => turned(true)))";
        let turn = format!(
            "new Promise((turned) => {{
                addEventListener('hashchange', () => {drawn}, {{ once: true }});
                location.hash = {};
            }})",
            json!(place)
        );
        assert_eq!(walk.browser.promised(&turn).await, true);
    }
    walk.browser.wait("document.querySelector('h1') && !document.querySelector('.loading')").await;
}

async fn assert_page(walk: &Walk, what: &str) {
    assert_eq!(walk.browser.promised(FIND).await, json!([]), "{what}");
    let wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert_eq!(
        walk.browser.value(wide).await,
        Value::Bool(false),
        "{what} is wider than its window"
    );
}

/// Every request of the page so far went to its own server.
pub(super) async fn assert_nothing_external(walk: &Walk) {
    walk.open_jobs("").await;
    let script = "performance.getEntriesByType('resource').map((one) => one.name)
        .filter((name) => !name.startsWith(location.origin + '/'))";
    assert_eq!(walk.browser.value(script).await, json!([]));
}

/// The console has nothing to say but that the server refused what this test did wrongly.
pub(super) async fn assert_no_complaints(walk: &Walk) {
    let refused = "Failed to load resource: the server responded with a status of 4";
    let mut complaints = walk.browser.complaints().await;
    complaints.retain(|complaint| !complaint.contains(refused));
    assert_eq!(complaints, Vec::<String>::new());
}
