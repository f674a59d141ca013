//! The health of the queue, judged by its progress and not by its connections. Pure.
//!
//! Every issue comes with what a person can do about it.
//!
//! Not here: where the signals come from (`admin::figures`, `telemetry::readiness`).

mod code;
mod slot;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::figures::sample::{Counts, LockWait, Sample};
use crate::storage::queue::awaited::{AwaitedIndex, JOBS_MAX};
use crate::telemetry::readiness::{Component, Readiness, ReadinessReporter};
use crate::telemetry::waits::OngoingWait;
pub use code::{Code, HealthIssue};

/// A component may be away this long before it is more than a hiccup.
const DOWN_MAX: Duration = Duration::from_secs(10);
/// With unfinished jobs, something must settle within this.
const STALLED_MAX: Duration = Duration::from_secs(60);
/// Seconds that a change may be on its way.
const LATE: f64 = 60.0;
const VERY_LATE: f64 = 600.0;
/// Share of all jobs that may be failed.
const ERROR_RATE_MAX: f64 = 0.05;
const READ_ERRORS: &str =
    "read the errors (GET …/queue/jobs?status=failed), correct their cause, then retry";

/// The verdict, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthVerdict {
    Healthy,
    Degraded,
    Unhealthy,
}

impl HealthVerdict {
    /// Its word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What health is judged by.
#[derive(Clone, Debug)]
pub struct Signals<'a> {
    /// `Err`: why PostgreSQL does not answer.
    pub sample: Result<&'a Sample, &'a str>,
    pub readiness: &'a Readiness,
    /// Each component's time in its present state.
    pub age: fn(std::time::SystemTime) -> Duration,
    /// How long nothing has settled while there was something to settle.
    pub stalled: Duration,
    /// The waits of the pipeline that have lasted longer than their bounds.
    pub overdue: Vec<OngoingWait>,
}

/// The health of the queue. `issues`, `recommendations` and `details` belong together one by one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Health")]
pub struct QueueHealth {
    /// `healthy`, `degraded` or `unhealthy`.
    #[serde(rename = "status")]
    #[schemars(with = "String")]
    pub verdict: HealthVerdict,
    pub issues: Vec<String>,
    pub recommendations: Vec<String>,
    /// The issues for programs.
    pub details: Vec<HealthIssue>,
    pub stuck_jobs: i64,
    /// Failed jobs as a share of all jobs.
    pub error_rate: f64,
}

/// Judges the signals.
#[must_use]
pub fn judge(signals: &Signals<'_>) -> QueueHealth {
    let mut health = QueueHealth {
        verdict: HealthVerdict::Healthy,
        issues: Vec::new(),
        recommendations: Vec::new(),
        details: Vec::new(),
        stuck_jobs: 0,
        error_rate: 0.0,
    };
    let sample = match signals.sample {
        Ok(sample) => Some(sample),
        Err(reason) => {
            health.add(
                HealthVerdict::Unhealthy,
                Code::FiguresUnreadable.with([reason.into()]),
                format!("the queue's figures cannot be read: {reason}"),
                "see that PostgreSQL runs and can be reached; `walferry check` says what is wrong",
            );
            None
        }
    };
    health.components(signals, sample.is_some_and(|sample| !sample.indexing));
    if let Some(sample) = sample {
        health.jobs(sample, signals.stalled);
        health.lock_wait(sample.lock_wait.as_ref());
        sample.awaited.iter().for_each(|index| health.awaited_index(index));
        health.differences(sample.operation_figures.differences);
        health.slot(&sample.slot);
    }
    health.overdue(signals);
    health
}

