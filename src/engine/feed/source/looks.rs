//! How much of the time queries for due jobs may take. Pure; the caller supplies the time.
//!
//! Not here: the queries (`due`).

use std::time::Duration;

use tokio::time::Instant;

/// A search that finds nothing may take a twentieth of the time. It takes long where the index has many
/// entries of jobs that are done, which a long snapshot of another session keeps.
const PAUSE_PER_LOOK: u32 = 19;

/// When the next search for due jobs may begin. Pure.
#[derive(Debug, Default)]
pub(super) struct LookBudget {
    not_before: Option<Instant>,
}

impl LookBudget {
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|moment| now >= moment)
    }

    /// A search that ended now has found nothing.
    pub(super) fn found_nothing(&mut self, now: Instant, took: Duration) {
        self.not_before = Some(now + took * PAUSE_PER_LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_find_nothing_take_a_twentieth_of_the_time() {
        let start = Instant::now();
        let mut looks = LookBudget::default();
        assert!(looks.allows(start));
        let took = Duration::from_millis(800);
        looks.found_nothing(start + took, took);
        assert!(!looks.allows(start + took * 20 - Duration::from_millis(1)));
        assert!(looks.allows(start + took * 20));
    }
}
