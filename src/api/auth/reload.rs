//! The file with the tokens, read again on SIGHUP and when its text has changed: a token is revoked
//! without a restart.
//!
//! A file that does not read leaves the tokens as they are. Event streams end with each reload, so
//! that their clients say again who they are.
//!
//! Not here: checking a token (`authenticator`), and the syntax (`config`).

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::api::state::ApiState;
use crate::config;

/// How often the file is read.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Keeps the tokens as the file has them. Never ends; without a file it does nothing.
pub(in crate::api) async fn watch(state: ApiState) {
    let Some(path) = state.access.tokens_file.clone() else {
        return std::future::pending().await;
    };
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = match &mut hangup {
            Some(hangup) => tokio::select! {
                _ = hangup.recv() => true,
                _ = ticks.tick() => false,
            },
            None => {
                ticks.tick().await;
                false
            }
        };
        look(&state, &path, asked).await;
    }
}

/// Reads the file. Without a signal, an unchanged file is not logged again.
async fn look(state: &ApiState, path: &Path, asked: bool) {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || config::tokens_in(&path)).await;
    let read = read.expect("reading a file does not panic, and the runtime outlives it");
    let authenticator = &state.access.authenticator;
    match read {
        Ok(tokens) => {
            let count = tokens.len();
            if authenticator.set_tokens(tokens) || asked {
                info!(event = "tokens_reloaded", count, "the tokens were read again");
            }
        }
        Err(error) => {
            let error = error.to_string();
            if authenticator.note_fault(&error) || asked {
                warn!(
                    event = "tokens_not_reloaded",
                    error, "the file with the tokens does not read; the tokens stay as they were"
                );
            }
        }
    }
}
