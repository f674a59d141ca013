//! The queue's figures, read once for the API, the metrics and the command line.

pub mod sample;
pub mod sampler;
pub mod slot;
pub mod stats;
