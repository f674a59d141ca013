//! What the process says of itself: metrics, log, traces, readiness.
//!
//! Stages report here; nothing here knows a stage.
//!
//! Not here: the answers that people get (`admin`, `api`).

pub mod http_client;
pub mod log;
pub mod metrics;
pub mod mode;
pub mod readiness;
pub mod trace;
