//! Decodes the messages of `pgoutput`, protocol version 1. Pure; messages borrow from the bytes.
//!
//! Lengths are checked before anything is read, and trailing bytes are an error. No input causes a
//! panic.
//!
//! Not here: versions 2 to 4 (transactions in progress), which walferry does not request.

mod decode;
mod message;
mod reader;
#[cfg(test)]
mod tests;
mod tuple;

pub use decode::decode;
pub use message::{Begin, Column, Commit, Message, OldTuple, Relation};
pub use reader::{ByteReader, DecodeError};
pub use tuple::{Tuple, Value};
