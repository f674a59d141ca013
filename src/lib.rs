//! walferry keeps Elasticsearch true to PostgreSQL, with a receipt for every change.
//!
//! `slot → wal → recorder → feed → sink → checkpoint → durable LSN → slot`

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
