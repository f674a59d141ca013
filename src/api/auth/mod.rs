//! Authentication and authorization: a request's `Authorization` → an identity with a role.
//!
//! Where neither tokens nor JWTs are configured, every request is of `anonymous`, an admin; the
//! configuration then lets the server listen on loopback only.
//!
//! Not here: what a role may do (the table of routes).

pub(in crate::api) mod access;
mod authenticator;
pub(in crate::api) mod authorize;
mod claims;
#[cfg(test)]
mod forged;
pub(in crate::api) mod identity;
mod jwt;
mod key_set;
mod keys;
pub(in crate::api) mod refusal;
pub(in crate::api) mod reload;
pub mod token;
