//! With tokens: nobody sees anything before, and a role that may not act sees why.

use std::time::Duration;

use super::FOREIGN;
use crate::scene::{Scene, until};
use crate::support::{Browser, TestBed};

const READY_MAX: Duration = Duration::from_secs(60);
const ONCE_MAX: Duration = Duration::from_secs(10);

/// A new token and its entry for the settings.
async fn token(bed: &TestBed, name: &str, role: &str) -> (String, String) {
    let create = ["token", "create", "--name", name, "--role", role];
    let (code, output) = bed.walferry_once(&create, ONCE_MAX).await;
    assert_eq!(code, 0, "{output}");
    let entry = format!("{name}:{role}:");
    let line = |wanted: &dyn Fn(&str) -> bool| output.lines().find(|line| wanted(line)).unwrap();
    let token = line(&|line| line.starts_with("wf_")).to_owned();
    (token, line(&|line| line.starts_with(&entry)).to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_page_and_its_role_says_what_it_may() {
    let scene = Scene::unwitnessed("page_login").await;
    let (viewer, entry) = token(&scene.bed, "nobet", "viewer").await;
    let launch = scene.bed.walferry(&["run"]).env("WALFERRY_API_TOKENS", &entry);
    let mut walferry = launch.env("WALFERRY_API_ENVIRONMENT", "production").spawn();
    walferry.wait_ready(READY_MAX).await;
    scene.sql(FOREIGN).await;
    let failed = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    until(READY_MAX, "they fail", async || scene.number(failed).await == 3).await;

    let browser = Browser::start().await;
    browser.resize(1280, 900).await;
    browser.load(&walferry.url("/")).await;
    browser.wait_text("[data-environment]", "production").await;
    browser.fill("[name=token]", "wf_wrong").await;
    browser.click("[type=submit]").await;
    browser.wait_text("#login-error", "not accepted").await;
    browser.fill("[name=token]", &viewer).await;
    browser.click("[type=submit]").await;
    browser.wait("document.querySelectorAll('tr[data-job]').length === 3").await;
    browser.wait("document.querySelector('[data-link=live]')").await;
    let open = browser.value("document.querySelector('[data-banner=open]')").await;
    assert_eq!(open, serde_json::Value::Null, "the page says that nobody is asked who they are");

    for act in ["retry", "discard", "stop", "clear"] {
        let button = format!("document.querySelector('[data-act={act}][aria-disabled=true]')");
        browser.wait(&format!("{button}?.title.includes('yours is “viewer”')")).await;
        browser.click(&format!("[data-act={act}]")).await;
        assert_eq!(
            browser.value("document.querySelector('dialog')").await,
            serde_json::Value::Null
        );
    }
    browser.run("location.hash = '#/audit'").await;
    browser.wait_text(".empty-title", "Not permitted").await;
    browser.click(".settings > .act").await;
    browser.wait_text(".who", "nobet, viewer").await;
    browser.click(".menu .act:last-of-type").await;
    browser.wait("document.querySelector('[name=token]')").await;
    assert_eq!(
        browser.value("sessionStorage.getItem('walferry.token')").await,
        serde_json::Value::Null
    );
}
