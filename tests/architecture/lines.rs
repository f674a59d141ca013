//! No line over 120 columns in a file that people edit.
//!
//! Not here: rows of Markdown tables and blocks of code in Markdown, which can't be wrapped.

use std::path::{Path, PathBuf};

use super::check;

const COLUMNS_MAX: usize = 120;

/// Files that are not edited: those below a folder whose names end so.
struct Unedited {
    folder: &'static str,
    ending: &'static str,
}

const UNEDITED: &[Unedited] = &[
    // Copied from their packages.
    Unedited { folder: "src/api/page/vendor/", ending: "" },
    Unedited { folder: "tests/vendor/", ending: "" },
    // Written by Cargo, by dashboards/generate and by dashboards/draw.
    Unedited { folder: "", ending: "Cargo.lock" },
    Unedited { folder: "dashboards/", ending: ".json" },
    Unedited { folder: "docs/dashboards/", ending: ".svg" },
    // Captured from real servers.
    Unedited { folder: "tests/fixtures/", ending: ".hex" },
    Unedited { folder: "tests/fixtures/", ending: ".json" },
    Unedited { folder: "tests/fixtures/", ending: ".jwt" },
    // Written by the test of the contract, an item a line.
    Unedited { folder: "tests/fixtures/contract/", ending: ".txt" },
];

impl Unedited {
    fn covers(&self, file: &str) -> bool {
        file.starts_with(self.folder) && file.ends_with(self.ending)
    }
}

fn fits_the_columns(file: &str, text: &str) -> Vec<String> {
    if UNEDITED.iter().any(|unedited| unedited.covers(file)) {
        return Vec::new();
    }
    let is_markdown = file.ends_with(".md");
    let mut in_code = false;
    let mut breaches = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if is_markdown && line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let is_exempt = in_code || is_markdown && line.trim_start().starts_with('|');
        let columns = line.chars().count();
        if columns > COLUMNS_MAX && !is_exempt {
            let line = number + 1;
            breaches.push(format!("line {line}: {columns} columns; {COLUMNS_MAX} are the limit"));
        }
    }
    breaches
}

/// Every text file of the repository as (path, text); what `.gitignore` names is left out.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = std::fs::read_to_string(root.join(".gitignore")).expect("it can be read");
    let ignored: Vec<PathBuf> =
        ignored.lines().chain(["/.git"]).map(|name| root.join(name.trim_matches('/'))).collect();
    let mut folders = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the repository can be read") {
            let path = entry.expect("a folder of the repository can be read").path();
            if ignored.contains(&path) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let file = path.strip_prefix(root).expect("it is below the root");
                files.push((file.display().to_string(), text));
            }
        }
    }
    files
}

#[test]
fn no_line_that_people_edit_is_too_long() {
    let files = files();
    assert!(files.len() > 300, "{} files", files.len());
    let named = |(file, text): &(String, String)| -> Vec<String> {
        fits_the_columns(file, text).iter().map(|breach| format!("{file}: {breach}")).collect()
    };
    let breaches: Vec<String> = files.iter().flat_map(named).collect();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    for Unedited { folder, ending } in UNEDITED {
        let covered = files.iter().any(|(file, _)| Unedited { folder, ending }.covers(file));
        assert!(covered, "the exception {folder}*{ending} covers no file");
    }
}

#[test]
fn a_line_that_is_too_long_is_found() {
    let rule = fits_the_columns;
    let long = "x".repeat(121);
    check(rule, "a.rs", &"x".repeat(120), 0);
    check(rule, "a.rs", &"ş".repeat(120), 0);
    check(rule, "a.rs", &format!("{long}\n\n{long}\n"), 2);
    for file in ["demo", "a.sql", "src/api/page/a.js", "dashboards/a.toml", "tests/fixtures/a.sql"]
    {
        check(rule, file, &long, 1);
    }
    for file in ["Cargo.lock", "tests/vendor/a/b.js", "dashboards/a.json", "tests/fixtures/a/b.hex"]
    {
        check(rule, file, &long, 0);
    }
    check(rule, "a.md", &long, 1);
    check(rule, "a.md", &format!("| {long} |\n  | {long} |"), 0);
    check(rule, "a.rs", &format!("| {long} |"), 1);
    check(rule, "a.md", &format!("```sh\n{long}\n```\n{long}\n"), 1);
}
