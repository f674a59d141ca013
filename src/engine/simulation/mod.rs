//! Simulated schedules of a run: the tasks of the engine, faults and time, drawn from a seed.
//!
//! A schedule is deterministic: virtual time, one thread, and one seeded generator. It exercises the
//! engine's own decisions (`recorder`, `recorder::recording`, `recorder::stall`, `control`,
//! `feed::source::course`, `feed::render::{ahead, cache, plan}`, `sink::dispatch`, `ack`,
//! `checkpoint::{watermark, acknowledge}`, `supervisor::{sink_watch, retention_guard}`). PostgreSQL,
//! the queue table, Elasticsearch and the loops that wait are small models. What is promised:
//!
//! - No document goes back, and nothing older than a finished delete is ever applied. In the end
//!   every document is what its row says.
//! - Nothing at or below the acknowledged LSN is undone: every change has exactly one job, and it
//!   is settled, or recorded while the retention guard was on.
//! - A closed index holds up no other: its jobs are parked. A fan-out goes on where it was.
//! - Once faults end, every job is completed and the run is live within a bound of time.
//!
//! `WALFERRY_SEED=n` runs one schedule and prints its trace; `WALFERRY_SCHEDULES=n` runs n of them.
//!
//! Left out: requests that Elasticsearch executes after their sender has given them up, where they
//! are deletes of a dead process, or have the version of what is there already. Such a request may
//! hide a newer state of a row that was read ahead of the stream, until the stream has come there.
//!
//! Not here: what a document consists of, SQL, and connections.

mod begin;
mod claims;
mod fanout;
mod feed;
mod index;
mod oracle;
mod outside;
mod queue;
mod queued_job;
mod render;
mod run;
mod schedule;
mod sink;
mod source;
mod stream;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::time::Instant;

use crate::config::testing;
use schedule::Schedule;

/// Schedules of an ordinary run of the test.
const SCHEDULES: u64 = 20_000;
/// Lines of a trace that are printed.
const TRACE_LINES_MAX: usize = 400;

/// What happened in schedules: without it they would promise less.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    parked: u64,
    resumed: u64,
}

/// Whether a schedule keeps its promises; prints its trace if it does not, or if asked to.
fn keeps_its_promises(seed: u64, is_traced: bool, seen: &mut Seen) -> bool {
    let mut schedule = Schedule::new(seed, is_traced);
    let kept = catch_unwind(AssertUnwindSafe(|| schedule.run())).is_ok();
    seen.parked += schedule.outside.parked;
    seen.resumed += schedule.outside.resumed;
    let trace = schedule.outside.take_trace();
    for line in trace.iter().skip(trace.len().saturating_sub(TRACE_LINES_MAX)) {
        println!("{line}");
    }
    kept
}

#[test]
fn every_schedule_keeps_its_promises() {
    let mut seen = Seen::default();
    if let Some(seed) = testing::number("WALFERRY_SEED") {
        assert!(keeps_its_promises(seed, true, &mut seen), "WALFERRY_SEED={seed}");
        return;
    }
    let count = testing::number("WALFERRY_SCHEDULES").unwrap_or(SCHEDULES);
    let began = Instant::now();
    let failed: Vec<u64> =
        (0..count).filter(|seed| !keeps_its_promises(*seed, false, &mut seen)).collect();
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} schedules in {seconds:.1} s: {seen:?}");
    if let Some(seed) = failed.first() {
        keeps_its_promises(*seed, true, &mut seen);
        let first: Vec<&u64> = failed.iter().take(10).collect();
        panic!("{} of {count} schedules break a promise; WALFERRY_SEED is {first:?}", failed.len());
    }
    assert!(seen.parked > count / 100 && seen.resumed > count / 1000, "{seen:?}");
}
