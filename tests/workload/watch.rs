//! A reader who must never see a document go back to an older state.
//!
//! Three things may only grow: a document's `_version`, the tick in its `view_count` (each write of
//! a row takes a new one), and the tick at the end of each embedded name, per embedded row.
//!
//! Not here: what the documents must be in the end (`oracle`).

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::universe::{LISTINGS, listing_id};
use crate::oracle::json::Json;
use crate::oracle::{Found, Indices};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Listings watched.
const WATCHED: usize = 60;

/// Looks until stopped; returns how often it looked and every step back that it saw.
pub(crate) async fn watch(indices: Indices, stop: CancellationToken) -> (usize, Vec<String>) {
    let every = LISTINGS as usize / WATCHED;
    let ids: Vec<String> = (0..LISTINGS).step_by(every).map(listing_id).collect();
    let (mut seen, mut problems, mut looks) = (HashMap::new(), Vec::new(), 0);
    while tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await.is_err() {
        for (id, found) in indices.present("listings", &ids).await {
            look(&mut seen, &mut problems, &id, &found);
        }
        looks += 1;
    }
    (looks, problems)
}

type Seen = HashMap<String, u64>;

fn look(seen: &mut Seen, problems: &mut Vec<String>, id: &str, found: &Found) {
    let source = &found.source;
    let mut grows = |what: String, now: u64| {
        let before = seen.insert(format!("{id} {what}"), now).unwrap_or(0);
        if now < before {
            problems.push(format!("listings/{id}: {what} went from {before} back to {now}"));
        }
    };
    grows("_version".to_owned(), found.version);
    if let Some(tick) = source.get("view_count").number() {
        grows("view_count".to_owned(), tick);
    }
    let seller = source.get("seller");
    if let Some(tick) = tick(seller.get("full_name")) {
        grows(format!("name of seller {}", seller.get("id").text()), tick);
    }
    let category = source.get("category");
    if let Some(tick) = tick(category.get("name")) {
        grows(format!("name of category {}", category.get("id").text()), tick);
    }
}

fn tick(name: &Json) -> Option<u64> {
    name.text().rsplit_once('#').and_then(|(_, tick)| tick.parse().ok())
}

#[test]
fn a_step_back_is_told() {
    let (mut seen, mut problems) = (HashMap::new(), Vec::new());
    let mut state = |version, source: &str| {
        look(&mut seen, &mut problems, "x", &Found { version, source: Json::parse(source) });
        problems.len()
    };
    assert_eq!(state(1, r#"{"view_count": 1, "seller": {"id": "a", "full_name": "n #5"}}"#), 0);
    assert_eq!(state(1, r#"{"view_count": 1, "seller": {"id": "b", "full_name": "n #3"}}"#), 0);
    assert_eq!(state(2, r#"{"view_count": 2, "seller": {"id": "a", "full_name": "n #4"}}"#), 1);
    assert_eq!(state(1, r#"{"view_count": 1}"#), 3);
}
