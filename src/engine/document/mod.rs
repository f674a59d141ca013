//! The definition of documents, the documents that a change affects, and their JSON. All pure.
//!
//! Documents are built from rows by copying JSON. No file here performs I/O, holds a channel or
//! reads the clock.
//!
//! Not here: reading rows (`feed`) and sending documents (`sink`).

pub mod build;
pub mod compare;
pub mod definition;
mod dependents;
pub mod id;
mod layout;
pub mod parse;
pub mod plain;
pub mod route;
pub mod shape;
mod suggest;
pub mod visible;