/// Judges the queue without an instance's own signals: by its figures, and by whether its slot is
/// read.
#[must_use]
pub fn judge_figures(sample: &Sample) -> QueueHealth {
    let status = ReadinessReporter::new();
    Component::ALL.iter().for_each(|component| status.ok(*component, ""));
    let readiness = status.now();
    let age = |_| Duration::ZERO;
    let stalled = Duration::ZERO;
    let overdue = Vec::new();
    let signals = Signals { sample: Ok(sample), readiness: &readiness, age, stalled, overdue };
    let mut health = judge(&signals);
    if sample.slot.known().is_some_and(|slot| !slot.active) {
        health.add(
            HealthVerdict::Unhealthy,
            Code::NotRunning,
            "no session reads the slot: no walferry is running",
            "start `walferry run`",
        );
    }
    health
}

impl QueueHealth {
    /// Adds an issue.
    fn add(
        &mut self,
        verdict: HealthVerdict,
        detail: impl Into<HealthIssue>,
        issue: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.verdict = self.verdict.max(verdict);
        self.details.push(detail.into());
        self.issues.push(issue.into());
        self.recommendations.push(advice.into());
    }

    fn components(&mut self, signals: &Signals<'_>, halted: bool) {
        if signals.readiness.is_standby() {
            // Its components are down because another instance does the work.
            return self.add(
                HealthVerdict::Degraded,
                Code::Standby,
                "this instance stands by: another one reads the slot",
                "ask the other one; this one takes over when it ends",
            );
        }
        for (component, state) in signals.readiness.iter().filter(|(_, state)| !state.ok) {
            // An operator's stop is an issue of its own, with the jobs that wait.
            if halted && component == Component::Mode {
                continue;
            }
            let down = (signals.age)(state.since);
            let verdict =
                if down < DOWN_MAX { HealthVerdict::Degraded } else { HealthVerdict::Unhealthy };
            let issue = format!("{}: {}", component.as_str(), state.message);
            let detail = Code::from(component).with([state.message.as_str().into()]);
            self.add(verdict, detail, issue, advice(component));
        }
    }

    fn jobs(&mut self, sample: &Sample, stalled: Duration) {
        let counts = &sample.counts;
        let unfinished = counts.pending + counts.processing;
        self.stuck_jobs = counts.stuck;
        self.error_rate = share(counts.failed, counts.total);
        if !sample.indexing {
            let since = sample.chosen_at.as_deref().unwrap_or("an unknown moment");
            self.add(
                HealthVerdict::Degraded,
                Code::IndexingStopped.with([unfinished.into(), sample.chosen_at.clone().into()]),
                format!("indexing was stopped by an operator at {since}; {unfinished} jobs wait"),
                "start it again when it is time: POST …/queue/start, or `walferry start`",
            );
        } else if unfinished > 0 && stalled >= STALLED_MAX {
            self.add(
                HealthVerdict::Unhealthy,
                Code::NothingFinished.with([unfinished.into(), stalled.as_secs().into()]),
                format!(
                    "nothing has been finished for {} s, and {unfinished} jobs wait",
                    stalled.as_secs()
                ),
                "see GET /api/v1/health/detailed for what is down, and walferry's log",
            );
        }
        if counts.stuck > 0 {
            self.add(
                HealthVerdict::Degraded,
                Code::StuckJobs.with([counts.stuck.into()]),
                format!("{} jobs have been processing for more than 30 s", counts.stuck),
                "they are reset every 15 s; POST …/queue/retry-failed does it now",
            );
        }
        self.failed(counts);
        if let (Some(oldest), true) = (&sample.oldest_unfinished, sample.indexing)
            && oldest.age_seconds > LATE
        {
            let late = oldest.age_seconds > VERY_LATE;
            self.add(
                if late { HealthVerdict::Unhealthy } else { HealthVerdict::Degraded },
                Code::ChangesLate.with([unfinished.into(), oldest.age_seconds.round().into()]),
                format!(
                    "the oldest unfinished change was committed {:.0} s ago; {unfinished} wait",
                    oldest.age_seconds
                ),
                "if the number falls, wait; else see whether Elasticsearch is slow or refuses",
            );
        }
    }

