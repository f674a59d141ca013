//! Telemetry of the process: metrics, log, traces and readiness.
//!
//! The stages report to these modules, which do not depend on any stage.
//!
//! Not here: the answers of the API and of the commands (`admin`, `api`, `command`).

pub mod error_chain;
pub mod http_client;
pub mod log;
pub mod metrics;
pub mod mode;
pub mod readiness;
pub mod throttle;
pub mod trace;
pub mod waits;
