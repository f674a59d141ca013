//! The actions without a verdict: ready to be sent, or waiting for an earlier action's verdict.
//! Pure.
//!
//! A document is never in flight twice: while it is in flight, later actions on it wait and
//! collapse into one (the last body, the highest version, all jobs and permits). Actions that are
//! not sent yet collapse too. Actions on different documents may be sent in another order than
//! they arrived.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use foldhash::HashMap;

use super::bulk::wire_size;
use crate::engine::document::id::{DocumentId, IndexId};
use crate::engine::feed::action::Action;

/// Every action between its arrival and its verdict, except the bodies in flight.
#[derive(Debug)]
pub struct PendingActions {
    documents: HashMap<DocumentId, DocumentState>,
    /// By index.
    queues: Vec<ReadyQueue>,
}

/// The state of a document that has an action without a verdict.
#[derive(Debug)]
enum DocumentState {
    /// Its action is in the queue of its index, under this number.
    Ready(u64),
    /// Its action is in flight; later actions have collapsed into this one.
    InFlight(Option<Box<Action>>),
}

/// The ready actions of one index, numbered in order of arrival; `first` is the front's number.
#[derive(Debug, Default)]
struct ReadyQueue {
    ready: VecDeque<Action>,
    first: u64,
}

impl PendingActions {
    #[must_use]
    pub fn new(index_count: usize) -> Self {
        let queues = std::iter::repeat_with(ReadyQueue::default).take(index_count).collect();
        Self { documents: HashMap::default(), queues }
    }

    /// Documents without a verdict.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether no action waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Ready actions of one index.
    #[must_use]
    pub fn ready(&self, index: IndexId) -> usize {
        self.queues[usize::from(index.0)].ready.len()
    }

    /// Whether an action on the document has no verdict yet.
    #[must_use]
    pub fn contains(&self, document: &DocumentId) -> bool {
        self.documents.contains_key(document)
    }

    /// Adds an action, which must not be older than any before it on the same document.
    pub fn push(&mut self, action: Action) {
        let queue = &mut self.queues[usize::from(action.document.index.0)];
        match self.documents.entry(action.document.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(DocumentState::Ready(queue.push(action)));
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                DocumentState::Ready(number) => queue.collapse(*number, action),
                DocumentState::InFlight(Some(later)) => collapse(later, action),
                DocumentState::InFlight(later @ None) => *later = Some(Box::new(action)),
            },
        }
    }

    /// Moves ready actions of one index into `bulk`, oldest first, until the bulk has
    /// `actions_max` or would pass `bytes_max`; one action always fits an empty bulk.
    pub fn take(&mut self, index: IndexId, bulk: &mut Vec<Action>, capacity: &mut BulkCapacity) {
        let queue = &mut self.queues[usize::from(index.0)];
        while let Some(front) = queue.ready.front() {
            if !capacity.reserve(wire_size(front), bulk.is_empty()) {
                return;
            }
            let action = queue.pop().expect("the queue has a front");
            let state = self.documents.get_mut(&action.document);
            *state.expect("each ready document has a state") = DocumentState::InFlight(None);
            bulk.push(action);
        }
    }

    /// Removes the ready actions of one index that may be parked.
    pub fn park(&mut self, index: IndexId) -> Vec<Action> {
        let queue = &mut self.queues[usize::from(index.0)];
        if !queue.ready.iter().any(Action::may_be_parked) {
            return Vec::new();
        }
        let mut parked = Vec::new();
        // The others are numbered anew.
        for action in std::mem::take(&mut queue.ready) {
            if action.may_be_parked() {
                self.documents.remove(&action.document);
                parked.push(action);
            } else {
                let document = action.document.clone();
                self.documents.insert(document, DocumentState::Ready(queue.push(action)));
            }
        }
        parked
    }

    /// Ends the flight of a document that has its verdict: a later action becomes ready.
    pub fn release(&mut self, document: &DocumentId) {
        let Some(DocumentState::InFlight(later)) = self.documents.get_mut(document) else {
            unreachable!("a verdict is on a document in flight")
        };
        if let Some(action) = later.take() {
            let queue = &mut self.queues[usize::from(document.index.0)];
            let number = queue.push(*action);
            self.documents.insert(document.clone(), DocumentState::Ready(number));
        } else {
            self.documents.remove(document);
        }
    }

    /// Makes an action without a verdict ready again, collapsed with a later one.
    pub fn requeue(&mut self, mut action: Action) {
        self.merge_later(&mut action);
        let queue = &mut self.queues[usize::from(action.document.index.0)];
        let document = action.document.clone();
        let number = queue.push(action);
        self.documents.insert(document, DocumentState::Ready(number));
    }

    /// Collapses a later action into one that is about to be sent again.
    pub fn merge_later(&mut self, action: &mut Action) {
        if let Some(DocumentState::InFlight(later)) = self.documents.get_mut(&action.document)
            && let Some(later) = later.take()
        {
            collapse(action, *later);
        }
    }
}

/// What a bulk request can still hold.
#[derive(Clone, Copy, Debug)]
pub struct BulkCapacity {
    pub actions: usize,
    pub bytes: usize,
}

impl BulkCapacity {
    /// Reserves space for an action; false if it does not fit. The first action always fits.
    fn reserve(&mut self, size: usize, first: bool) -> bool {
        if !first && (self.actions == 0 || self.bytes < size) {
            return false;
        }
        self.actions = self.actions.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        true
    }
}

