//! Points the read aliases to the new indices once the first load has settled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::Client;

use super::Fault;
use crate::engine::control::IndexingReport;
use crate::engine::sink::{Target, client, index};
use crate::storage::load_progress;
use crate::storage::schema::take_over_state;
use crate::telemetry::mode::FeedMode;
use crate::telemetry::readiness::{Component, ReadinessReporter};

/// Between two queries for the end of the first load.
const QUERY_AGAIN: Duration = Duration::from_millis(100);
/// Between two attempts to point the aliases.
const SWAP_AGAIN: Duration = Duration::from_secs(1);

/// Swaps the read aliases after the first load.
pub(super) struct AliasSwap {
    pub elasticsearch: Arc<client::Client>,
    pub targets: Vec<Target>,
    pub session: Arc<Client>,
    pub slot: String,
    pub status: ReadinessReporter,
    pub report: watch::Sender<IndexingReport>,
}

impl AliasSwap {
    /// Waits for the end of the first load, then points the read aliases to the loaded indices.
    pub(super) async fn when_loaded(self) -> Result<(), Fault> {
        let Self { elasticsearch, targets, session, slot, status, report } = self;
        status.ok(Component::Load, "loading");
        let is_past_load =
            |report: &IndexingReport| matches!(report.mode, FeedMode::Table | FeedMode::Live);
        if report.subscribe().wait_for(is_past_load).await.is_err() {
            return Ok(());
        }
        // The last chunks have been sent; they must settle before searches use the index.
        loop {
            let loads = load_progress::read(&session, &slot).await?;
            let ours = |uuid: &String| targets.iter().any(|target| target.uuid == *uuid);
            if loads.iter().all(|load| load.done || !load.index_uuids.iter().all(ours)) {
                break;
            }
            tokio::time::sleep(QUERY_AGAIN).await;
        }
        while let Err(error) = index::swap_read_aliases(&elasticsearch, &targets).await {
            status.fault(Component::Load, format!("loaded, but searches do not see it: {error}"));
            tracing::warn!(
                event = "aliases_not_swapped", error = %error,
                "could not point the aliases to the new indices yet"
            );
            tokio::time::sleep(SWAP_AGAIN).await;
        }
        let noted = take_over_state::note_replaced(&session, &slot).await;
        noted?;
        status.ok(Component::Load, "done");
        report.send_modify(|report| report.load_searchable = true);
        Ok(())
    }
}
