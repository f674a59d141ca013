//! From the claims of a signed token to an identity. Pure.
//!
//! A claim of the wrong type is an error, never an absent one.
//!
//! Not here: signatures (`jwt`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::identity::Identity;
use super::refusal::AuthRefusal;
use crate::config::{Jwt, Role};
use crate::storage::audit;

/// Clocks may differ by this much.
const LEEWAY: Duration = Duration::from_secs(30);
/// The year 9999: a time that prints.
const SECONDS_MAX: f64 = 253_402_300_799.0;
const NAME_CHARS_MAX: usize = 200;

/// The claims of a token with a valid signature.
#[derive(Debug)]
pub(super) struct Claims(pub(super) Map<String, Value>);

impl Claims {
    /// The identity, if the claims are for walferry and valid now.
    pub(super) fn identity(&self, rules: &Jwt, now: SystemTime) -> Result<Identity, AuthRefusal> {
        let expires_at = self.time("exp")?.ok_or(AuthRefusal::Malformed)?;
        if expires_at + LEEWAY <= now {
            return Err(AuthRefusal::Expired);
        }
        if self.time("nbf")?.is_some_and(|begins_at| begins_at > now + LEEWAY) {
            return Err(AuthRefusal::NotYet);
        }
        if self.text("iss")? != Some(&rules.issuer) || !self.is_for(&rules.audience)? {
            return Err(AuthRefusal::Foreign);
        }
        let name = self.name()?;
        let role = self.role(&rules.role_claim).ok_or(AuthRefusal::RoleMissing)?;
        Ok(Identity { name, role, expires_at: Some(expires_at) })
    }

    fn time(&self, claim: &str) -> Result<Option<SystemTime>, AuthRefusal> {
        let Some(value) = self.0.get(claim) else { return Ok(None) };
        let seconds = value.as_f64().ok_or(AuthRefusal::Malformed)?;
        let seconds = seconds.clamp(0.0, SECONDS_MAX);
        Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds)))
    }

    fn text(&self, claim: &str) -> Result<Option<&str>, AuthRefusal> {
        let Some(value) = self.0.get(claim) else { return Ok(None) };
        value.as_str().map(Some).ok_or(AuthRefusal::Malformed)
    }

    fn is_for(&self, audience: &str) -> Result<bool, AuthRefusal> {
        match self.0.get("aud") {
            None => Ok(false),
            Some(Value::String(one)) => Ok(one == audience),
            Some(Value::Array(several)) if several.iter().all(Value::is_string) => {
                Ok(several.iter().any(|one| one == audience))
            }
            Some(_) => Err(AuthRefusal::Malformed),
        }
    }

    /// The subject, which a user cannot choose, and beside it the address, which people know.
    fn name(&self) -> Result<String, AuthRefusal> {
        let subject =
            self.text("sub")?.filter(|text| !text.is_empty()).ok_or(AuthRefusal::Malformed)?;
        let address = self.text("email")?.filter(|text| !text.is_empty());
        let name = match address {
            Some(address) => format!("{subject} {address}"),
            None => subject.to_owned(),
        };
        Ok(name.chars().filter(|c| !audit::deceives(*c)).take(NAME_CHARS_MAX).collect())
    }

    /// The role at the configured path only. Supabase's own `role` (`authenticated`, `service_role`) is
    /// not a role of walferry's, a hook's `user_role` is the application's unless it is configured, and
    /// an anonymous user has no role.
    fn role(&self, path: &[String]) -> Option<Role> {
        let anonymous =
            self.0.get("is_anonymous").is_some_and(|value| *value != Value::Bool(false));
        if anonymous || self.0.get("role").is_some_and(|role| role == "anon") {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let begin = self.0.get(first);
        let at_path = begin.and_then(|begin| rest.iter().try_fold(begin, |at, name| at.get(name)));
        Role::from_word(at_path?.as_str()?)
    }
}