impl ReadyQueue {
    fn push(&mut self, action: Action) -> u64 {
        self.ready.push_back(action);
        let behind = self.ready.len() - 1;
        self.first + u64::try_from(behind).expect("usize has 64 bits at most")
    }

    fn pop(&mut self) -> Option<Action> {
        let action = self.ready.pop_front()?;
        self.first += 1;
        Some(action)
    }

    fn collapse(&mut self, number: u64, later: Action) {
        let at = usize::try_from(number - self.first).expect("a queue's length is a usize");
        collapse(&mut self.ready[at], later);
    }
}

/// Replaces the earlier action by the later one, which settles the jobs of both.
fn collapse(action: &mut Action, later: Action) {
    debug_assert_eq!(action.document, later.document, "one document collapses");
    action.body = later.body;
    action.version = action.version.max(later.version);
    action.jobs.extend(later.jobs);
    match (&mut action.room, later.room) {
        (Some(room), Some(more)) => room.merge(more),
        (room, more) => *room = more.or(room.take()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::ack::memory::{Memory, MemoryPart};
    use crate::engine::feed::action::ActionRoom;
    use crate::engine::sink::testing::action;

    const ALL: BulkCapacity = BulkCapacity { actions: usize::MAX, bytes: usize::MAX };

    fn take(batch: &mut PendingActions, mut capacity: BulkCapacity) -> Vec<Action> {
        let mut bulk = Vec::new();
        for index in 0..batch.queues.len() {
            let index = IndexId(u16::try_from(index).unwrap());
            batch.take(index, &mut bulk, &mut capacity);
        }
        bulk
    }

    fn print(bulk: &[Action]) -> String {
        let one = |a: &Action| {
            let body = a.body.as_ref().map_or("-", |b| std::str::from_utf8(b).unwrap());
            format!(
                "{}/{}@{}={body}x{}",
                a.document.index.0,
                a.document.id,
                a.version,
                a.jobs.len()
            )
        };
        bulk.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_not_sent_collapses() {
        let mut batch = PendingActions::new(2);
        batch.push(action(0, "a", 1, Some("1")));
        batch.push(action(1, "a", 2, Some("2")));
        batch.push(action(0, "b", 3, Some("3")));
        batch.push(action(0, "a", 4, None));
        batch.push(action(0, "a", 4, Some("5")));
        assert_eq!(batch.len(), 3);
        assert_eq!(print(&take(&mut batch, ALL)), "0/a@4=5x3 0/b@3=3x1 1/a@2=2x1");
    }

    #[test]
    fn a_document_is_never_twice_in_flight() {
        let mut batch = PendingActions::new(1);
        batch.push(action(0, "a", 1, Some("1")));
        let sent = take(&mut batch, ALL);
        batch.push(action(0, "a", 2, Some("2")));
        batch.push(action(0, "b", 3, Some("3")));
        batch.push(action(0, "a", 4, None));
        assert_eq!(print(&take(&mut batch, ALL)), "0/b@3=3x1");
        batch.release(&sent[0].document);
        assert_eq!(print(&take(&mut batch, ALL)), "0/a@4=-x2");
        batch.release(&sent[0].document);
        assert_eq!(batch.len(), 1);
    }

    #[test]
    fn a_requeued_action_collapses_with_a_later_one() {
        let mut batch = PendingActions::new(1);
        batch.push(action(0, "a", 5, Some("5")));
        let mut sent = take(&mut batch, ALL);
        batch.push(action(0, "a", 4, None));
        batch.requeue(sent.remove(0));
        assert_eq!(print(&take(&mut batch, ALL)), "0/a@5=-x2");
        batch.release(&action(0, "a", 0, None).document);
        assert!(batch.is_empty());
    }

    #[test]
    fn a_bulk_is_full_by_count_or_bytes() {
        let mut batch = PendingActions::new(2);
        for id in ["a", "b", "c"] {
            batch.push(action(0, id, 1, Some(&"x".repeat(1000))));
        }
        batch.push(action(1, "d", 1, None));
        let sent = take(&mut batch, BulkCapacity { actions: 2, bytes: usize::MAX });
        assert_eq!(sent.len(), 2);
        for action in sent {
            batch.requeue(action);
        }
        assert_eq!(batch.ready(IndexId(0)), 3);
        assert_eq!(take(&mut batch, BulkCapacity { actions: 9, bytes: 1 }).len(), 1);
        assert_eq!(take(&mut batch, ALL).len(), 3);
    }

    #[test]
    fn permits_are_held_until_the_verdict() {
        let permits = Arc::new(Semaphore::new(10));
        let memory = Memory::default();
        let mut batch = PendingActions::new(1);
        for version in 1..=3 {
            let permit = Arc::clone(&permits).try_acquire_many_owned(2).unwrap();
            let room = ActionRoom::new(permit, memory.hold(MemoryPart::Actions, 50));
            batch.push(Action { room: Some(room), ..action(0, "a", version, None) });
        }
        let sent = take(&mut batch, ALL);
        assert_eq!(permits.available_permits(), 4);
        assert_eq!(memory.held(MemoryPart::Actions), 150);
        drop(sent);
        assert_eq!(permits.available_permits(), 10);
        assert_eq!(memory.held(MemoryPart::Actions), 0);
    }
}
