//! walferry keeps Elasticsearch true to PostgreSQL, with a receipt for every change.
//!
//! `slot → wal → recorder → feed → sink → checkpoint → durable LSN → slot`

pub mod ack;
pub mod admin;
pub mod api;
pub mod change;
pub mod check;
pub mod checkpoint;
pub mod command;
pub mod config;
pub mod document;
pub mod feed;
pub mod pipeline;
pub mod postgres;
pub mod recorder;
pub mod shutdown;
pub mod sink;
pub mod storage;
pub mod supervisor;
pub mod telemetry;
pub mod value;
pub mod wal;
