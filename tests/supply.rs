//! What walferry is made of: the bill of materials is complete, and every licence is one that deny.toml
//! allows.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::contract::root;

/// The document that the image has.
fn bill() -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_sbom")).output().expect("it can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect("it can be read")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

#[test]
fn the_bill_of_materials_names_every_crate_with_licence_and_checksum() {
    let bill = bill();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let lock = read("Cargo.lock");
    let mut known = BTreeSet::from([text(&bill["metadata"]["component"]["bom-ref"])]);
    for one in list(&bill["components"]) {
        let (name, version) = (text(&one["name"]), text(&one["version"]));
        let sum = text(&one["hashes"][0]["content"]);
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"");
        let locked = lock.split(&entry).nth(1).and_then(|rest| rest.split("[[package]]").next());
        let locked = locked.unwrap_or_else(|| panic!("{name} {version} is not in Cargo.lock"));
        assert!(sum.len() == 64 && locked.contains(sum), "{one}");
        assert!(!text(&one["licenses"][0]["expression"]).is_empty(), "{one}");
        assert_eq!(text(&one["purl"]), format!("pkg:cargo/{name}@{version}"));
        assert!(known.insert(text(&one["bom-ref"])), "{name} is there twice");
    }
    for name in ["tokio", "rustls", "axum", "opentelemetry_sdk"] {
        assert!(known.iter().any(|one| one.starts_with(&format!("pkg:cargo/{name}@"))), "{name}");
    }
    let edges: BTreeMap<&str, &Vec<Value>> = list(&bill["dependencies"])
        .iter()
        .map(|one| (text(&one["ref"]), list(&one["dependsOn"])))
        .collect();
    assert_eq!(edges.keys().copied().collect::<BTreeSet<_>>(), known);
    let used: BTreeSet<&str> = edges.values().flat_map(|others| others.iter().map(text)).collect();
    assert_eq!(used.len() + 1, known.len(), "each crate is used by another one");
}

/// Whether an SPDX expression can be met with these licences.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (is_met, rest) = either(&words, allowed);
    assert!(rest.is_empty(), "{expression} does not read");
    is_met
}

fn either<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut is_met, mut rest) = both(words, allowed);
    while let ["OR", after @ ..] = rest {
        let (other, after) = both(after, allowed);
        is_met |= other;
        rest = after;
    }
    (is_met, rest)
}

fn both<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut is_met, mut rest) = one(words, allowed);
    while let ["AND", after @ ..] = rest {
        let (other, after) = one(after, allowed);
        is_met &= other;
        rest = after;
    }
    (is_met, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inside @ ..] => {
            let (is_met, rest) = either(inside, allowed);
            (is_met, rest.strip_prefix(&[")"]).expect("the parenthesis is closed"))
        }
        [licence, "WITH", exception, rest @ ..] => {
            (allowed.contains(&format!("{licence} WITH {exception}")), rest)
        }
        [licence, rest @ ..] => (allowed.contains(*licence), rest),
        [] => (false, words),
    }
}

#[test]
fn every_licence_is_one_that_is_allowed() {
    let rules = read("deny.toml");
    let listed = rules.split("allow = [").nth(1).and_then(|rest| rest.split(']').next());
    let allowed: BTreeSet<String> =
        listed.expect("a list").split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(allowed.contains("MIT"), "{allowed:?}");
    for (expression, is_met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("MIT AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(is_allowed(expression, &allowed), is_met, "{expression}");
    }
    for one in list(&bill()["components"]) {
        let expression = text(&one["licenses"][0]["expression"]);
        assert!(is_allowed(expression, &allowed), "{}: {expression}", one["bom-ref"]);
    }
}
