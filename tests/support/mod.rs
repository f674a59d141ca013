//! Support for integration tests: real servers, a database and an index prefix for each test, the
//! walferry binary as a child process, and waiting for conditions.
//!
//! ```ignore
//! let bed = TestBed::new("receipts").await;
//! let walferry = bed.start().await;
//! bed.sql.batch_execute("insert …").await?;
//! eventually(SECONDS_10, "the listing is indexed", async || …).await;
//! ```
//!
//! No process outlives the test binary. All processes write their standard error into one run
//! directory. After the binary ends for any reason, a guard (`tests/stack/stack guard`) ends them and
//! removes the directory.
//!
//! Not here: expectations (`tests/oracle`).

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
