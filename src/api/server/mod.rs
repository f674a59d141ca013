//! What every request passes: the listener, limits, the origin policy, request ids, input, problems,
//! the audit log.
//!
//! Not here: who asks (`auth`), and what a route does (`routes`).

pub(in crate::api) mod audit_log;
mod connection;
mod descriptors;
pub mod input;
pub mod limits;
pub mod listener;
pub mod origin;
mod places;
pub mod problem;
pub mod rate;
pub mod request_id;
pub mod route;
pub mod time;
pub(in crate::api) mod unavailable;
