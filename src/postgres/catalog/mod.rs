//! Reads of PostgreSQL's system catalogs: slots, standbys, tables and publications.
//!
//! Not here: the catalog reads of `migrate` (`storage::schema`) and of `check`
//! (`engine::preflight`), and the columns of streamed rows, which Relation messages define
//! (`engine::wal::relation`).

pub mod holdup;
pub mod publication;
pub mod sender;
pub mod slot;
pub mod standby;
pub mod table;
