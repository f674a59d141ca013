//! The papers for users say what the code does.
//!
//! What the code itself can state is written from it, between `<!-- generated: NAME -->` and
//! `<!-- end: NAME -->`. Tables whose words are a writer's are compared by their keys.
//!
//! `WALFERRY_BLESS=1 cargo test --locked --test integration papers` writes the generated sections.

mod permissions;
mod tables;

use std::collections::BTreeSet;
use std::path::Path;

use walferry::config::Role;
use walferry::telemetry::readiness::Component;

use crate::contract::{health_codes, is_blessed, problem_codes, root, rust_sources, source};

const README_LINES_MAX: usize = 100;
const COLUMNS_MAX: usize = 120;

const PAGES: [&str; 4] = ["configuration", "api", "operation", "permissions"];

/// A part of a page that is written from the code.
struct Section {
    file: &'static str,
    name: &'static str,
    text: fn() -> String,
}

const SECTIONS: [Section; 8] = [
    Section { file: "README.md", name: "keys", text: tables::keys },
    Section { file: "docs/configuration.md", name: "settings", text: tables::settings },
    Section { file: "docs/api.md", name: "routes", text: tables::routes },
    Section { file: "docs/api.md", name: "parameters", text: tables::parameters },
    Section { file: "docs/operation.md", name: "commands", text: tables::commands },
    Section { file: "docs/operation.md", name: "metrics", text: tables::metrics },
    Section { file: "docs/operation.md", name: "waits", text: tables::waits },
    Section { file: "docs/permissions.md", name: "roles", text: tables::roles },
];

impl Section {
    /// The page before the section, the section, and the page behind it.
    fn split<'a>(&self, page: &'a str) -> [&'a str; 3] {
        let begin = format!("<!-- generated: {} -->\n", self.name);
        let end = format!("<!-- end: {} -->\n", self.name);
        let found = page.find(&begin).zip(page.find(&end));
        let (begin, end) = match found {
            Some((at, end)) if at + begin.len() <= end => (at + begin.len(), end),
            _ => panic!("{} has no section {}", self.file, self.name),
        };
        let (before, rest) = page.split_at(begin);
        let (section, behind) = rest.split_at(end - begin);
        [before, section, behind]
    }

    /// What is wrong with the section in `page`.
    fn fault(&self, page: &str) -> Option<String> {
        let [_, written, _] = self.split(page);
        let expected = format!("\n{}\n", (self.text)());
        let differs = |(a, b): &(&str, &str)| a != b;
        let first = written.lines().zip(expected.lines()).find(differs);
        let (was, is) = first.unwrap_or(("its end", "another one"));
        (written != expected).then(|| {
            format!(
                "{}, section {}: {was:?} must be {is:?}; write it anew by \
                 WALFERRY_BLESS=1 cargo test --locked --test integration papers",
                self.file, self.name
            )
        })
    }

    fn written_anew(&self, page: &str) -> String {
        let [before, _, behind] = self.split(page);
        format!("{before}\n{}\n{behind}", (self.text)())
    }
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn page(name: &str) -> String {
    read(&format!("docs/{name}.md"))
}

/// The rows of the first table below a heading, cell by cell, without the marks of code.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let below = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_default();
    let lines = below.lines().skip_while(|line| !line.starts_with('|'));
    let table = lines.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| {
        let line = line.trim_matches('|').split(" | ");
        line.map(|cell| cell.trim().replace('`', "")).collect()
    };
    table.map(cells).collect()
}

/// The first `count` cells of each row, with a blank between them.
fn keys(page: &str, heading: &str, count: usize) -> BTreeSet<String> {
    let rows = rows(page, heading);
    let keys: BTreeSet<String> =
        rows.iter().map(|row| row[..count.min(row.len())].join(" ")).collect();
    assert_eq!(keys.len(), rows.len(), "a row of {heading:?} is there twice");
    keys
}

/// A table lists exactly what there is.
#[track_caller]
fn lists(name: &str, heading: &str, count: usize, expected: impl IntoIterator<Item = String>) {
    let expected: BTreeSet<String> = expected.into_iter().collect();
    let found = keys(&page(name), heading, count);
    let lacks: Vec<&String> = expected.difference(&found).collect();
    let extra: Vec<&String> = found.difference(&expected).collect();
    let is_same = lacks.is_empty() && extra.is_empty();
    assert!(is_same, "docs/{name}.md, {heading}: it lacks {lacks:?}, and {extra:?} do not exist");
}

