//! `walferry status` and `walferry job`: how the queue is, from a terminal.
//!
//! Read from the database, so it tells the truth whether an instance runs or not; what only a
//! running one knows (its connection to Elasticsearch) `GET /api/v1/health/detailed` tells.
//!
//! Not here: the figures (`admin::figures::sample`), the verdict (`health`).

use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Client;

use super::jobs::columns;
use crate::admin::figures::sample;
use crate::admin::figures::sample::Sample;
use crate::admin::health;
use crate::admin::health::{Code, Health, Signals, Verdict};
use crate::admin::jobs::detail;
use crate::admin::jobs::detail::{Detail, Image};
use crate::api::Stats;
use crate::storage::QueueError;
use crate::telemetry::readiness::{Component, ReadinessReporter};

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("there is no job {0}; `walferry jobs` lists them")]
    Unknown(i64),
    /// It has been printed already.
    #[error("the queue is unhealthy")]
    Unhealthy,
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl StatusError {
    /// The process' exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Unknown(_) | Self::Unhealthy => 1,
            Self::Queue(_) => 3,
        }
    }
}

/// What is told, and whether it is bad.
pub(super) struct Told {
    pub(super) text: String,
    pub(super) unhealthy: bool,
}

/// How the queue and its slot are.
pub(super) async fn status(
    client: &Client,
    slot: &str,
    as_json: bool,
) -> Result<Told, StatusError> {
    let sample = sample::read(client, slot).await?;
    let health = judged(&sample);
    let unhealthy = health.verdict == Verdict::Unhealthy;
    let text = if as_json {
        object(&sample, &health, slot).to_string()
    } else {
        lines(&sample, &health, slot)
    };
    Ok(Told { text, unhealthy })
}

/// Of what only a running instance knows, nothing is said.
fn judged(sample: &Sample) -> Health {
    let status = ReadinessReporter::new();
    Component::ALL.iter().for_each(|component| status.ok(*component, ""));
    let readiness = status.now();
    let age = |_| Duration::ZERO;
    let mut health = health::judge(&Signals {
        sample: Ok(sample),
        readiness: &readiness,
        age,
        stalled: Duration::ZERO,
    });
    if sample.slot.known().is_some_and(|slot| !slot.active) {
        health.add(
            Verdict::Unhealthy,
            Code::NotRunning,
            "nobody reads the slot: no walferry is running",
            "start `walferry run`",
        );
    }
    health
}

fn object(sample: &Sample, health: &Health, slot: &str) -> Value {
    json!({
        "status": health.verdict.as_str(),
        "issues": health.issues,
        "recommendations": health.recommendations,
        "details": health.details,
        "stats": Stats::from(&sample.counts),
        "indexing": sample.indexing,
        "oldest_unfinished_at": sample.oldest_unfinished.as_ref().map(|moment| &moment.at),
        "slot": sample.slot.known().map(|state| json!({
            "name": slot, "active": state.active, "wal_status": state.wal_status,
            "retained_bytes": state.retained_bytes, "lag_bytes": state.lag_bytes,
            "safe_bytes": state.safe_bytes,
        })),
    })
}

