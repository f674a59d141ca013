//! The syntax of the settings that control access to the HTTP API: tokens, JWTs, origins. Pure.
//!
//! Errors do not quote the text, because it can contain a token.
//!
//! Not here: authenticating requests (`api::auth`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use url::{Host, Url};

use super::endpoint::{InvalidValue, is_loopback};
use super::{Role, Token};

const TOKEN_EXAMPLE: &str = "what `walferry token create` prints, NAME:ROLE:SHA256[:YYYY-MM-DD]";
const JWKS_EXAMPLE: &str = "https://PROJECT.supabase.co/auth/v1/.well-known/jwks.json";
const ORIGIN_EXAMPLE: &str = "https://admin.example.com";
const HOST_EXAMPLE: &str = "walferry.example.com";
const CLAIM_EXAMPLE: &str = "app_metadata.walferry_role";
const NAME_CHARS_MAX: usize = 64;
const ENVIRONMENT_CHARS_MAX: usize = 40;
/// RFC 7518, section 3.2: a key for HS256 has at least as many bits as the hash.
const SECRET_BYTES_MIN: usize = 32;
const DAY: u64 = 86_400;
/// The days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;

/// Parses tokens, separated by commas or white space.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, InvalidValue> {
    let mut tokens: Vec<Token> = Vec::new();
    for (number, entry) in parts(text).enumerate() {
        let invalid = |reason| InvalidValue {
            reason: format!("has an entry, number {}, that {reason}", number + 1),
            good: TOKEN_EXAMPLE.to_owned(),
        };
        let token = token(entry).map_err(invalid)?;
        if tokens.iter().any(|other| other.sha256 == token.sha256) {
            return Err(invalid("has the hash of an earlier one"));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// Parses one token. The error is the reason why it is invalid.
fn token(entry: &str) -> Result<Token, &'static str> {
    let mut fields = entry.split(':');
    let mut field = || fields.next().unwrap_or_default();
    let name = field();
    let role = field();
    let hash = field();
    let date = field();
    if fields.next().is_some() || hash.is_empty() {
        return Err("is not NAME:ROLE:SHA256 or NAME:ROLE:SHA256:YYYY-MM-DD");
    }
    if !is_token_name(name) {
        return Err("has no name of 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'");
    }
    let role = Role::from_word(role).ok_or("has a role other than viewer, operator and admin")?;
    let sha256 = sha256(hash).ok_or("has no SHA-256 hash of 64 hexadecimal digits")?;
    let expires_at = match date {
        "" => None,
        date => Some(end_of_day(date).ok_or("has an expiry that is no date like 2027-01-31")?),
    };
    Ok(Token { name: name.to_owned(), role, sha256, expires_at })
}

/// True if the text is a valid name of a token: 1 to 64 of `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`.
#[must_use]
pub fn is_token_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(is_good)
}

/// Parses a SHA-256 hash in hexadecimal.
fn sha256(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// The end of a day in UTC, from a date in ISO 8601 format (`YYYY-MM-DD`); `None` if the text is
/// not a date. A token that expires on a day is valid until the end of that day.
#[must_use]
pub fn end_of_day(date: &str) -> Option<SystemTime> {
    let bytes = date.as_bytes();
    if bytes.len() != 10 || bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    let number = |from, to| -> Option<u64> {
        let digits = date.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let year = number(0, 4)?;
    let month = number(5, 7)?;
    let day = number(8, 10)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=9998).contains(&year) || !(1..=days_in_month).contains(&day) {
        return None;
    }
    let seconds = (days_before(year, month, day) + 1) * DAY;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The days from 1970-01-01 to a date of the Gregorian calendar.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    // Years are counted from March, so that the leap day is the last day of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days - DAYS_BEFORE_1970
}

/// Checks that a secret is long enough for HS256.
pub(super) fn jwt_secret(text: &str) -> Result<(), InvalidValue> {
    if text.len() >= SECRET_BYTES_MIN {
        return Ok(());
    }
    let reason = format!("is shorter than {SECRET_BYTES_MIN} bytes, so it can be guessed");
    Err(InvalidValue { reason, good: "the whole JWT secret of the project".to_owned() })
}

/// Parses the URL of a JSON Web Key Set.
pub(super) fn jwks_url(text: &str) -> Result<Url, InvalidValue> {
    let invalid = |reason: String| InvalidValue { reason, good: JWKS_EXAMPLE.to_owned() };
    let url = Url::parse(text).map_err(|error| invalid(format!("is not a URL ({error})")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("has a user or a password; keys are public".to_owned()));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => {
            let reason = "is http:// to another machine, where anybody on the way can give keys";
            Err(invalid(reason.to_owned()))
        }
        scheme => Err(invalid(format!("has the scheme {scheme}:, not https://"))),
    }
}

/// The issuer that follows from a JWKS URL of Supabase Auth: the URL without its well-known path;
/// `None` for other URLs.
pub(super) fn issuer_of(jwks: &Url) -> Option<String> {
    jwks.as_str().strip_suffix("/.well-known/jwks.json").map(str::to_owned)
}

/// Parses the path of the claim that contains the role.
pub(super) fn role_claim(text: &str) -> Result<Vec<String>, InvalidValue> {
    let invalid =
        |reason: &str| InvalidValue { reason: reason.to_owned(), good: CLAIM_EXAMPLE.to_owned() };
    let path: Vec<String> = text.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(invalid("is not a claim's name or names with dots between them"));
    }
    let first = path.first().map_or("", String::as_str);
    if first == "user_metadata" || first == "raw_user_meta_data" {
        return Err(invalid(
            "names what users can change themselves, so all of them could be admin",
        ));
    }
    Ok(path)
}

