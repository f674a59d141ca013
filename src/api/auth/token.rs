//! Tokens of walferry's own: 256 random bits, of which the configuration has the SHA-256 only.
//!
//! No salt and no slow hash: 256 random bits cannot be guessed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use crate::config::Token;
use crate::value;

/// Makes a leaked token easy to find in a log or a repository.
const PREFIX: &str = "wf_";
const RANDOM_BYTES: usize = 32;
/// Half of a token's bits, as text. A shorter token was not generated.
const CHARS_MIN: usize = 24;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the system gives no random numbers; try again")]
    Random,
    #[error(
        "a token of fewer than {CHARS_MIN} characters can be guessed; take one from `walferry token create`"
    )]
    Short,
    #[error(
        "a token with white space or characters beyond ASCII in it can't be sent; take one from `walferry token create`"
    )]
    Characters,
}

/// A new token.
///
/// # Errors
///
/// [`TokenError::Random`].
pub fn generate() -> Result<String, TokenError> {
    let mut bytes = [0; RANDOM_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::Random)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The hash of a token, as an entry of the configuration has it.
///
/// # Errors
///
/// The token could not be used, or be guessed.
pub fn hash(token: &str) -> Result<String, TokenError> {
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Characters);
    }
    if token.len() < CHARS_MIN {
        return Err(TokenError::Short);
    }
    Ok(value::hex(&Sha256::digest(token)))
}

/// The entry that a token belongs to. All entries are compared, each to its end, so that the time
/// taken is the same for every token.
pub(super) fn find<'a>(tokens: &'a [Token], presented: &str) -> Option<&'a Token> {
    let hash: [u8; 32] = Sha256::digest(presented).into();
    tokens
        .iter()
        .fold(None, |found, token| if same(&token.sha256, &hash) { Some(token) } else { found })
}

fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let difference = left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::{find, generate, hash};
    use crate::config::{Role, Token};

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let one = generate().unwrap();
        let two = generate().unwrap();
        assert!(one.starts_with("wf_") && one.len() == 46, "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn a_token_is_found_by_its_hash_only() {
        let entry = |name: &str, token: &str| {
            let sha256 = Sha256::digest(token).into();
            Token { name: name.to_owned(), role: Role::Viewer, sha256, expires_at: None }
        };
        let one = generate().unwrap();
        let two = generate().unwrap();
        let tokens = [entry("one", &one), entry("two", &two)];
        assert_eq!(find(&tokens, &one).unwrap().name, "one");
        assert_eq!(find(&tokens, &two).unwrap().name, "two");
        for wrong in ["", one.get(..45).unwrap(), &format!("{one}A"), &hash(&one).unwrap(), "wf_"] {
            assert!(find(&tokens, wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_can_be_guessed_is_not_hashed() {
        let known = "abcdefghijklmnopqrstuvwxyz";
        let expected = "71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73";
        assert_eq!(hash(known).unwrap(), expected);
        assert!(hash("hunter2").is_err() && hash(&"ö".repeat(40)).is_err());
        assert!(hash(&format!("{known} {known}")).is_err());
    }
}
