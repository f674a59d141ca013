//! What integration tests stand on: real servers, a database and an index prefix for each test, the
//! walferry binary as a child, and waiting for conditions.
//!
//! ```ignore
//! let bed = TestBed::new("receipts").await;
//! let walferry = bed.start().await;
//! bed.sql.batch_execute("insert …").await?;
//! eventually(SECONDS_10, "the listing is indexed", async || …).await;
//! ```
//!
//! Nothing outlives the test binary: every process writes its standard error into one run directory,
//! and a guard (`tests/stack/stack guard`) ends them and removes it once the binary is gone, however
//! it went.

#![allow(dead_code, reason = "each test takes the part it needs")]

pub(crate) mod bed;
pub(crate) mod browser;
pub(crate) mod elasticsearch;
pub(crate) mod faults;
pub(crate) mod launcher;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod scans;
pub(crate) mod selfcheck;
pub(crate) mod servers;
pub(crate) mod wait;
pub(crate) mod walferry;

pub(crate) use bed::TestBed;
pub(crate) use browser::Browser;
pub(crate) use elasticsearch::{Elasticsearch, ElasticsearchNode};
pub(crate) use postgres::{Postgres, Sql, StopMode};
pub(crate) use servers::Servers;
pub(crate) use wait::eventually;
pub(crate) use walferry::Walferry;
