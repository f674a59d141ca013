//! The acknowledgement: what must settle before an LSN may be confirmed, and which jobs this
//! process has in flight.
//!
//! A batch is pending until every document action made of its jobs has its verdict; the last
//! verdict hands the batch to the checkpoint. All of it is bookkeeping in memory: what a process
//! held when it died is found again in the queue table.
//!
//! [`memory`] counts the bytes that are held meanwhile.
//!
//! Not here: I/O, the order of batches (`engine::checkpoint::watermark`), and SQL (`storage::queue::settle`).

pub mod batch;
pub mod commits;
pub mod fanout;
pub mod in_flight;
pub mod job_set;
pub mod loaded_chunk;
pub mod memory;
pub mod unfinished;
