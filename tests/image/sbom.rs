//! Writes the bill of materials of walferry's image: a CycloneDX document in JSON, of every crate that
//! is linked into the binary, with its licence and the checksum of `Cargo.lock`.
//!
//! `cargo run --features sbom --bin sbom >walferry.cdx.json`, as Dockerfile does. No network. The same
//! sources give the same document.

#![expect(clippy::print_stdout, reason = "the document is its output")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::process::Command;

use serde_json::{Value, json};

/// The features of the image's binary.
const FEATURES: &str = "otlp";
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() -> Result<(), Box<dyn Error>> {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--features", FEATURES, "--filter-platform", TARGET])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let lock = std::fs::read_to_string(format!("{root}/Cargo.lock"))?;
    println!("{:#}", document(&metadata, &checksums(&lock)));
    Ok(())
}

/// The document of what the root package links.
fn document(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).map(|one| (text(&one["id"]), one)).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).map(|one| (text(&one["id"]), one)).collect();
    let root = text(&metadata["resolve"]["root"]);
    let mut linked = BTreeSet::from([root]);
    let mut left = vec![root];
    while let Some(id) = left.pop() {
        for other in links(nodes[id]) {
            if linked.insert(other) {
                left.push(other);
            }
        }
    }
    let reference = |id: &str| purl(packages[id]);
    let mut components: Vec<Value> = linked
        .iter()
        .filter(|id| **id != root)
        .map(|id| component(packages[id], "library", checksums))
        .collect();
    components.sort_by_key(|one| text(&one["bom-ref"]).to_owned());
    let mut dependencies: Vec<Value> = linked
        .iter()
        .map(|id| {
            let others: BTreeSet<String> = links(nodes[id]).map(reference).collect();
            json!({ "ref": reference(id), "dependsOn": others })
        })
        .collect();
    dependencies.sort_by_key(|one| text(&one["ref"]).to_owned());
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(packages[root], "application", checksums) },
        "components": components,
        "dependencies": dependencies,
    })
}

/// What a package links: its dependencies but for those of builds and of tests.
fn links(node: &Value) -> impl Iterator<Item = &str> {
    let is_linked = |one: &&Value| list(&one["dep_kinds"]).any(|kind| kind["kind"].is_null());
    list(&node["deps"]).filter(is_linked).map(|one| text(&one["pkg"]))
}

fn component(package: &Value, kind: &str, checksums: &BTreeMap<(String, String), String>) -> Value {
    let (name, version) = (text(&package["name"]), text(&package["version"]));
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": name,
        "version": version,
        "purl": purl(package),
        "licenses": [{ "expression": text(&package["license"]).replace('/', " OR ") }],
    });
    if let Some(sum) = checksums.get(&(name.to_owned(), version.to_owned())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    if let Some(url) = package["repository"].as_str() {
        component["externalReferences"] = json!([{ "type": "vcs", "url": url }]);
    }
    component
}

fn purl(package: &Value) -> String {
    format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"]))
}

/// The checksum of each package of `Cargo.lock`, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let entries = lock.split("[[package]]").skip(1);
    let value = |entry: &str, key: &str| {
        let line = entry.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|text| text.trim_matches('"').to_owned())
    };
    entries
        .filter_map(|entry| {
            let named = (value(entry, "name")?, value(entry, "version")?);
            Some((named, value(entry, "checksum")?))
        })
        .collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
