//! Reads of records and jobs that the audit log has, each reader and target once a minute. Pure.
//!
//! Not here: writing them (`audit_log`).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::storage::audit::Actor;

/// Within this time a reader and a target are written once.
const WINDOW: Duration = Duration::from_secs(60);

/// Reads that are remembered; beyond it each read is written.
const REMEMBERED_MAX: usize = 4096;

/// The reads of a minute.
#[derive(Debug, Default)]
pub(in crate::api) struct Reads(HashMap<NotedRead, Instant>);

/// Who read what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::api) struct NotedRead {
    name: String,
    address: Option<String>,
    target: String,
}

impl NotedRead {
    pub(in crate::api) fn new(actor: &Actor, target: &str) -> Self {
        let Actor { name, address, .. } = actor;
        Self { name: name.clone(), address: address.clone(), target: target.to_owned() }
    }
}

impl Reads {
    /// Whether the audit log has the read already.
    pub(in crate::api) fn has(&self, read: &NotedRead, now: Instant) -> bool {
        self.0.get(read).is_some_and(|at| now.saturating_duration_since(*at) < WINDOW)
    }

    /// Remembers a read that was written.
    pub(in crate::api) fn add(&mut self, read: NotedRead, now: Instant) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, at| now.saturating_duration_since(*at) < WINDOW);
        }
        if self.0.len() < REMEMBERED_MAX {
            self.0.insert(read, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, target: &str) -> NotedRead {
        NotedRead { name: name.to_owned(), address: None, target: target.to_owned() }
    }

    #[test]
    fn a_read_is_new_again_after_a_minute_and_for_another_reader() {
        let mut reads = Reads::default();
        let now = Instant::now();
        reads.add(read("ann", "job 1"), now);
        assert!(reads.has(&read("ann", "job 1"), now + WINDOW / 2));
        assert!(!reads.has(&read("ann", "job 1"), now + WINDOW));
        assert!(!reads.has(&read("ann", "job 2"), now));
        assert!(!reads.has(&read("bob", "job 1"), now));
    }

    #[test]
    fn the_number_that_is_remembered_has_a_limit() {
        let mut reads = Reads::default();
        let now = Instant::now();
        for number in 0..10_000 {
            reads.add(read("ann", &number.to_string()), now);
        }
        assert_eq!(reads.0.len(), REMEMBERED_MAX);
        reads.add(read("ann", "another"), now + WINDOW);
        assert_eq!(reads.0.len(), 1);
    }
}
