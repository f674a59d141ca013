//! Jobs as people see them: listed, filtered, shown in detail, retried, discarded.

mod chosen;
pub mod detail;
pub mod document;
pub mod filter;
pub mod list;
pub mod operations;