fn lines(sample: &Sample, health: &Health, slot: &str) -> String {
    let counts = &sample.counts;
    let mib = |bytes: i64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let mut lines = vec![
        format!("{} (slot {slot})", health.verdict.as_str()),
        format!(
            "jobs      {} total, {} pending, {} processing, {} completed, {} failed, {} stuck",
            counts.total,
            counts.pending,
            counts.processing,
            counts.completed,
            counts.failed,
            counts.stuck
        ),
        format!(
            "time      {:.1} ms from commit to end on average; the last one ended {}",
            counts.processing_time_ms,
            counts.last_processed_at.as_deref().unwrap_or("never")
        ),
        format!("indexing  {}", if sample.indexing { "on" } else { "stopped by an operator" }),
    ];
    if let Some(oldest) = &sample.oldest_unfinished {
        lines.push(format!(
            "oldest    unfinished since {} ({:.0} s)",
            oldest.at, oldest.age_seconds
        ));
    }
    if let Some(slot) = sample.slot.known() {
        lines.push(format!(
            "slot      {}, {}; retains {}, {} behind, {}",
            if slot.active { "read" } else { "read by nobody" },
            slot.wal_status.as_deref().unwrap_or("unknown"),
            mib(slot.retained_bytes),
            mib(slot.lag_bytes),
            slot.safe_bytes.map_or_else(
                || "no limit to what it may retain".to_owned(),
                |safe| format!("{} left before it may be lost", mib(safe))
            )
        ));
    }
    for (issue, advice) in health.issues.iter().zip(&health.recommendations) {
        lines.push(format!("! {issue}\n  {advice}"));
    }
    lines.push("PostgreSQL alone was asked; GET /readyz tells of Elasticsearch".to_owned());
    lines.join("\n")
}

/// One job, with its change column by column. Columns that no document shows are masked.
pub(super) async fn job(
    client: &Client,
    id: i64,
    private: impl Fn(&str) -> Vec<String>,
    as_json: bool,
) -> Result<String, StatusError> {
    let found = detail::detail(client, id).await?.ok_or(StatusError::Unknown(id))?;
    let private = private(&found.shown.table_name);
    Ok(if as_json { job_object(&found, &private).to_string() } else { job_lines(&found, &private) })
}

fn value(image: Option<&Image>, is_private: bool) -> String {
    match image {
        None => "-".to_owned(),
        Some(_) if is_private => "(masked)".to_owned(),
        Some(image) => {
            let short: String = image.json.chars().take(60).collect();
            let cut = image.is_cut || short.len() < image.json.len();
            if cut { format!("{short}…") } else { short }
        }
    }
}

fn job_lines(job: &Detail, private: &[String]) -> String {
    let shown = &job.shown;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let head = format!(
        "job {} is {}: {} of {} {}\ncommitted {}, started {}, ended {}; refused {} time(s)\n\
         LSN {}, transaction {}\nerror {}",
        shown.id,
        shown.status,
        shown.operation,
        shown.table_name,
        shown.record_id,
        or_none(&shown.created_at),
        or_none(&job.started_at),
        or_none(&shown.processed_at),
        shown.retry_count,
        or_none(&job.commit_lsn),
        job.xid.map_or_else(|| "-".to_owned(), |xid| xid.to_string()),
        or_none(&shown.error_message),
    );
    let rows = job.columns.iter().map(|column| {
        let is_private = private.contains(&column.column);
        [
            if column.changed { "*" } else { "" }.to_owned(),
            column.column.clone(),
            value(column.old.as_ref(), is_private),
            value(column.new.as_ref(), is_private),
        ]
    });
    format!("{head}\n{}", columns(["", "COLUMN", "OLD", "NEW"], rows))
}

fn job_object(job: &Detail, private: &[String]) -> Value {
    let shown = &job.shown;
    let image = |image: &Option<Image>, column: &String| match image {
        Some(_) if private.contains(column) => Value::from("masked"),
        Some(image) if !image.is_cut => {
            serde_json::from_str(&image.json).unwrap_or_else(|_| image.json.clone().into())
        }
        Some(image) => image.json.clone().into(),
        None => Value::Null,
    };
    let changes = job.columns.iter().map(|column| {
        json!({
            "column": column.column, "changed": column.changed,
            "old": image(&column.old, &column.column), "new": image(&column.new, &column.column),
        })
    });
    json!({
        "id": shown.id, "table_name": shown.table_name, "operation": shown.operation,
        "record_id": shown.record_id, "status": shown.status, "created_at": shown.created_at,
        "started_at": job.started_at, "processed_at": shown.processed_at,
        "retry_count": shown.retry_count, "error_message": shown.error_message,
        "commit_lsn": job.commit_lsn, "xid": job.xid, "stuck": job.stuck,
        "changes": changes.collect::<Vec<_>>(),
    })
}
