//! The data plane: from the slot's bytes to documents in Elasticsearch and back to the slot's
//! confirmed position.
//!
//! ```text
//! slot ─► wal ─► recorder ─► feed (document) ─► sink ─► checkpoint ─► durable LSN ─► slot
//! ```
//!
//! `supervisor` observes the flow and changes its mode; `preflight` checks the environment before
//! it starts; `run` wires the stages and starts them again after a fault.
//!
//! Not here: storage of jobs and positions (`storage`), and what people see and do (`admin`).

pub mod checkpoint;
pub mod document;
pub mod feed;
pub mod preflight;
pub mod recorder;
pub mod run;
pub mod sink;
pub mod supervisor;
pub mod wal;