    fn failed(&mut self, counts: &Counts) {
        if self.error_rate > ERROR_RATE_MAX {
            self.add(
                HealthVerdict::Degraded,
                Code::ErrorRateHigh.with([counts.failed.into(), counts.total.into()]),
                format!("{} of {} jobs failed", counts.failed, counts.total),
                READ_ERRORS,
            );
        } else if counts.failed > 0 {
            self.add(
                HealthVerdict::Degraded,
                Code::FailedJobs.with([counts.failed.into()]),
                format!("{} jobs failed: their documents are not as their rows", counts.failed),
                READ_ERRORS,
            );
        }
    }

    fn awaited_index(&mut self, index: &AwaitedIndex) {
        let AwaitedIndex { name, jobs } = index;
        let at_least = if *jobs < JOBS_MAX { "" } else { "at least " };
        self.add(
            HealthVerdict::Degraded,
            Code::IndexAwaited.with([name.as_str().into(), (*jobs).into()]),
            format!("{at_least}{jobs} jobs wait for index {name}, which takes no documents"),
            "see the index's settings and blocks, and its disk's free space; the jobs go on once it \
             takes documents",
        );
    }

    fn differences(&mut self, documents: u64) {
        if documents > 0 {
            self.add(
                HealthVerdict::Degraded,
                Code::DocumentsDiffer.with([documents.into()]),
                format!("{documents} documents differ from their rows"),
                "`walferry operations` names the verification; `walferry verify --repair` renders \
                 them anew",
            );
        }
    }

    fn lock_wait(&mut self, wait: Option<&LockWait>) {
        let Some(LockWait { pid, application, seconds }) = wait else { return };
        self.add(
            HealthVerdict::Degraded,
            Code::LockAwaited.with([
                (*pid).into(),
                application.clone().into(),
                seconds.round().into(),
            ]),
            format!(
                "process {pid} ({application}) holds a lock that walferry has waited {seconds:.0} s for"
            ),
            "see pg_stat_activity for what it does; end its transaction, or end it with \
             pg_terminate_backend",
        );
    }

    fn overdue(&mut self, signals: &Signals<'_>) {
        for wait in &signals.overdue {
            let description = wait.name.description();
            if !signals.readiness.is_ok(description.component) {
                continue;
            }
            let seconds = wait.lasted.as_secs();
            self.add(
                HealthVerdict::Degraded,
                Code::WaitOverdue.with([
                    description.name.into(),
                    description.waits_for.into(),
                    seconds.into(),
                ]),
                format!("walferry has waited {seconds} s for {}", description.waits_for),
                description.advice,
            );
        }
    }
}

