//! One record: its row, its documents, and a re-sync of them.
//!
//! Not here: rendering (`engine::feed::render::single`).

pub mod compare;
pub mod error;
pub mod key;
pub mod resync;
pub mod view;
