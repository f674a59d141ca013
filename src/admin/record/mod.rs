//! One record: its row, its documents, and a re-sync of them.
//!
//! Not here: rendering (`engine::feed::render::row`).

pub mod compare;
pub mod error;
pub mod key;
mod mask;
pub mod resync;
pub mod view;