#[test]
fn generated_sections_are_what_the_code_says() {
    for section in &SECTIONS {
        if is_blessed() {
            let text = section.written_anew(&read(section.file));
            std::fs::write(root().join(section.file), text).expect("the page can be written");
        }
        assert_eq!(section.fault(&read(section.file)), None);
    }
}

#[test]
fn a_section_that_differs_is_found() {
    for section in &SECTIONS {
        let whole = section.written_anew(&read(section.file));
        assert_eq!(section.fault(&whole), None);
        let [_, text, _] = section.split(&whole);
        for line in text.lines().filter(|line| line.starts_with("| `")) {
            let without = whole.replacen(&format!("{line}\n"), "", 1);
            assert!(section.fault(&without).is_some(), "{}: {line}", section.name);
        }
    }
}

#[test]
fn every_log_event_is_listed() {
    let lines: BTreeSet<_> =
        rust_sources().iter().flat_map(|text| source::log_lines(text)).collect();
    let events = lines.into_iter().map(|line| format!("{} {}", line.code, line.level));
    lists("operation", "Log events", 2, events);
}

#[test]
fn every_health_code_is_listed() {
    let codes = health_codes().into_iter();
    let word = |line: String| line.split(' ').next().unwrap_or_default().to_owned();
    lists("operation", "Health codes", 1, codes.map(word));
}

#[test]
fn every_component_is_listed() {
    let words = Component::ALL.iter().map(|component| component.as_str().to_owned());
    lists("operation", "Components", 1, words);
}

#[test]
fn every_problem_code_is_listed() {
    lists("api", "Errors", 1, problem_codes(&rust_sources()));
}

#[test]
fn every_role_is_listed() {
    lists(
        "permissions",
        "Roles of the HTTP API",
        1,
        Role::ALL.map(|role| role.as_str().to_owned()),
    );
}

#[test]
fn every_exit_code_is_listed() {
    let seen = read("tests/fixtures/contract/exit-codes.txt");
    let seen = seen.lines().filter_map(|line| line.rsplit(' ').next().map(str::to_owned));
    // A verification that finds something needs servers, and a second signal a running process.
    let others = ["4", "130", "143"].map(str::to_owned);
    lists("operation", "Exit codes", 1, seen.chain(others));
}

#[test]
fn a_table_that_lacks_a_row_is_found() {
    let page =
        "# P\n\n## A\n\nwords\n\n| a | b |\n| --- | --- |\n| `x` | 1 |\n| `y` | 2 |\n\n## B\n";
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(keys(page, "A", 1), set(&["x", "y"]));
    assert_eq!(keys(page, "A", 2), set(&["x 1", "y 2"]));
    assert_eq!(keys(page, "B", 1), set(&[]));
    assert_eq!(keys(&page.replace("| `y` | 2 |\n", ""), "A", 1), set(&["x"]));
}

/// What stands between `](` and `)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn every_link_leads_somewhere() {
    let pages = PAGES.iter().map(|name| format!("docs/{name}.md"));
    for file in pages.chain(["README.md".to_owned()]) {
        let text = read(&file);
        let folder = Path::new(&file).parent().unwrap_or(Path::new(""));
        for link in links(&text).filter(|link| !link.starts_with("http")) {
            let (target, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if target.is_empty() { Path::new(&file).to_owned() } else { folder.join(target) };
            let target = root().join(target);
            assert!(target.exists(), "{file}: {link} does not exist");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).expect("a page is text");
                let headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(headings.into_iter().any(|known| known == heading), "{file}: {link}");
            }
        }
    }
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let plain = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = plain.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn the_readme_is_short_and_names_every_page() {
    let readme = read("README.md");
    let lines = readme.lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines; {README_LINES_MAX} are the limit");
    for name in PAGES {
        assert!(readme.contains(&format!("(docs/{name}.md)")), "README.md does not name {name}.md");
    }
}

#[test]
fn only_rows_of_tables_are_longer_than_a_line() {
    for file in PAGES.map(|name| format!("docs/{name}.md")).into_iter().chain(["README.md".into()])
    {
        for (number, line) in read(&file).lines().enumerate() {
            let is_short = line.chars().count() <= COLUMNS_MAX || line.starts_with('|');
            assert!(is_short, "{file}: line {} is longer than {COLUMNS_MAX}", number + 1);
        }
    }
}