/// Parses origins, separated by commas or white space, in the form of the header `Origin`.
pub(super) fn origins(text: &str) -> Result<Vec<String>, InvalidValue> {
    let mut origins = Vec::new();
    for part in parts(text) {
        let invalid = |reason: &str| InvalidValue {
            reason: format!("{reason}; an origin is a scheme, a host and a port, no more"),
            good: ORIGIN_EXAMPLE.to_owned(),
        };
        if part.contains('*') {
            return Err(invalid("has a `*`, and would let every site in"));
        }
        let url = Url::parse(part).map_err(|_| invalid("has what is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("has a scheme other than http:// and https://"));
        }
        let alone = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !alone || !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("has a user, a path, a query or a fragment"));
        }
        let origin = url.origin().ascii_serialization();
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    Ok(origins)
}

/// Parses names of hosts, separated by commas or white space.
pub(super) fn hosts(text: &str) -> Result<Vec<String>, InvalidValue> {
    let host = |part: &str| match Host::parse(part) {
        Ok(Host::Domain(name)) if !part.contains('*') => Ok(name),
        _ => Err(InvalidValue {
            reason: "has what is not the name of a host; no scheme, port, path or `*`".to_owned(),
            good: HOST_EXAMPLE.to_owned(),
        }),
    };
    parts(text).map(host).collect()
}

/// Why a text cannot be the label of an installation.
pub(super) fn environment_reason(label: &str) -> Option<&'static str> {
    let good =
        label.chars().count() <= ENVIRONMENT_CHARS_MAX && !label.chars().any(char::is_control);
    (!good).then_some("is longer than 40 characters or has control characters in it")
}

