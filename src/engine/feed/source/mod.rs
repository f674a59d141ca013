//! The feed's sources: the first load, the table, jobs that are due, the stream, and between their
//! batches fan-outs in the background and chunks of operations.
//!
//! The feed works on one source at a time; each renders its changes by `feed::render`.

pub mod background;
pub mod course;
pub mod due;
pub mod external;
pub mod live;
pub mod load;
pub mod looks;
pub mod moment;
pub mod operation;
pub mod table;
