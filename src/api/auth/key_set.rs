//! A JSON Web Key Set: text → the public keys in it that tokens may be signed with. Pure.
//!
//! Keys of other kinds, for other uses or for other algorithms are left out. So are secrets, since a
//! published secret is none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// A token without a key's id is tried with this many.
const KEYS_MAX: usize = 16;
const P256_BYTES: usize = 32;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Es256,
    Rs256,
}

impl Algorithm {
    /// The algorithm by the name that RFC 7518 gives it.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word {
            "HS256" => Some(Self::Hs256),
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }
}

/// A public key and the one algorithm that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub(super) id: Option<String>,
    pub(super) material: KeyMaterial,
}

/// What a key is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyMaterial {
    /// An uncompressed point.
    P256 {
        point: Vec<u8>,
    },
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

impl PublicKey {
    pub(super) const fn algorithm(&self) -> Algorithm {
        match self.material {
            KeyMaterial::P256 { .. } => Algorithm::Es256,
            KeyMaterial::Rsa { .. } => Algorithm::Rs256,
        }
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// The keys of a set; `None` if it is none.
pub(super) fn parse(text: &[u8]) -> Option<Vec<PublicKey>> {
    let set: Set = serde_json::from_slice(text).ok()?;
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
    Some(keys.filter_map(key).take(KEYS_MAX).collect())
}

fn key(jwk: Jwk) -> Option<PublicKey> {
    let for_signatures = jwk.r#use.as_deref().is_none_or(|word| word == "sig")
        && jwk.key_ops.as_ref().is_none_or(|words| words.iter().any(|word| word == "verify"));
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("EC", Some("P-256")) => {
            let x = decoded(jwk.x)?;
            let y = decoded(jwk.y)?;
            if x.len() != P256_BYTES || y.len() != P256_BYTES {
                return None;
            }
            KeyMaterial::P256 { point: [&[4], x.as_slice(), y.as_slice()].concat() }
        }
        ("RSA", None) => KeyMaterial::Rsa { modulus: number(jwk.n)?, exponent: number(jwk.e)? },
        _ => return None,
    };
    let key = PublicKey { id: jwk.kid, material };
    let named = jwk.alg.is_none_or(|word| Algorithm::from_word(&word) == Some(key.algorithm()));
    (for_signatures && named).then_some(key)
}

fn decoded(text: Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

/// Without leading zeros, which some write.
fn number(text: Option<String>) -> Option<Vec<u8>> {
    let bytes = decoded(text)?;
    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_public_keys_for_signatures_are_taken() {
        let count = |text: &str| parse(text.as_bytes()).map(|keys| keys.len());
        let zeros = "A".repeat(43);
        let ec = |more: &str| {
            format!(
                r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{zeros}","y":"{zeros}"{more}}}]}}"#
            )
        };
        assert_eq!(count(&ec("")), Some(1));
        assert_eq!(count(&ec(r#","alg":"ES256","use":"sig","key_ops":["verify"]"#)), Some(1));
        assert_eq!(count(&ec(r#","use":"enc""#)), Some(0));
        assert_eq!(count(&ec(r#","key_ops":["sign"]"#)), Some(0));
        assert_eq!(count(&ec(r#","alg":"HS256""#)), Some(0));
        assert_eq!(count(&ec(r#","alg":"RS256""#)), Some(0));
        assert_eq!(count(&ec("").replace("P-256", "P-384")), Some(0));
        assert_eq!(count(&ec("").replace(&zeros, "AA")), Some(0));
        assert_eq!(count(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#), Some(0));
        assert_eq!(count(r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},7]}"#), Some(1));
        assert_eq!(count(r#"{"keys":[]}"#), Some(0));
        assert_eq!(count(r#"{"error":"x"}"#), None);
        assert_eq!(count("<html>"), None);
    }
}
