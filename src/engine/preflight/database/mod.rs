//! Evaluates the facts about PostgreSQL; each finding has the SQL that corrects it. Pure.

mod definition;
mod key;
mod name;
mod publication;
mod role;
mod server;
mod slot;
mod table;
#[cfg(test)]
mod tests;

pub(super) use definition::definition;
pub(super) use key::keys;
pub(super) use publication::publication;
pub(super) use role::{own_objects, role};
pub(super) use server::server;
pub(super) use slot::slot;
pub(super) use table::tables;
