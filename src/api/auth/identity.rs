//! The identity behind a request.

use std::time::SystemTime;

use crate::config::Role;

/// A user or a program, as the log and the audit log name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Identity {
    pub(in crate::api) name: String,
    pub(in crate::api) role: Role,
    /// The identity is not known from then on.
    pub(in crate::api) expires_at: Option<SystemTime>,
}

impl Identity {
    /// Of every request where no authentication is configured.
    pub(super) fn anonymous() -> Self {
        Self { name: "anonymous".to_owned(), role: Role::Admin, expires_at: None }
    }
}
