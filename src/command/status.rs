//! `walferry status`: the queue and its slot.
//!
//! Read from the database, so it holds whether an instance runs or not. What only a running instance
//! knows, its connection to Elasticsearch, `GET /api/v1/health/detailed` says.
//!
//! Not here: the figures (`admin::figures::sample`), the verdict (`admin::health`).

use serde_json::json;
use tokio_postgres::Client;

use crate::admin::figures::sample::{self, Sample};
use crate::admin::figures::slot::SlotView;
use crate::admin::figures::stats::Stats;
use crate::admin::health::{self, HealthVerdict, QueueHealth};
use crate::storage::QueueError;

/// Why `status` ends with another code than 0.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// It has been printed already.
    #[error("the queue is unhealthy")]
    Unhealthy,
}

/// The figures and the verdict on them.
pub(super) struct QueueStatus {
    slot: String,
    sample: Sample,
    health: QueueHealth,
}

/// Reads the queue and its slot.
pub(super) async fn read(client: &Client, slot: &str) -> Result<QueueStatus, QueueError> {
    let sample = sample::read(client, slot).await?;
    let health = health::judge_figures(&sample);
    Ok(QueueStatus { slot: slot.to_owned(), sample, health })
}

impl QueueStatus {
    pub(super) fn is_unhealthy(&self) -> bool {
        self.health.verdict == HealthVerdict::Unhealthy
    }

    pub(super) fn json(&self) -> String {
        let Self { slot, sample, health } = self;
        json!({
            "status": health.verdict.as_str(),
            "issues": health.issues,
            "recommendations": health.recommendations,
            "details": health.details,
            "stats": Stats::from(&sample.counts),
            "indexing": sample.indexing,
            "oldest_unfinished_at": sample.oldest_unfinished.as_ref().map(|moment| &moment.at),
            "slot": sample.slot.known().map(|figures| SlotView::new(slot, figures)),
        })
        .to_string()
    }

    pub(super) fn text(&self) -> String {
        lines(&self.sample, &self.health, &self.slot)
    }
}

fn lines(sample: &Sample, health: &QueueHealth, slot: &str) -> String {
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
