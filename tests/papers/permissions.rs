//! The statements of docs/permissions.md are enough: a role made by them prepares nothing and runs.

use std::time::Duration;

use crate::support::TestBed;

const LIMIT: Duration = Duration::from_secs(60);
const ROLE: &str = "papers_role";

/// The SQL below a heading of the page, for a role of the test's own.
fn statements(heading: &str) -> String {
    let page = super::page("permissions");
    let below = page.split(&format!("\n## {heading}\n")).nth(1).expect("the heading is there");
    let block = below.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next());
    let sql = block.expect("a block of SQL is there");
    sql.replace("to walferry", &format!("to {ROLE}"))
        .replace("role walferry", &format!("role {ROLE}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_of_the_page_can_run() {
    let bed = TestBed::new("papers").await;
    bed.sql.run(&statements("The role that runs walferry")).await;
    let (code, output) = bed.walferry_once(&["migrate", "--runtime-role", ROLE], LIMIT).await;
    assert_eq!(code, 0, "{output}");
    let url = bed.database_url().replace("postgres@", &format!("{ROLE}:secret@"));
    assert!(url.contains(ROLE), "{url}");
    for arguments in [&["check"][..], &["run", "--once"], &["maintain"]] {
        let mut child = bed.walferry(arguments).env("DATABASE_URL", &url).spawn();
        let code = child.wait_exit(LIMIT).await;
        assert_eq!(code, 0, "{arguments:?}: {}", child.output());
    }
}
