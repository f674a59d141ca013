//! What a document is: declared, routed to, and built from rows. All of it pure.
//!
//! Not here: reading rows (`feed`) and sending documents (`sink`).

pub mod build;
pub mod definition;
mod dependents;
pub mod id;
mod layout;
pub mod parse;
pub mod plain;
pub mod route;
pub mod shape;
mod suggest;
