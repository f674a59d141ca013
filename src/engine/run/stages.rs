//! One run: its stages are spawned, watched, and drained in the order of the flow.
//!
//! Not here: what each stage is given (`spawn`).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::channels::{Channels, Tokens};
use super::once;
use super::prepare::Prepared;
use super::spawn::{Tasks, spawn};
use super::{Context, Fault};
use crate::change::Lsn;
use crate::storage::control;
use crate::storage::lease;
use crate::storage::lease::Lease;
use crate::telemetry::readiness::Component;

/// The time for the last acknowledgement, and for the release of the lease.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Runs the pipeline until a fault, until shutdown, or with `--once` until it has caught up.
pub(super) async fn run(
    context: &Context,
    mut prepared: Prepared,
    shutdown: &CancellationToken,
) -> Result<(), Fault> {
    let indexing = control::indexing(&prepared.control, &prepared.lease.slot).await;
    let channels = Channels::new(context, &prepared, !indexing?);
    let tokens = Tokens::default();
    let holder = Arc::clone(&prepared.holder);
    let session = Arc::clone(&prepared.control);
    let lease = prepared.lease.clone();
    let mut tasks = spawn(context, &mut prepared, &channels, &tokens).await?;
    note_streaming(context, prepared.start);
    let is_single = context.options.once;
    let mut caught_up = pin!(once::caught_up(&channels, &session, prepared.wal_end));
    let mut closed = pin!(any_closed(prepared.closed.clone()));
    tokio::select! {
        biased; // the stream's own reason before those that follow from it
        ended = tasks.stream.join_next() => return Err(outcome(ended)),
        ended = tasks.beside.join_next() => return Err(outcome(ended)),
        ended = tasks.flow.join_next() => return Err(outcome(ended)),
        reason = &mut closed => return Err(Fault::Passing(reason)),
        () = shutdown.cancelled() => {}
        caught_up = &mut caught_up, if is_single => caught_up?,
        () = once::halted(&channels), if is_single => return Err(once::halted_fault()),
    }
    tokens.stop.cancel();
    drain(context, &mut tasks).await?;
    let indexed = if is_single && !shutdown.is_cancelled() {
        once::verify_indexed(&session, channels.progress.borrow().failed).await
    } else {
        Ok(())
    };
    tokens.close.cancel();
    close(&mut tasks, &holder, &lease).await;
    indexed
}

/// Waits until everything in flight has settled, for the configured time at most.
async fn drain(context: &Context, tasks: &mut Tasks) -> Result<(), Fault> {
    let drained = timeout(context.config.limits.shutdown_grace, async {
        while let Some(ended) = tasks.flow.join_next().await {
            flatten(ended)?;
        }
        Ok::<(), Fault>(())
    })
    .await;
    match drained {
        Ok(Ok(())) => {}
        Ok(Err(Fault::Passing(sentence))) => {
            tracing::warn!(event = "drain_fault", error = sentence, "while draining");
        }
        Ok(Err(fault)) => return Err(fault),
        Err(_) => {
            tracing::warn!(
                event = "drain_incomplete",
                "not everything in flight settled in time; the next start resumes it"
            );
            tasks.flow.shutdown().await;
        }
    }
    Ok(())
}

/// Sends the last acknowledgement, ends the duties and releases the lease.
async fn close(tasks: &mut Tasks, holder: &tokio_postgres::Client, lease: &Lease) {
    if timeout(CLOSE_MAX, tasks.stream.join_next()).await.is_err() {
        tracing::debug!("the stream did not close in time");
    }
    tasks.beside.shutdown().await;
    match timeout(CLOSE_MAX, lease::release(holder, lease)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the lease was not released; it expires"),
        Err(_) => tracing::debug!("the lease was not released in time; it expires"),
    }
}

fn note_streaming(context: &Context, start: Lsn) {
    context.metrics.source.set_up(true);
    context.status.ok(Component::Slot, format!("streaming from {start}"));
}

type Ended = Option<Result<Result<(), Fault>, tokio::task::JoinError>>;

/// Why a task ended before the run stopped.
fn outcome(ended: Ended) -> Fault {
    match ended.map(flatten) {
        Some(Err(fault)) => fault,
        Some(Ok(())) | None => Fault::Passing("a stage ended by itself".to_owned()),
    }
}

fn flatten(ended: Result<Result<(), Fault>, tokio::task::JoinError>) -> Result<(), Fault> {
    match ended {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Fault::Passing("a stage panicked".to_owned())),
        Err(_) => Ok(()),
    }
}

async fn any_closed(sessions: Vec<crate::postgres::Closed>) -> String {
    let mut waits = JoinSet::new();
    for session in sessions {
        waits.spawn(async move { session.wait().await });
    }
    match waits.join_next().await {
        Some(Ok(reason)) => reason,
        _ => "a session was closed".to_owned(),
    }
}
