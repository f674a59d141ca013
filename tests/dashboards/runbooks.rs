//! A page for each alert, and each page whole.

use super::{NAMES, dashboard, panels, path, read, rules};
use crate::support::TestBed;

const SECTIONS: [&str; 5] = ["Meaning", "Impact", "Diagnosis", "Remedy", "Prevention"];

#[test]
fn every_alert_has_a_whole_page_and_a_dashboard() {
    let index = read("docs/runbooks/README.md");
    let uids = NAMES.map(|name| dashboard(name)["uid"].as_str().unwrap().to_owned());
    let rules = rules();
    assert!(rules.len() >= 20, "{rules:?}");
    for rule in &rules {
        let page = read(&rule.runbook);
        assert!(page.starts_with(&format!("# {}\n", rule.name)), "{}", rule.runbook);
        assert!(page.contains(&format!("Severity: {}.", rule.severity)), "{}", rule.runbook);
        for section in SECTIONS {
            let text = page.split(&format!("\n## {section}\n\n")).nth(1).unwrap_or_default();
            let text = text.split("\n## ").next().unwrap_or_default();
            assert!(text.trim().len() > 10, "{}: {section} is empty", rule.runbook);
        }
        assert!(index.contains(&format!("({}.md)", rule.name)), "{} is not listed", rule.name);
        let uid = rule.dashboard.strip_prefix("/d/").unwrap_or_default();
        assert!(uids.iter().any(|known| known == uid), "{}: {}", rule.name, rule.dashboard);
    }
    let pages = std::fs::read_dir(path("docs/runbooks")).unwrap().count();
    assert_eq!(pages, rules.len() + 1, "a page without its alert");
}

#[test]
fn pages_that_panels_and_pages_name_exist() {
    for name in NAMES {
        for panel in panels(&dashboard(name)) {
            let description = panel["description"].as_str().unwrap_or_default();
            if let Some((_, page)) = description.split_once("Runbook: ") {
                assert!(path(page.trim()).exists(), "{}: {page}", panel["title"]);
            }
        }
    }
    let names: Vec<String> = rules().into_iter().map(|rule| rule.name).collect();
    for name in &names {
        let page = read(&format!("docs/runbooks/{name}.md"));
        let words = page.split(|c: char| !c.is_ascii_alphanumeric());
        for word in words.filter(|word| word.len() > 8 && word.starts_with("Walferry")) {
            assert!(names.iter().any(|known| known == word), "{name} names {word}");
        }
    }
}

/// What a page tells to type must run.
#[tokio::test]
async fn every_sql_of_the_pages_runs() {
    let bed = TestBed::new("runbooks").await;
    bed.migrate().await;
    bed.sql
        .run("do $$ begin create role walferry; exception when duplicate_object then end $$")
        .await;
    for rule in rules() {
        let page = read(&rule.runbook);
        for block in page.split("```sql\n").skip(1) {
            let sql = block.split("```").next().unwrap_or_default();
            bed.sql.run(sql).await;
        }
    }
}