/// The parts of a list that is separated by commas or white space.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{end_of_day, hosts, issuer_of, jwks_url, jwt_secret, origins, role_claim, tokens};
    use crate::config::Role;

    #[test]
    fn entries_are_read_from_one_line_or_many() {
        let one = "ab".repeat(32);
        let two = "CD".repeat(32);
        let text = format!("ann:viewer:{one},\n  ci.bot:admin:{two}:2027-01-31 \n");
        let read = tokens(&text).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].name.as_str(), read[0].role), ("ann", Role::Viewer));
        assert_eq!((read[0].sha256, read[0].expires_at), ([0xab; 32], None));
        assert_eq!((read[1].name.as_str(), read[1].role), ("ci.bot", Role::Admin));
        assert_eq!(read[1].sha256, [0xcd; 32]);
        assert_eq!(read[1].expires_at, end_of_day("2027-01-31"));
        assert!(tokens(" ,\n").unwrap().is_empty());
    }

    #[test]
    fn a_bad_entry_is_counted_and_never_quoted() {
        let hash = "ab".repeat(32);
        let check = |text: &str, expected: &str| {
            let fault = tokens(text).map(|read| read.len()).expect_err(text);
            assert!(fault.reason.contains(expected), "{text}: {}", fault.reason);
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        };
        check("wf_hunter2", "number 1, that is not NAME:ROLE:SHA256");
        check(&format!("a:viewer:{hash} hunter2:x"), "number 2, that is not");
        check(&format!("hunter2 :viewer:{hash}"), "number 1");
        check(&format!("a@hunter2:viewer:{hash}"), "has no name of 1 to 64");
        check(&format!("a:hunter2:{hash}"), "a role other than viewer, operator and admin");
        check(&format!("a:Viewer:{hash}"), "a role other than");
        check("a:viewer:hunter2", "64 hexadecimal digits");
        check(&format!("a:viewer:+{}", hash.trim_start_matches('a')), "64 hexadecimal digits");
        check(&format!("a:viewer:{hash}:hunter2"), "no date like 2027-01-31");
        check(&format!("a:viewer:{hash}:2027-02-29"), "no date");
        check(&format!("a:viewer:{hash}:2027-01-31:x"), "is not NAME:ROLE:SHA256");
        check(&format!("a:viewer:{hash} b:admin:{hash}"), "number 2, that has the hash");
    }

    #[test]
    fn a_date_lasts_to_its_end() {
        let check = |date: &str, seconds: Option<u64>| {
            let expected = seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(end_of_day(date), expected, "{date}");
        };
        check("1970-01-01", Some(86_400));
        check("2000-02-29", Some(951_868_800));
        check("2027-01-31", Some(1_801_440_000));
        check("2026-12-31", Some(1_798_761_600));
        check("2100-02-29", None);
        check("2026-13-01", None);
        check("2026-00-01", None);
        check("2026-04-31", None);
        check("2026-1-1", None);
        check("+026-01-01", None);
        check("202é-01-1", None);
        check("0000-01-01", None);
    }

    #[test]
    fn keys_are_read_over_authenticated_connections_only() {
        assert!(jwks_url("https://p.supabase.co/auth/v1/.well-known/jwks.json").is_ok());
        assert!(jwks_url("http://127.0.0.1:9999/.well-known/jwks.json").is_ok());
        let check = |text: &str, expected: &str| {
            let fault = jwks_url(text).expect_err(text);
            assert!(fault.reason.contains(expected), "{text}: {}", fault.reason);
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        };
        check("http://auth.example/jwks", "anybody on the way");
        check("file:///etc/passwd", "has the scheme file:");
        check("hunter2", "is not a URL");
        check("https://a:hunter2@auth.example/jwks", "keys are public");
    }

    #[test]
    fn the_issuer_follows_from_supabase_s_address() {
        let issuer = |url: &str| issuer_of(&url.parse().unwrap());
        let url = "https://p.supabase.co/auth/v1/.well-known/jwks.json";
        assert_eq!(issuer(url).as_deref(), Some("https://p.supabase.co/auth/v1"));
        assert_eq!(issuer("https://auth.example/keys"), None);
    }

    #[test]
    fn the_role_claim_is_not_one_that_users_can_change() {
        assert_eq!(role_claim("app_metadata.roles.walferry").unwrap().len(), 3);
        for text in ["user_metadata.role", "user_metadata", "raw_user_meta_data.role"] {
            assert!(role_claim(text).unwrap_err().reason.contains("can change themselves"));
        }
        assert!(role_claim("a..b").is_err() && role_claim(".").is_err());
    }

    #[test]
    fn short_secrets_are_refused() {
        assert!(jwt_secret(&"x".repeat(32)).is_ok());
        assert!(jwt_secret(&"x".repeat(31)).unwrap_err().reason.contains("32 bytes"));
    }

    #[test]
    fn hosts_are_names_alone() {
        assert_eq!(hosts("A.example, b").unwrap(), ["a.example", "b"]);
        for text in ["a.example:1", "http://a", "*.example", "127.0.0.1", "a/b", "[::1]"] {
            assert!(hosts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn origins_are_exact() {
        let read = origins("https://A.example:443/, http://b.example:8080 http://b.example:8080");
        assert_eq!(read.unwrap(), ["https://a.example", "http://b.example:8080"]);
        for text in ["*", "https://*.example", "a.example", "ftp://a", "https://a/b", "https://a?b"]
        {
            assert!(origins(text).is_err(), "{text}");
        }
        assert!(origins("null").is_err() && origins("https://u@a.example").is_err());
    }
}
