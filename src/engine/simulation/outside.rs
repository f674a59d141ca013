//! What a process finds around it, and outlives it: PostgreSQL, the queue table, Elasticsearch, the
//! clock, and the seeded generator of the schedule.

use tokio::time::Instant;

use super::index::{IndexModel, Write};
use super::queue::Queue;
use super::source::SourceModel;

/// A request that its sender has given up, and that Elasticsearch executes all the same.
#[derive(Debug)]
pub(super) struct LateRequest {
    pub(super) due_at: u64,
    pub(super) epoch: u64,
    pub(super) writes: Vec<Write>,
}

/// Everything but the process.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) source: SourceModel,
    pub(super) queue: Queue,
    pub(super) index: IndexModel,
    pub(super) late: Vec<LateRequest>,
    /// Elasticsearch takes seconds for each request.
    pub(super) is_slow: bool,
    /// Requests and answers get lost, and documents are refused for a while.
    pub(super) is_lossy: bool,
    /// More WAL than this may not be unconfirmed.
    pub(super) unconfirmed_max: u64,
    /// Recorded changes were acknowledged before they were settled.
    pub(super) guard_was_on: bool,
    /// So many changes are known to have been settled before they were acknowledged.
    pub(super) acknowledged_count: usize,
    /// Jobs that were parked, and fan-outs that a later run went on with.
    pub(super) parked: u64,
    pub(super) resumed: u64,
    pub(super) rng: fastrand::Rng,
    /// Milliseconds since the schedule began.
    pub(super) now: u64,
    base: Instant,
    /// The trace, if it is kept.
    trace: Option<Vec<String>>,
}

impl Outside {
    pub(super) fn new(seed: u64, is_traced: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let source = SourceModel::new();
        let queue = Queue::new(source.confirmed);
        // Without late requests a document needs no tombstone.
        let tombstones_for = if rng.bool() { 0 } else { 60_000 };
        let index = IndexModel::new(tombstones_for);
        let trace = is_traced.then(Vec::new);
        let unconfirmed_max = if rng.bool() { 700 } else { u64::MAX };
        Self {
            source,
            queue,
            index,
            late: Vec::new(),
            is_slow: false,
            is_lossy: false,
            unconfirmed_max,
            guard_was_on: false,
            acknowledged_count: 0,
            parked: 0,
            resumed: 0,
            rng,
            now: 0,
            base: Instant::now(),
            trace,
        }
    }

    /// A moment as the product has it.
    pub(super) fn at(&self, milliseconds: u64) -> Instant {
        self.base + std::time::Duration::from_millis(milliseconds)
    }

    pub(super) fn instant(&self) -> Instant {
        self.at(self.now)
    }

    /// A moment of the product in milliseconds, rounded up.
    pub(super) fn milliseconds(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.base).as_micros().div_ceil(1000);
        u64::try_from(since).expect("a schedule takes minutes")
    }

    /// Whether requests that were given up may be executed.
    pub(super) fn has_late_requests(&self) -> bool {
        self.index.tombstones_for > 0
    }

    /// Adds a line to the trace.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>7} {}", self.now, line()));
        }
    }

    pub(super) fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// Executes one late request that is due.
    pub(super) fn execute_late(&mut self) -> bool {
        let now = self.now;
        let Some(at) = self.late.iter().position(|late| late.due_at <= now) else { return false };
        let LateRequest { epoch, writes, .. } = self.late.swap_remove(at);
        for write in writes {
            // Elasticsearch would take it, and show an older read of the row until the change that
            // made the newer one is indexed. No schedule has that.
            if self.index.version(write.row) == Some(write.version) {
                continue;
            }
            let status = self.index.apply(&self.source, now, epoch, write);
            self.note(|| format!("late {write:?}: {status}"));
        }
        true
    }
}
