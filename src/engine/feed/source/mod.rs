//! Where the feed takes its work from: the first load, the table, jobs that are due, the stream.
//!
//! One source at a time; each hands its changes to `feed::render`.

pub mod due;
pub mod live;
pub mod load;
pub mod table;
