//! The integration tests: one binary, one PostgreSQL and one Elasticsearch for all of it.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod admin;
mod api;
mod api_access;
mod api_canary;
mod api_queue;
mod api_schema;
mod architecture;
mod bad_input;
mod bulk_errors;
mod config;
mod contract;
mod crowd;
mod dashboards;
mod demo;
mod end_to_end;
mod flood;
mod job_counts;
mod logs;
mod maintain;
mod memory;
mod migrations;
mod oracle;
mod page;
mod papers;
mod queue_fanouts;
mod queue_healing;
mod queue_storage;
mod replication;
mod restart;
mod retention;
mod rights;
mod scenarios;
mod scene;
mod supply;
mod support;
mod take_over;
mod tls;
mod tokens;
#[cfg(feature = "otlp")]
mod traces;
mod upgrade;
mod values;
mod workload;
