//! From changes to document actions: the plan of a batch, the reads that it needs, the bodies.
//!
//! Not here: where changes come from (`feed::source`), and what a document consists of
//! (`document`).

pub mod ahead;
pub mod cache;
pub mod fanout;
pub mod plan;
pub mod read;
#[allow(clippy::module_inception, reason = "named by what it does until it is divided")]
pub mod render;
pub mod single;
pub mod truncate;
pub mod visible;
pub mod work;
