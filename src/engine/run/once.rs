//! The end of `walferry run --once`: everything is indexed, or something must happen before it can
//! be.
//!
//! Not here: what happens then (`stages`).

use std::time::Duration;

use tokio_postgres::Client;

use super::channels::Channels;
use super::{Fault, RunError};
use crate::change::Lsn;
use crate::storage::queue::awaited;

/// Between two queries for jobs that wait for an index.
const QUERY_AGAIN: Duration = Duration::from_millis(100);

const ANY_FANOUT: &str = "select exists (select from walferry.fanout) as is_any";

const ANY_DUE: &str = "select exists (select from walferry.due_job)";

/// Returns once all below `target` is settled, searches see what was loaded, and every job and
/// fan-out that is left waits for an index that takes no documents.
pub(super) async fn caught_up(
    channels: &Channels,
    session: &Client,
    target: Lsn,
) -> Result<(), Fault> {
    let mut progress = channels.progress.subscribe();
    let mut indexing = channels.indexing.subscribe();
    let settled = progress.wait_for(|known| known.settled >= target).await.is_ok();
    if !settled || indexing.wait_for(|report| report.load_searchable).await.is_err() {
        return std::future::pending().await;
    }
    let closed = channels.sink.closed();
    let mut have_waited = false;
    loop {
        let indices = awaited::names(session).await?;
        let all_closed = indices.iter().all(|index| closed.borrow().contains(index));
        let is_rewritten = indexing.borrow().fanouts_finished || !closed.borrow().is_empty();
        // Jobs that have waited until now are due.
        if all_closed && is_rewritten && !(have_waited && is_any_due(session).await?) {
            return Ok(());
        }
        have_waited = true;
        tokio::time::sleep(QUERY_AGAIN).await;
    }
}

/// Jobs wait for an index that takes no documents, or `failed` of them were refused for good: the run
/// has not indexed everything.
pub(super) async fn verify_indexed(session: &Client, failed: u64) -> Result<(), Fault> {
    if failed > 0 {
        return Err(Fault::Permanent(RunError::Environment(format!(
            "Elasticsearch refused the documents of {failed} jobs, which are failed now; `walferry \
             jobs --status failed` has the reasons: correct their cause, and run `walferry retry`"
        ))));
    }
    let indices = awaited::names(session).await?;
    if indices.is_empty() {
        return match session.query_one(ANY_FANOUT, &[]).await?.try_get("is_any")? {
            false => Ok(()),
            true => Err(fanouts_left()),
        };
    }
    Err(Fault::Permanent(RunError::Environment(format!(
        "jobs wait for {}, which takes no documents; see the index's settings and blocks, and run \
         this command again (`walferry jobs --status pending` has the reasons)",
        indices.join(", ")
    ))))
}

fn fanouts_left() -> Fault {
    Fault::Permanent(RunError::Environment(
        "documents that show a changed row are still to be rewritten, and one of their indices takes \
         no documents; see the indices' settings and blocks, and run this command again"
            .to_owned(),
    ))
}

/// Returns once an operator has stopped indexing.
pub(super) async fn halted(channels: &Channels) {
    let mut control = channels.control.subscribe();
    if control.wait_for(|control| control.halted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// With `--once`, the run would wait until an operator starts indexing again.
pub(super) fn halted_fault() -> Fault {
    Fault::Permanent(RunError::Environment(
        "indexing was stopped by an operator, so `walferry run --once` does not catch up; run \
         `walferry start`, and then this command again"
            .to_owned(),
    ))
}

async fn is_any_due(session: &Client) -> Result<bool, Fault> {
    Ok(session.query_one(ANY_DUE, &[]).await?.try_get(0)?)
}
