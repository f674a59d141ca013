//! Doc comments name what exists: no name of a type stands where a word of a sentence belongs, and
//! the modules to which an opener refers are modules.
//!
//! Not here: links in brackets, which rustdoc checks, and paths of files (`map`).

use std::collections::BTreeSet;

use super::{module_path, sources};

/// The text of a doc comment's line, `///` or `//!`.
fn doc_line(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "))
}

/// Whether a name has two humps, as `LogThrottle` has: it cannot be a word.
fn is_camel_case(name: &str) -> bool {
    let has_hump = name
        .as_bytes()
        .windows(2)
        .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
    has_hump && name.starts_with(|c: char| c.is_ascii_uppercase())
}

/// The types that a file defines.
fn types_of(text: &str) -> impl Iterator<Item = &str> {
    const KEYWORDS: [&str; 4] = ["struct", "enum", "trait", "type"];
    let words = |line| -> Vec<&str> {
        str::split(line, |c: char| !c.is_alphanumeric() && c != '_').collect()
    };
    text.lines().filter(|line| doc_line(line).is_none()).filter_map(move |line| {
        let pairs = words(line);
        let found = pairs.windows(2).find(|pair| KEYWORDS.contains(&pair[0]));
        found.map(|pair| pair[1]).filter(|name| is_camel_case(name))
    })
}

/// Sentences of doc comments with a name of one of `types` outside backticks: what a renaming by
/// text leaves behind.
fn unquoted_types(types: &BTreeSet<&str>, text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut breaches = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(line) = doc_line(line) else { continue };
        in_code ^= line.trim_start().starts_with("```");
        let is_link_target = line.starts_with('[') && line.contains("]: ");
        if in_code || is_link_target {
            continue;
        }
        let outside = line.split('`').step_by(2);
        let words = outside.flat_map(|part| part.split(|c: char| !c.is_alphanumeric()));
        let named = words.filter(|word| types.contains(word));
        breaches.extend(named.map(|name| format!("line {}: {name} in a sentence", number + 1)));
    }
    breaches
}

/// The modules that the paragraph `Not here:` of an opener names: a path with `::`, or a name in
/// parentheses.
fn modules_not_here(text: &str) -> Vec<String> {
    let opener = text.lines().map_while(|line| line.strip_prefix("//!"));
    let opener: Vec<&str> = opener.map(str::trim).collect();
    let paragraphs = opener.split(|line| line.is_empty()).map(|lines| lines.join(" "));
    let excluded = paragraphs.filter_map(|text| Some(text.split_once("Not here: ")?.1.to_owned()));
    let mut found = Vec::new();
    for text in excluded {
        let mut depth = 0_usize;
        for (number, part) in text.split('`').enumerate() {
            if number % 2 == 0 {
                depth += part.matches('(').count();
                depth = depth.saturating_sub(part.matches(')').count());
            } else {
                let is_path = part.chars().all(|c| c.is_ascii_lowercase() || "_:".contains(c));
                if is_path && (depth > 0 || part.contains("::")) {
                    found.push(part.to_owned());
                }
            }
        }
    }
    found
}

/// The names of `text`'s paragraph `Not here:` that are no module seen from `own`: neither below it
/// nor below a module that contains it.
fn missing_modules(modules: &BTreeSet<Vec<String>>, own: &[String], text: &str) -> Vec<String> {
    let is_module = |name: &str| {
        let name = name.strip_prefix("walferry::").unwrap_or(name);
        let segments: Vec<String> = name.split("::").map(str::to_owned).collect();
        (0..=own.len()).any(|kept| modules.contains(&[&own[..kept], &segments].concat()))
    };
    modules_not_here(text).into_iter().filter(|name| !is_module(name)).collect()
}

/// Every module of the crate as the segments of its path.
fn modules(sources: &[(String, String)]) -> BTreeSet<Vec<String>> {
    sources.iter().map(|(file, _)| module_path(file)).collect()
}

#[test]
fn no_type_stands_in_a_sentence_without_backticks() {
    let sources = sources();
    let types: BTreeSet<&str> = sources.iter().flat_map(|(_, text)| types_of(text)).collect();
    assert!(types.len() > 100, "{} types", types.len());
    let breaches: Vec<String> = sources
        .iter()
        .flat_map(|(file, text)| {
            unquoted_types(&types, text).into_iter().map(move |b| format!("src/{file}: {b}"))
        })
        .collect();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_module_that_an_opener_refers_to_exists() {
    let sources = sources();
    let modules = modules(&sources);
    let named = sources.iter().flat_map(|(_, text)| modules_not_here(text)).count();
    assert!(named > 100, "{named} modules were read");
    let breaches: Vec<String> = sources
        .iter()
        .flat_map(|(file, text)| {
            let missing = missing_modules(&modules, &module_path(file), text).into_iter();
            missing.map(move |name| format!("src/{file}: there is no module {name}"))
        })
        .collect();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn a_type_in_a_sentence_is_found() {
    let code = "pub struct LogThrottle;\nenum Kind { A }\n/// A struct LikeThis.\n";
    let types: BTreeSet<&str> = types_of(code).collect();
    assert_eq!(types, BTreeSet::from(["LogThrottle"]));
    let count = |text| unquoted_types(&types, text).len();
    assert_eq!(count("/// LogThrottle a statement.\n    /// A LogThrottle.\n"), 2);
    assert_eq!(count("/// `LogThrottle` and [`LogThrottle::new`].\n// LogThrottle\n"), 0);
    assert_eq!(count("//! [`LogThrottle::new`]: crate::telemetry::LogThrottle::new\n"), 0);
    assert_eq!(count("//! ```text\n//! LogThrottle\n//! ```\n//! LogThrottle\n"), 1);
}

#[test]
fn an_opener_that_refers_to_no_module_is_found() {
    let file = |name: &str| (name.to_owned(), String::new());
    let modules = modules(&[file("a/mod.rs"), file("a/b/mod.rs"), file("a/b/c.rs"), file("d.rs")]);
    let own = module_path("a/b/c.rs");
    let missing = |text| missing_modules(&modules, &own, text);
    let text = "//! Not here: x (`c`, `b`), `b::c` and `walferry::d`, `e`,\n//! `f.g` (`h()`).\n";
    assert!(missing(text).is_empty(), "{:?}", missing(text));
    assert_eq!(
        missing("//! x (`e`)\n//!\n//! Not here: x (`e`,\n//! `d`), `b::e`.\n"),
        ["e", "b::e"]
    );
    assert!(missing("//! Not here: x (`d`).\n\n//! Not here: (`e`)\n").is_empty());
}
