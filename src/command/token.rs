//! `walferry token`: a new token, or the hash of one.
//!
//! Not here: what a token is (`api::auth::token`).

use std::io::{self, BufRead, Read};

use super::arguments::TokenCommand;
use super::error::CommandError;
use crate::api::auth::token::{generate, hash};

/// Longer than any token.
const LINE_BYTES_MAX: u64 = 8 * 1024;

/// What to print.
///
/// # Errors
///
/// Standard input can't be read, or what it has is no token.
pub(super) fn run(what: TokenCommand) -> Result<String, CommandError> {
    match what {
        TokenCommand::Create { name, role, expires } => {
            let token = generate()?;
            let expiry = expires.map(|date| format!(":{date}")).unwrap_or_default();
            let entry = format!("{name}:{}:{}{expiry}", role.as_str(), hash(&token)?);
            Ok(format!(
                "{token}\n\nThis is the token, shown this once. Give it to its holder, and add the \
                 entry below to\napi.tokens (WALFERRY_API_TOKENS), which needs no secrecy:\n\n{entry}"
            ))
        }
        TokenCommand::Hash => {
            let mut line = String::new();
            io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut line)?;
            Ok(hash(line.trim())?)
        }
    }
}
