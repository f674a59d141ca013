//! ARCHITECTURE.md and the table of invariants name files that exist, and stay short.

use std::path::Path;

use super::{HALLS, STAGES};

const MAP_LINES_MAX: usize = 200;

/// The paths that a text names in backticks: with a slash, and no character of code.
fn paths_of(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|name| name.contains('/') && !name.starts_with('/'))
        .filter(|name| name.chars().all(|c| c.is_alphanumeric() || "/_.-".contains(c)))
        .collect()
}

/// The paths of `text` that are neither in the repository nor below its `src`.
fn missing(text: &str) -> Vec<&str> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let exists = |name: &str| root.join(name).exists() || root.join("src").join(name).exists();
    paths_of(text).into_iter().filter(|name| !exists(name)).collect()
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_map_and_the_invariants_name_what_exists() {
    for name in ["ARCHITECTURE.md", "docs/invariants.md", "docs/security.md"] {
        let text = read(name);
        assert!(paths_of(&text).len() > 20, "{name}: few paths were read");
        assert!(missing(&text).is_empty(), "{name} names what is not there: {:?}", missing(&text));
    }
    assert_eq!(
        missing("`engine/sink/verdict.rs` `engine/nowhere.rs` `a / b` `x::y`"),
        ["engine/nowhere.rs"]
    );
}

#[test]
fn the_map_is_short_and_states_the_orders() {
    let map = read("ARCHITECTURE.md");
    assert!(
        map.lines().count() <= MAP_LINES_MAX,
        "ARCHITECTURE.md is longer than {MAP_LINES_MAX} lines"
    );
    for order in [HALLS, STAGES] {
        assert!(map.contains(&order.join(" ")), "ARCHITECTURE.md lists another order: {order:?}");
    }
}
