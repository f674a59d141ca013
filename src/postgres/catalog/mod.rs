//! Reads of PostgreSQL's system catalogs: replication slots and tables.
//!
//! Not here: the catalog reads of `migrate` (`storage::schema`) and of `check`
//! (`engine::preflight`), and the columns of streamed rows, which Relation messages define
//! (`engine::wal::relation`).

pub mod slot;
pub mod table;
