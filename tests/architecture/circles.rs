//! No circle of files: if a file uses another's items, the other uses none of its, by whatever way.
//!
//! A module's own file may wire and hand on what stands in its folder, so its imports from there
//! are no edges; a name that it hands on counts for the file that defines it.

use std::collections::{BTreeMap, BTreeSet};

use super::module_path;
use super::source::{UsedPath, paths, tokens};

/// Which file uses items of which others, tests left out.
pub(super) fn edges(files: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeMap<Vec<String>, &str> =
        files.iter().map(|(file, _)| (module_path(file), file.as_str())).collect();
    let handed_on: BTreeMap<Vec<String>, Vec<UsedPath>> =
        files.iter().map(|(file, text)| (module_path(file), handed_on(text))).collect();
    let tests = test_files(files);
    let mut edges = BTreeMap::new();
    for (file, text) in files {
        let own = module_path(file);
        if own.is_empty() || tests.contains(&own) {
            continue;
        }
        let mut used = BTreeSet::new();
        for path in paths(&tokens(text)).iter().filter(|path| path.inline_depth == 0) {
            let Some(target) = absolute(&own, &path.segments, &modules) else { continue };
            let Some(module) = defining(target, &modules, &handed_on) else { continue };
            let is_within = module.len() > own.len() && module.starts_with(&own);
            if module != own && !module.is_empty() && !is_within {
                used.insert(modules[&module].to_owned());
            }
        }
        edges.insert(file.clone(), used);
    }
    edges
}

/// Modules that are declared under `#[cfg(test)]`.
fn test_files(files: &[(String, String)]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (file, text) in files {
        for declared in text.split("#[cfg(test)]\nmod ").skip(1) {
            let Some((name, _)) = declared.split_once(';') else { continue };
            if name.chars().all(|c| c == '_' || c.is_alphanumeric()) {
                let mut module = module_path(file);
                module.push(name.to_owned());
                found.insert(module);
            }
        }
    }
    found
}

/// The paths of every `pub use`.
fn handed_on(text: &str) -> Vec<UsedPath> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if tokens[at].text != "use"
            || at == 0
            || !["pub", ")"].contains(&tokens[at - 1].text.as_str())
        {
            continue;
        }
        let end = (at..tokens.len()).find(|end| tokens[*end].text == ";").unwrap_or(tokens.len());
        found.extend(paths(&tokens[at..end]));
    }
    found
}

/// A path of the file `own` as one from the crate's root; `None` if it leaves the crate.
fn absolute(
    own: &[String],
    segments: &[String],
    modules: &BTreeMap<Vec<String>, &str>,
) -> Option<Vec<String>> {
    match segments.first()?.as_str() {
        "crate" => Some(segments[1..].to_vec()),
        "self" => Some([own, &segments[1..]].concat()),
        "super" => {
            let ups = segments.iter().take_while(|segment| *segment == "super").count();
            let kept = own.len().checked_sub(ups)?;
            Some([&own[..kept], &segments[ups..]].concat())
        }
        _ => {
            let path = [own, segments].concat();
            modules.contains_key(&path[..=own.len()]).then_some(path)
        }
    }
}

/// The module that defines what `path` names: names that a module hands on are followed.
fn defining(
    mut path: Vec<String>,
    modules: &BTreeMap<Vec<String>, &str>,
    handed_on: &BTreeMap<Vec<String>, Vec<UsedPath>>,
) -> Option<Vec<String>> {
    for _ in 0..8 {
        let length = (0..=path.len()).rev().find(|n| modules.contains_key(&path[..*n]))?;
        let module = path[..length].to_vec();
        let Some(name) = path.get(length) else { return Some(module) };
        let from = handed_on
            .get(&module)
            .and_then(|paths| paths.iter().find(|path| path.segments.last() == Some(name)));
        let Some(from) = from.and_then(|from| absolute(&module, &from.segments, modules)) else {
            return Some(module);
        };
        if from == path {
            return Some(module);
        }
        path = from;
    }
    None
}

/// Each circle once, as the files on it.
pub(super) fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reaches = |from: &str, to: &str| {
        let mut open = vec![from];
        let mut seen = BTreeSet::new();
        while let Some(file) = open.pop() {
            for next in edges.get(file).into_iter().flatten() {
                if next == to {
                    return true;
                }
                if seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        false
    };
    let mut found: Vec<Vec<String>> = Vec::new();
    for file in edges.keys().filter(|file| reaches(file, file)) {
        if found.iter().any(|circle| circle.contains(file)) {
            continue;
        }
        let others = edges.keys().filter(|other| reaches(file, other) && reaches(other, file));
        found.push(others.cloned().collect());
    }
    found
}

/// Holds the circles of `files` against what is expected.
#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&[&str]]) {
    let files: Vec<(String, String)> =
        files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    assert_eq!(circles(&edges(&files)), expected, "{files:?}");
}

#[test]
fn no_files_use_each_other() {
    let files = super::sources();
    let edges = edges(&files);
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 300, "few imports were read");
    let circles: Vec<String> = circles(&edges).iter().map(|files| files.join(" ↔ ")).collect();
    assert!(circles.is_empty(), "files that use each other:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found_in_every_form() {
    check(&[("a/mod.rs", ""), ("a/b.rs", "use super::c::C;"), ("a/c.rs", "")], &[]);
    check(
        &[
            ("a/mod.rs", ""),
            ("a/b.rs", "use super::c::C;"),
            ("a/c.rs", "fn f() -> crate::a::b::B {}"),
        ],
        &[&["a/b.rs", "a/c.rs"]],
    );
    // A module may hand on what its folder defines; the name counts for the file that defines it.
    check(&[("a/mod.rs", "mod b; pub use b::B;"), ("a/b.rs", "use super::E;")], &[]);
    check(
        &[
            ("a/mod.rs", "mod b; mod c; pub use b::B;"),
            ("a/b.rs", "use super::c::C;"),
            ("a/c.rs", "use super::B;"),
        ],
        &[&["a/b.rs", "a/c.rs"]],
    );
    // Over three files, and through groups.
    check(
        &[
            ("a.rs", "use crate::{b::{B, other}, d};"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "use crate::a::A;"),
            ("d.rs", ""),
        ],
        &[&["a.rs", "b.rs", "c.rs"]],
    );
    // Tests may use what they like.
    check(
        &[("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }")],
        &[],
    );
    check(
        &[
            ("a/mod.rs", "#[cfg(test)]\nmod proof;\n"),
            ("a/proof.rs", "use crate::b::B;"),
            ("b.rs", "use crate::a::proof::P;"),
        ],
        &[],
    );
}
