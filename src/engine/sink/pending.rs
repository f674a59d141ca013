//! Which documents are ready to be sent, and which must wait for their own verdict.
//!
//! One document is never twice in flight: while it is, later actions on it wait and collapse into
//! one (the last body, the highest version, all jobs and rooms). So do actions that are not yet
//! sent. Actions of different documents may overtake each other. Pure.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::HashMap;

use super::bulk::wire_size;
use crate::engine::document::id::{DocumentId, IndexId};
use crate::engine::feed::action::Action;

/// Every action between its arrival and its verdict, but for the bodies in flight.
#[derive(Debug)]
pub struct PendingActions {
    documents: HashMap<DocumentId, Place>,
    lanes: Vec<Lane>,
}

/// Where a document's newest action is.
#[derive(Debug)]
enum Place {
    /// In its lane, under this number.
    Ready(u64),
    /// In flight, with what has come since.
    Sent(Option<Box<Action>>),
}

/// The ready actions of one index. Numbers count up for ever; the front's is `first`.
#[derive(Debug, Default)]
struct Lane {
    ready: VecDeque<Action>,
    first: u64,
}

impl PendingActions {
    #[must_use]
    pub fn new(index_count: usize) -> Self {
        let lanes = std::iter::repeat_with(Lane::default).take(index_count).collect();
        Self { documents: HashMap::default(), lanes }
    }

    /// Documents without a verdict.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Actions ready in one index's lane.
    #[must_use]
    pub fn ready(&self, index: IndexId) -> usize {
        self.lanes[usize::from(index.0)].ready.len()
    }

    /// Takes in an action that is not older than any before it on the same document.
    pub fn push(&mut self, action: Action) {
        let lane = &mut self.lanes[usize::from(action.document.index.0)];
        match self.documents.entry(action.document.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Place::Ready(lane.push(action)));
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Place::Ready(number) => lane.collapse(*number, action),
                Place::Sent(Some(held)) => collapse(held, action),
                Place::Sent(held @ None) => *held = Some(Box::new(action)),
            },
        }
    }

    /// Moves ready actions of one index into `bulk`, oldest first, until the bulk has
    /// `actions_max` or would pass `bytes_max`; one action always fits an empty bulk.
    pub fn take(&mut self, index: IndexId, bulk: &mut Vec<Action>, room: &mut Room) {
        let lane = &mut self.lanes[usize::from(index.0)];
        while let Some(front) = lane.ready.front() {
            if !room.fits(wire_size(front), bulk.is_empty()) {
                return;
            }
            let action = lane.pop().expect("the lane has a front");
            let place = self.documents.get_mut(&action.document).expect("what is ready is known");
            *place = Place::Sent(None);
            bulk.push(action);
        }
    }

    /// The document has its verdict: what has come since is ready now.
    pub fn release(&mut self, document: &DocumentId) {
        let Some(Place::Sent(held)) = self.documents.get_mut(document) else {
            unreachable!("a verdict is on something in flight")
        };
        if let Some(action) = held.take() {
            let lane = &mut self.lanes[usize::from(document.index.0)];
            self.documents.insert(document.clone(), Place::Ready(lane.push(*action)));
        } else {
            self.documents.remove(document);
        }
    }

    /// An action comes back unsettled: it is ready again, together with what has come since.
    pub fn give_back(&mut self, mut action: Action) {
        self.absorb(&mut action);
        let lane = &mut self.lanes[usize::from(action.document.index.0)];
        let document = action.document.clone();
        self.documents.insert(document, Place::Ready(lane.push(action)));
    }

    /// Before an action is sent again: what has come since joins it.
    pub fn absorb(&mut self, action: &mut Action) {
        if let Some(Place::Sent(held)) = self.documents.get_mut(&action.document)
            && let Some(later) = held.take()
        {
            collapse(action, *later);
        }
    }
}

/// What a bulk has left to take.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub actions: usize,
    pub bytes: usize,
}

impl Room {
    fn fits(&mut self, size: usize, first: bool) -> bool {
        if !first && (self.actions == 0 || self.bytes < size) {
            return false;
        }
        self.actions = self.actions.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        true
    }
}

impl Lane {
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
        let at = usize::try_from(number - self.first).expect("a lane's length is a usize");
        collapse(&mut self.ready[at], later);
    }
}

/// The earlier action becomes the later one, and answers for both.
fn collapse(action: &mut Action, later: Action) {
    debug_assert_eq!(action.document, later.document, "one document collapses");
    action.body = later.body;
    action.version = action.version.max(later.version);
    action.jobs.extend(later.jobs);
    match (&mut action.room, later.room) {
        (Some(room), Some(more)) if Arc::ptr_eq(room.semaphore(), more.semaphore()) => {
            room.merge(more);
        }
        (room, more) => *room = more.or(room.take()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::engine::sink::testing::action;

    const ALL: Room = Room { actions: usize::MAX, bytes: usize::MAX };

    fn take(batch: &mut PendingActions, mut room: Room) -> Vec<Action> {
        let mut bulk = Vec::new();
        for index in 0..batch.lanes.len() {
            let index = IndexId(u16::try_from(index).unwrap());
            batch.take(index, &mut bulk, &mut room);
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
    fn what_comes_back_meets_what_has_come_since() {
        let mut batch = PendingActions::new(1);
        batch.push(action(0, "a", 5, Some("5")));
        let mut sent = take(&mut batch, ALL);
        batch.push(action(0, "a", 4, None));
        batch.give_back(sent.remove(0));
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
        let sent = take(&mut batch, Room { actions: 2, bytes: usize::MAX });
        assert_eq!(sent.len(), 2);
        for action in sent {
            batch.give_back(action);
        }
        assert_eq!(batch.ready(IndexId(0)), 3);
        assert_eq!(take(&mut batch, Room { actions: 9, bytes: 1 }).len(), 1);
        assert_eq!(take(&mut batch, ALL).len(), 3);
    }

    #[test]
    fn rooms_are_kept_until_the_verdict() {
        let rooms = Arc::new(Semaphore::new(10));
        let mut batch = PendingActions::new(1);
        for version in 1..=3 {
            let room = Arc::clone(&rooms).try_acquire_many_owned(2).unwrap();
            batch.push(Action { room: Some(room), ..action(0, "a", version, None) });
        }
        let sent = take(&mut batch, ALL);
        assert_eq!(rooms.available_permits(), 4);
        drop(sent);
        assert_eq!(rooms.available_permits(), 10);
    }
}
