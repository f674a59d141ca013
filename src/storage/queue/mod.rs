//! The queue table: one job per change.
//!
//! Not here: the lease and the position that every transaction on the queue stands under
//! (`storage`), and the table's definition (`storage::schema`).

/// A statement that moves jobs, and counts what it moved by day and status.
macro_rules! counted {
    ($statement:literal) => {
        concat!(include_str!($statement), include_str!("count_moved.sql"))
    };
}

pub mod awaited;
mod chunks;
pub mod claim;
pub mod copy;
mod failures;
pub mod fanout;
pub mod job_counts;
pub mod lossy;
pub mod maintain;
mod park;
pub mod partitions;
pub mod record;
pub mod record_id;
pub mod rescue;
pub mod retry;
pub mod row_images;
pub mod settle;
pub mod status;
