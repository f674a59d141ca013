//! Which documents a change affects, and which rows a document embeds. Pure.
//!
//! Not here: reading these rows, and the rows that embed a changed one (`feed`).

mod affected;
mod dependent;
mod keys;
mod required;
#[cfg(test)]
mod testing;
mod unchanged;

pub use affected::{AffectedDocument, Effect, documents};
pub use dependent::dependents;
pub use keys::RowKeys;
pub use required::{RequiredRow, first_unknown, needs};
pub use unchanged::is_unchanged;