/// What a person can do about a component.
#[must_use]
pub fn advice(component: Component) -> &'static str {
    match component {
        Component::Database => "see that PostgreSQL runs; `walferry check` says what is missing",
        Component::Slot => {
            "walferry tries again by itself; a standby waits for the running instance to end"
        }
        Component::Elasticsearch => {
            "see that Elasticsearch runs (GET /api/v1/elasticsearch/test-connection); \
             changes are captured meanwhile"
        }
        Component::Indices => "see the index's settings and blocks, and its disk's free space",
        Component::Load => "wait for the first load; its progress is in the log",
        Component::Mode => "wait; if it stays, see walferry's log",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share to four digits")]
fn share(part: i64, whole: i64) -> f64 {
    if whole <= 0 { 0.0 } else { (part as f64 / whole as f64 * 1e4).round() / 1e4 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::figures::sample::{Moment, Oldest, SlotFigures, SlotState};
    use crate::change::Lsn;
    use crate::storage::operation::OperationFigures;
    use crate::telemetry::waits::WaitName;

    fn sample() -> Sample {
        Sample {
            counts: Counts {
                total: 150,
                pending: 5,
                processing: 2,
                completed: 140,
                failed: 0,
                stuck: 0,
                processing_time_ms: 12.0,
                last_processed_at: None,
            },
            oldest: Oldest::default(),
            oldest_unfinished: None,
            indexing: true,
            chosen_at: None,
            settled: Lsn(0),
            newest_id: 150,
            ended_ids: Vec::new(),
            operations: Vec::new(),
            operation_figures: OperationFigures::default(),
            awaited: Vec::new(),
            lock_wait: None,
            slot: SlotState::Known(SlotFigures {
                active: true,
                wal_status: Some("reserved".to_owned()),
                retained_bytes: 10,
                lag_bytes: 0,
                safe_bytes: None,
            }),
        }
    }

    fn well() -> Readiness {
        let status = ReadinessReporter::new();
        Component::ALL.iter().for_each(|component| status.ok(*component, "well"));
        status.now()
    }

    fn judged(sample: &Sample, readiness: &Readiness, age: u64, stalled: u64) -> QueueHealth {
        let age = if age == 0 { |_| Duration::ZERO } else { |_| Duration::from_secs(60) };
        let stalled = Duration::from_secs(stalled);
        let overdue = Vec::new();
        judge(&Signals { sample: Ok(sample), readiness, age, stalled, overdue })
    }

    fn check(change: impl FnOnce(&mut Sample), stalled: u64, verdict: HealthVerdict, issue: &str) {
        let mut sample = sample();
        change(&mut sample);
        let health = judged(&sample, &well(), 0, stalled);
        assert_eq!(health.verdict, verdict, "{health:?}");
        assert_eq!(health.issues.len(), health.recommendations.len());
        assert_eq!(health.issues.len(), health.details.len());
        assert_eq!(
            health.issues.len(),
            usize::from(verdict != HealthVerdict::Healthy),
            "{health:?}"
        );
        assert!(health.issues.join("").contains(issue), "{health:?}");
    }

    #[test]
    fn each_signal_has_its_verdict() {
        use HealthVerdict::{Degraded, Healthy, Unhealthy};
        check(|_| {}, 0, Healthy, "");
        check(|_| {}, 61, Unhealthy, "nothing has been finished for 61 s");
        check(|s| (s.counts.pending, s.counts.processing) = (0, 0), 61, Healthy, "");
        check(|s| s.counts.stuck = 1, 0, Degraded, "1 jobs have been processing");
        check(|s| s.counts.failed = 1, 0, Degraded, "1 jobs failed");
        check(|s| s.counts.failed = 8, 0, Degraded, "8 of 150 jobs failed");
        check(|s| s.indexing = false, 900, Degraded, "stopped by an operator");
        let old = |age_seconds| Some(Moment { at: String::new(), age_seconds });
        check(|s| s.oldest_unfinished = old(61.0), 0, Degraded, "committed 61 s ago");
        check(|s| s.oldest_unfinished = old(601.0), 0, Unhealthy, "committed 601 s ago");
        let wait = LockWait { pid: 7, application: "psql".to_owned(), seconds: 9.0 };
        check(|s| s.lock_wait = Some(wait), 0, Degraded, "process 7 (psql) holds a lock");
        let awaited = |jobs| vec![AwaitedIndex { name: "listings".to_owned(), jobs }];
        check(|s| s.awaited = awaited(3), 0, Degraded, "3 jobs wait for index listings");
        check(|s| s.awaited = awaited(10_000), 0, Degraded, "at least 10000 jobs wait");
        check(|s| s.slot = SlotState::Missing, 0, Unhealthy, "does not exist");
        let slot = |s: &mut Sample, retained: i64, safe: i64| {
            let SlotState::Known(slot) = &mut s.slot else { return };
            (slot.retained_bytes, slot.safe_bytes) = (retained << 20, Some(safe << 20));
        };
        check(|s| slot(s, 10, 54), 0, Healthy, "");
        check(|s| slot(s, 40, 24), 0, Degraded, "24 MiB are left");
        check(|s| slot(s, 60, 4), 0, Unhealthy, "4 MiB are left");
        check(
            |s| {
                if let SlotState::Known(slot) = &mut s.slot {
                    slot.wal_status = Some("lost".to_owned());
                }
            },
            0,
            Unhealthy,
            "has lost WAL",
        );
    }

    #[test]
    fn the_error_rate_is_the_share_of_all_jobs() {
        let mut sample = sample();
        sample.counts.failed = 3;
        let health = judged(&sample, &well(), 0, 0);
        assert!((health.error_rate - 0.02).abs() < f64::EPSILON, "{health:?}");
    }

    #[test]
    fn a_component_that_stays_away_is_worse_than_a_hiccup() {
        let status = ReadinessReporter::new();
        Component::ALL.iter().for_each(|component| status.ok(*component, "well"));
        status.fault(Component::Elasticsearch, "connection refused");
        let readiness = status.now();
        let health = judged(&sample(), &readiness, 0, 0);
        assert_eq!(health.verdict, HealthVerdict::Degraded);
        assert_eq!(health.issues, ["elasticsearch: connection refused"]);
        let detail = serde_json::to_string(&health.details).unwrap();
        let expected =
            r#"[{"code":"elasticsearch_down","values":{"message":"connection refused"}}]"#;
        assert_eq!(detail, expected);
        assert_eq!(judged(&sample(), &readiness, 60, 0).verdict, HealthVerdict::Unhealthy);
    }

    #[test]
    fn a_standby_has_no_other_issue() {
        let status = ReadinessReporter::new();
        status.standby("standing by: another instance reads the slot");
        let health = judged(&sample(), &status.now(), 60, 0);
        assert_eq!(health.verdict, HealthVerdict::Degraded);
        assert_eq!(health.issues, ["this instance stands by: another one reads the slot"]);
    }

    #[test]
    fn without_figures_nothing_is_well() {
        let stalled = Duration::ZERO;
        let readiness = well();
        let sample = Err("PostgreSQL does not answer");
        let age = |_| Duration::ZERO;
        let overdue = Vec::new();
        let health = judge(&Signals { sample, readiness: &readiness, age, stalled, overdue });
        assert_eq!(health.verdict, HealthVerdict::Unhealthy);
    }

    #[test]
    fn a_wait_past_its_bound_is_an_issue_while_what_it_waits_for_is_up() {
        let wait = |name| OngoingWait {
            name,
            since: std::time::SystemTime::UNIX_EPOCH,
            lasted: Duration::from_secs(95),
        };
        let overdue = vec![wait(WaitName::Settle), wait(WaitName::Bulk)];
        let status = ReadinessReporter::new();
        Component::ALL.iter().for_each(|component| status.ok(*component, "well"));
        let sample = sample();
        let issues = |readiness: &Readiness| {
            let (age, stalled, overdue) = (|_| Duration::ZERO, Duration::ZERO, overdue.clone());
            judge(&Signals { sample: Ok(&sample), readiness, age, stalled, overdue }).issues
        };
        let settle = "walferry has waited 95 s for PostgreSQL to write the fate of jobs";
        let bulk = "walferry has waited 95 s for Elasticsearch to answer a bulk request";
        assert_eq!(issues(&status.now()), [settle, bulk]);
        status.fault(Component::Elasticsearch, "refused");
        assert_eq!(issues(&status.now()), ["elasticsearch: refused", settle]);
    }

    #[test]
    fn the_body_is_the_documented_one() {
        let health = judged(&sample(), &well(), 0, 0);
        let expected = concat!(
            r#"{"status":"healthy","issues":[],"recommendations":[],"details":[],"#,
            r#""stuckJobs":0,"errorRate":0.0}"#,
        );
        assert_eq!(serde_json::to_string(&health).unwrap(), expected);
    }

    #[test]
    fn a_slot_without_a_reader_is_an_issue_of_the_figures() {
        let mut sample = sample();
        assert_eq!(judge_figures(&sample).verdict, HealthVerdict::Healthy);
        if let SlotState::Known(slot) = &mut sample.slot {
            slot.active = false;
        }
        let health = judge_figures(&sample);
        assert_eq!(health.verdict, HealthVerdict::Unhealthy);
        assert_eq!(health.details, [HealthIssue::from(Code::NotRunning)]);
    }
}
