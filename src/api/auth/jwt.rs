//! JSON Web Tokens: three parts of text → claims, if a known key has signed them. Pure.
//!
//! The algorithm decides which keys are tried, and a key is of one algorithm only: a public key is
//! never taken for a secret. `none` is no algorithm here. References to keys in a header (`jku`, `x5u`,
//! `jwk`, `x5c`) are not read.
//!
//! Not here: where keys come from (`keys`), and what claims must say (`claims`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims::Claims;
use super::key_set::{Algorithm, KeyMaterial, PublicKey};
use super::refusal::AuthRefusal;

/// A token before its signature is verified.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    pub(super) algorithm: Algorithm,
    /// Which key has signed it.
    pub(super) key_id: Option<String>,
    signed: &'a str,
    signature: Vec<u8>,
    payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; walferry knows none.
    crit: Option<Value>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'a str) -> Result<Self, AuthRefusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or(AuthRefusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(AuthRefusal::Malformed)?;
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthRefusal::Malformed);
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| AuthRefusal::Malformed)?;
        if header.crit.is_some() {
            return Err(AuthRefusal::Malformed);
        }
        let algorithm = Algorithm::from_word(&header.alg).ok_or(AuthRefusal::Unknown)?;
        let payload = decode(payload)?;
        let signature = decode(signature)?;
        Ok(Self { algorithm, key_id: header.kid, signed, signature, payload })
    }

    /// Its claims, if the secret has signed it.
    pub(super) fn verify_secret(self, secret: &hmac::Key) -> Result<Claims, AuthRefusal> {
        let signed = self.algorithm == Algorithm::Hs256
            && hmac::verify(secret, self.signed.as_bytes(), &self.signature).is_ok();
        self.claims_if(signed)
    }

    /// Its claims, if one of these keys has signed it.
    pub(super) fn verify_keys(self, keys: &[PublicKey]) -> Result<Claims, AuthRefusal> {
        let signed = keys.iter().filter(|key| self.may_be_of(key)).any(|key| self.is_of(key));
        self.claims_if(signed)
    }

    /// Whether a key is the one that the header names.
    pub(super) fn may_be_of(&self, key: &PublicKey) -> bool {
        let named = self.key_id.is_none() || self.key_id == key.id;
        named && key.algorithm() == self.algorithm
    }

    fn is_of(&self, key: &PublicKey) -> bool {
        let signed = self.signed.as_bytes();
        match &key.material {
            KeyMaterial::P256 { point } => {
                let key =
                    signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                key.verify(signed, &self.signature).is_ok()
            }
            KeyMaterial::Rsa { modulus, exponent } => {
                let key = signature::RsaPublicKeyComponents { n: modulus, e: exponent };
                let algorithm = &signature::RSA_PKCS1_2048_8192_SHA256;
                key.verify(algorithm, signed, &self.signature).is_ok()
            }
        }
    }

    fn claims_if(self, signed: bool) -> Result<Claims, AuthRefusal> {
        if !signed {
            return Err(AuthRefusal::Unknown);
        }
        let claims: Map<String, Value> =
            serde_json::from_slice(&self.payload).map_err(|_| AuthRefusal::Malformed)?;
        Ok(Claims(claims))
    }
}
