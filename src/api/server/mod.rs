//! What every request passes: the listener, limits, the origin policy, request ids, input, problems,
//! the audit log.
//!
//! Not here: who asks (`auth`), and what a route does (`routes`).

pub(in crate::api) mod audit_log;
mod connection;
pub(in crate::api) mod denials;
mod descriptors;
mod forwarded;
pub mod input;
pub mod limits;
pub mod listener;
pub mod origin;
mod places;
pub mod problem;
pub mod rate;
pub(in crate::api) mod reads;
pub mod request_id;
pub mod route;
pub(in crate::api) mod streams;
pub mod time;
pub(in crate::api) mod unavailable;
