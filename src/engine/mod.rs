//! From the slot's bytes to documents in Elasticsearch, and back to the slot's confirmed position.
//!
//! The data plane. Each arrow is one bounded channel, or rows of the queue table:
//!
//! ```text
//!        Captured          Recorded      SinkCommand      PendingBatch
//! wal ────────────► recorder ───────► feed ───────► sink ──────────────► checkpoint
//!  ▲                   │               ▲                                  │      │
//!  │                   │ jobs          │ unfinished jobs            fates │      │
//!  │                   └──► queue table ◄─────────────────────────────────┘      │
//!  └──────────────────────────── durable LSN ◄───────────────────────────────────┘
//! ```
//!
//! The control plane. The supervisor observes and decides; each value has one watch channel:
//!
//! ```text
//! slot and WAL ───────┐              ┌──► recorder    hold, capture only, or go live
//! state of the sink ──┼─► supervisor ┼──► feed        begin batches, or none
//! operator's choice ──┘   Control    └──► checkpoint  acknowledge what is settled, or recorded
//!
//! feed        IndexingReport ──► recorder, supervisor, sink, run
//! recorder    recorded end   ──► checkpoint
//! checkpoint  progress       ──► recorder, supervisor, run
//! checkpoint  durable LSN    ──► wal
//! feed        LiveRequest    ──► recorder    the answer, GoneLive, carries the live channel
//! API         OperatorRequests ► feed, supervisor, rescue
//! run         stop, close    ──► stop: nothing more is taken; close: everything has settled
//! ```
//!
//! `control` holds the decision, `preflight` checks the environment before a run starts, and `run`
//! spawns the stages and starts them again after a fault.
//!
//! Not here: storage of jobs and positions (`storage`), and what people see and do (`admin`).

pub mod checkpoint;
pub mod control;
pub mod document;
pub mod feed;
pub mod preflight;
pub mod recorder;
pub mod run;
#[cfg(test)]
mod simulation;
pub mod sink;
pub mod supervisor;
pub mod wal;
