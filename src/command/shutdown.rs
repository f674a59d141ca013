//! SIGTERM and SIGINT → one token. A second signal ends the process at once.
//!
//! Not here: what stops in which order (`engine::run::stages`), and how long it may take
//! (`limits.shutdown_grace`).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Exit code of a process that SIGINT ended, by the shells' custom of 128 + signal.
const INTERRUPTED: i32 = 130;
/// The same for SIGTERM.
const TERMINATED: i32 = 143;

/// Listens for signals from now on; the token is cancelled by the first.
///
/// # Errors
///
/// The operating system refuses a signal handler.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        info!(event = "stopping", "stopping; a second signal stops at once");
        token.cancel();
        let code = next(&mut terminate, &mut interrupt).await;
        warn!(
            event = "stopped_at_once",
            "stopped by a second signal; what was in flight will be sent again"
        );
        std::process::exit(code);
    });
    Ok(shutdown)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> i32 {
    tokio::select! {
        _ = terminate.recv() => TERMINATED,
        _ = interrupt.recv() => INTERRUPTED,
    }
}
