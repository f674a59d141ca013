//! What PostgreSQL's catalogs say of the slot, the published tables and the publication.
//!
//! Every statement on `pg_replication_slots` and on the catalogs of tables and publications is
//! here, so that each fact is read in one place.
//!
//! Not here: what the stream itself says of a table (`engine::wal::relation`).

pub mod publication;
pub mod slot;
pub mod table;
