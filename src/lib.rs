//! walferry keeps Elasticsearch consistent with PostgreSQL, with one audit row per change.
//!
//! ```text
//! slot ─► wal ─► recorder ─► feed ─► sink ─► checkpoint ─► acknowledged LSN ─► slot
//!                   │          ▲      │           │
//!                   ▼ jobs     │      ▼           ▼ their fate
//!               queue table ───┘  Elasticsearch  queue table
//! ```
//!
//! Two planes. The *data plane* is that line, all of it in [`engine`]. The *control plane* consists of
//! `engine::supervisor`, which observes the line and changes its mode, and [`admin`], through
//! which people see and operate it: over HTTP ([`api`]) or at the terminal ([`command`]).
//!
//! The modules, from left to right; a module imports only modules to its left:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`change`] | positions in the stream, rows and changes |
//! | [`value`] | PostgreSQL's text form of a value to the JSON that `to_jsonb` gives |
//! | [`config`] | settings: flags over environment over file over defaults |
//! | [`ack`] | which batches are pending, and which jobs this process has in flight |
//! | [`telemetry`] | metrics, log, traces, readiness |
//! | [`postgres`] | sessions, TLS, errors, and the catalogs |
//! | [`storage`] | the lease, the position, the audit log, the queue and its migrations |
//! | [`engine`] | the stages, what supervises them, and the wiring |
//! | [`admin`] | one function for each thing that people may see or do |
//! | [`api`] | the HTTP server, its routes and the page |
//! | [`command`] | the command line |
//!
//! A *change* is one row's insert, update or delete, or a TRUNCATE; a *job* is its audit row in the
//! queue; an *action* is what to do to one document; a *verdict* is Elasticsearch's answer to it; a
//! batch *settles* once the result of each of its jobs is durable. ARCHITECTURE.md has the rules and
//! a glossary.

pub mod ack;
pub mod admin;
pub mod api;
pub mod change;
pub mod command;
pub mod config;
pub mod engine;
pub mod postgres;
pub mod storage;
pub mod telemetry;
pub mod value;
