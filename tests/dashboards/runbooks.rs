//! A page for each alert, and each page whole.

use std::time::Duration;

use clap::Parser;
use walferry::command::Arguments;

use super::{NAMES, dashboard, panels, path, read, rules};
use crate::support::TestBed;

/// A command that only looks has an answer by then.
const SOON: Duration = Duration::from_secs(30);

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

/// A line of a shell as its words; `#` begins a remark.
fn words(line: &str) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if word.is_empty() => break,
            (None, ' ') => found.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty())),
            _ => word.push(c),
        }
    }
    found.extend(Some(word).filter(|word| !word.is_empty()));
    found
}

/// What stands between two marks.
fn between<'a>(page: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    page.split(open).skip(1).filter_map(|rest| rest.split(close).next()).collect()
}

fn pages() -> Vec<(String, String)> {
    let names = rules().into_iter().map(|rule| rule.runbook);
    names.map(|name| (name.clone(), read(&name))).collect()
}

/// The lines of a page that are typed into a shell.
fn typed(page: &str) -> Vec<Vec<String>> {
    let blocks = between(page, "```sh\n", "```");
    blocks.iter().flat_map(|block| block.lines().map(words)).collect()
}

/// What a page sets in italics stands on a dashboard, or on a button of the admin page.
#[test]
fn every_panel_and_button_of_the_pages_exists() {
    let titles: Vec<String> = NAMES
        .iter()
        .flat_map(|name| {
            let dashboard = dashboard(name);
            let title = |panel: &serde_json::Value| panel["title"].as_str().unwrap().to_owned();
            panels(&dashboard).into_iter().map(title).collect::<Vec<_>>()
        })
        .collect();
    let words = read("src/api/page/words.en.js");
    let mut count = 0;
    for (name, page) in pages() {
        let prose: String =
            page.split("```").step_by(2).flat_map(|p| p.split('`').step_by(2)).collect();
        for place in prose.split('*').skip(1).step_by(2) {
            let exists = titles.iter().any(|title| title == place) || words.contains(place);
            assert!(exists, "{name}: nothing is called {place}");
            count += 1;
        }
    }
    assert!(count > 3, "{count}");
}

#[test]
fn every_walferry_command_of_the_pages_is_one() {
    let mut count = 0;
    for (name, page) in pages() {
        let prose: String = page.split("```").step_by(2).collect();
        let named = between(&prose, "`walferry ", "`").into_iter();
        let named = named.map(|rest| words(&format!("walferry {rest}"))).chain(typed(&page));
        for mut command in named.filter(|command| command[0] == "walferry") {
            command.iter_mut().filter(|word| *word == "ID").for_each(|id| "1".clone_into(id));
            if let Err(error) = Arguments::try_parse_from(&command) {
                panic!("{name}: {command:?}: {error}");
            }
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

/// Commands that look are run beside a walferry that works: they succeed, and what is looked for in
/// an answer stands in it.
#[tokio::test(flavor = "multi_thread")]
async fn every_look_of_the_pages_finds_what_it_is_for() {
    let source = super::source();
    let bed = TestBed::new("looks").await;
    let mut walferry = bed.start().await;
    for (name, page) in pages() {
        for line in typed(&page) {
            let found = match (line[0].as_str(), line.iter().find(|w| w.contains(":3002/"))) {
                ("walferry", _) if line[1] == "healthcheck" => continue, // at the default port
                ("walferry", _) => {
                    let arguments: Vec<&str> = line.iter().skip(1).map(String::as_str).collect();
                    let (code, said) = bed.walferry_once(&arguments, SOON).await;
                    assert_eq!(code, 0, "{name}: {line:?}: {said}");
                    continue;
                }
                ("curl", Some(address)) => {
                    let (_, path) = address.split_once(":3002").expect("it was found");
                    let (status, text) = walferry.http_get(path).await.expect("walferry answers");
                    assert_eq!(status, 200, "{name}: {line:?}: {text}");
                    text
                }
                ("journalctl", _) => source.clone(),
                ("curl", None) if line.iter().any(|word| word.contains("ELASTICSEARCH:")) => {
                    continue;
                }
                _ => panic!("{name}: nobody tests {line:?}"),
            };
            if let Some(at) = line.iter().position(|word| word == "grep") {
                let sought = line[at + 1..].iter().find(|word| !word.starts_with('-')).unwrap();
                for word in sought.split('|') {
                    assert!(found.contains(word), "{name}: {line:?} finds no {word}");
                }
            }
        }
    }
    walferry.stop().await;
}
