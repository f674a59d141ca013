//! Good and forged tokens, and whether they are accepted. Tests only.
//!
//! The tokens and the key set of `tests/fixtures/jwt` were made by OpenSSL; their private keys are
//! gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::identity::Identity;
use super::jwt::Unverified;
use super::key_set::{self, KeyMaterial, PublicKey};
use super::refusal::AuthRefusal;
use crate::config::{Jwt, Role, Secret};

pub(super) const RS256: &str = include_str!("../../../tests/fixtures/jwt/rs256.jwt");
pub(super) const ES256: &str = include_str!("../../../tests/fixtures/jwt/es256.jwt");
pub(super) const JWKS: &str = include_str!("../../../tests/fixtures/jwt/jwks.json");
const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";
/// Within the fixtures' time.
const NOW: u64 = 1_900_000_100;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

pub(super) fn rules() -> Jwt {
    Jwt {
        secret: Some(Secret(SECRET.to_owned())),
        jwks_url: None,
        issuer: "https://auth.example".to_owned(),
        audience: "authenticated".to_owned(),
        role_claim: vec!["app_metadata".to_owned(), "walferry_role".to_owned()],
    }
}

fn secret() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes())
}

fn keys() -> Vec<PublicKey> {
    key_set::parse(JWKS.as_bytes()).unwrap()
}

fn base64(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Signed with HMAC-SHA-256, for any header.
fn signed(header: &Value, claims: &Value, key: &[u8]) -> String {
    let text = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    format!("{text}.{}", base64(tag))
}

fn claims() -> Value {
    json!({
        "iss": "https://auth.example", "aud": "authenticated", "sub": "s-1",
        "exp": NOW + 60, "role": "authenticated", "app_metadata": { "walferry_role": "admin" },
    })
}

/// The good claims with some of them replaced; null removes one.
fn with(changes: &Value) -> Value {
    let mut all = claims();
    let object = all.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        object.remove(name);
        if !value.is_null() {
            object.insert(name.clone(), value.clone());
        }
    }
    all
}

fn by_secret(token: &str) -> Result<Identity, AuthRefusal> {
    Unverified::parse(token)?.verify_secret(&secret())?.identity(&rules(), now())
}

fn by_keys(token: &str) -> Result<Identity, AuthRefusal> {
    Unverified::parse(token.trim())?.verify_keys(&keys())?.identity(&rules(), now())
}

fn of(changes: &Value) -> Result<Identity, AuthRefusal> {
    by_secret(&signed(&json!({ "alg": "HS256", "typ": "JWT" }), &with(changes), SECRET.as_bytes()))
}

fn refuses(changes: &Value, expected: AuthRefusal) {
    assert_eq!(of(changes), Err(expected), "{changes}");
}

#[test]
fn what_openssl_has_signed_is_accepted() {
    for token in [RS256, ES256] {
        let ann = by_keys(token).unwrap();
        assert_eq!(ann.name, "7d4b2f6e-0000-4000-8000-000000000001 ann@example.com");
        assert_eq!(ann.role, Role::Operator);
        assert_eq!(ann.expires_at, Some(UNIX_EPOCH + Duration::from_secs(2_000_000_000)));
    }
    assert_eq!(of(&json!({})).unwrap().role, Role::Admin);
}

#[test]
fn no_algorithm_is_no_signature() {
    for name in ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS512", "PS256", "EdDSA"] {
        let text = format!(
            "{}.{}",
            base64(json!({ "alg": name }).to_string()),
            base64(claims().to_string())
        );
        for token in [format!("{text}."), format!("{text}.AAAA")] {
            assert_eq!(by_secret(&token), Err(AuthRefusal::Unknown), "{name}");
            assert_eq!(by_keys(&token), Err(AuthRefusal::Unknown), "{name}");
        }
    }
    let text = RS256.rsplit_once('.').unwrap().0;
    assert_eq!(by_keys(&format!("{text}.")), Err(AuthRefusal::Unknown));
}

#[test]
fn a_public_key_is_no_secret() {
    for key in keys() {
        let bytes = match &key.material {
            KeyMaterial::P256 { point } => point.clone(),
            KeyMaterial::Rsa { modulus, .. } => modulus.clone(),
        };
        let id = key.id.clone().unwrap();
        for material in [bytes.clone(), base64(&bytes).into_bytes(), JWKS.as_bytes().to_vec()] {
            for algorithm in ["HS256", "RS256", "ES256"] {
                let header = json!({ "alg": algorithm, "kid": id });
                let token = signed(&header, &claims(), &material);
                assert_eq!(by_keys(&token), Err(AuthRefusal::Unknown), "{algorithm}");
                assert_eq!(by_secret(&token), Err(AuthRefusal::Unknown), "{algorithm}");
            }
        }
    }
    assert_eq!(by_secret(RS256.trim()), Err(AuthRefusal::Unknown));
    let good = signed(&json!({ "alg": "HS256" }), &claims(), SECRET.as_bytes());
    assert_eq!(by_keys(&good), Err(AuthRefusal::Unknown));
}

#[test]
fn a_key_is_used_for_its_own_name_only() {
    let renamed = |name: &str| {
        let mut keys = keys();
        keys.iter_mut().for_each(|key| key.id = Some(name.to_owned()));
        Unverified::parse(RS256.trim()).unwrap().verify_keys(&keys).is_ok()
    };
    assert!(renamed("rsa-1") && !renamed("rsa-2"));
}

#[test]
fn a_header_cannot_bring_its_own_key() {
    let header = json!({
        "alg": "HS256", "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/",
        "jwk": { "kty": "oct", "k": base64("mine") },
    });
    assert_eq!(by_secret(&signed(&header, &claims(), b"mine")), Err(AuthRefusal::Unknown));
    let critical = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
    let token = signed(&critical, &claims(), SECRET.as_bytes());
    assert_eq!(by_secret(&token), Err(AuthRefusal::Malformed));
    let twice = base64(r#"{"alg":"none","alg":"HS256"}"#);
    assert_eq!(by_secret(&format!("{twice}.e30.AAAA")), Err(AuthRefusal::Malformed));
}

#[test]
fn nothing_can_be_changed_after_signing() {
    for token in [RS256, ES256] {
        let (signed, signature) = token.trim().rsplit_once('.').unwrap();
        let header = signed.split_once('.').unwrap().0;
        let other = base64(claims().to_string());
        assert_eq!(by_keys(&format!("{header}.{other}.{signature}")), Err(AuthRefusal::Unknown));
        let (_, rest) = signature.split_at(4);
        assert_eq!(by_keys(&format!("{signed}.AAAA{rest}")), Err(AuthRefusal::Unknown));
        let zeros = base64(vec![0; URL_SAFE_NO_PAD.decode(signature).unwrap().len()]);
        assert_eq!(by_keys(&format!("{signed}.{zeros}")), Err(AuthRefusal::Unknown));
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    for token in
        ["", ".", "..", "a.b", "a.b.c.d", "e30.e30.", "e30=.e30.AA", "!!.e30.AA", "bnVsbA.e30.AA"]
    {
        assert_eq!(by_secret(token), Err(AuthRefusal::Malformed), "{token}");
    }
    let header = base64(r#"{"alg":"HS256"}"#);
    for payload in ["null", "[]", "1", "not JSON", r#"{"exp":1e999}"#] {
        let text = format!("{header}.{}", base64(payload));
        let tag = base64(hmac::sign(&secret(), text.as_bytes()));
        assert_eq!(by_secret(&format!("{text}.{tag}")), Err(AuthRefusal::Malformed), "{payload}");
    }
}

#[test]
fn times_have_a_leeway_and_a_type() {
    assert!(of(&json!({ "exp": NOW - 29 })).is_ok());
    assert!(of(&json!({ "exp": NOW as f64 + 0.5 })).is_ok());
    refuses(&json!({ "exp": NOW - 30 }), AuthRefusal::Expired);
    refuses(&json!({ "exp": -5 }), AuthRefusal::Expired);
    refuses(&json!({ "exp": null }), AuthRefusal::Malformed);
    refuses(&json!({ "exp": "9999999999" }), AuthRefusal::Malformed);
    assert!(of(&json!({ "exp": 1e300 })).is_ok());
    assert!(of(&json!({ "nbf": NOW + 30 })).is_ok());
    refuses(&json!({ "nbf": NOW + 31 }), AuthRefusal::NotYet);
    refuses(&json!({ "nbf": "0" }), AuthRefusal::Malformed);
    refuses(&json!({ "nbf": [0] }), AuthRefusal::Malformed);
}

#[test]
fn tokens_for_others_are_refused() {
    assert!(of(&json!({ "aud": ["x", "authenticated"] })).is_ok());
    refuses(&json!({ "aud": null }), AuthRefusal::Foreign);
    refuses(&json!({ "aud": "x" }), AuthRefusal::Foreign);
    refuses(&json!({ "aud": [] }), AuthRefusal::Foreign);
    refuses(&json!({ "aud": ["authenticated", 1] }), AuthRefusal::Malformed);
    refuses(&json!({ "aud": { "authenticated": 1 } }), AuthRefusal::Malformed);
    refuses(&json!({ "iss": null }), AuthRefusal::Foreign);
    refuses(&json!({ "iss": "https://auth.example/" }), AuthRefusal::Foreign);
    refuses(&json!({ "iss": ["https://auth.example"] }), AuthRefusal::Malformed);
    refuses(&json!({ "sub": null }), AuthRefusal::Malformed);
    refuses(&json!({ "sub": "" }), AuthRefusal::Malformed);
}

#[test]
fn a_role_is_given_and_not_taken() {
    let role = |changes: &Value| of(changes).map(|identity| identity.role);
    let no_role = json!({ "walferry_role": null });
    for app in [json!(null), json!({}), no_role.clone(), json!("admin"), json!(["walferry_role"])] {
        refuses(&json!({ "app_metadata": app }), AuthRefusal::RoleMissing);
        let user = json!({ "walferry_role": "admin", "user_role": "admin" });
        refuses(&json!({ "app_metadata": app, "user_metadata": user }), AuthRefusal::RoleMissing);
        refuses(
            &json!({ "app_metadata": app, "walferry_role": "admin" }),
            AuthRefusal::RoleMissing,
        );
        refuses(&json!({ "app_metadata": app, "user_role": "admin" }), AuthRefusal::RoleMissing);
    }
    for word in ["authenticated", "anon", "service_role", "postgres", "admin"] {
        refuses(&json!({ "app_metadata": {}, "role": word }), AuthRefusal::RoleMissing);
    }
    for word in [json!("Admin"), json!("none"), json!(true), json!(["admin"]), json!("")] {
        let given = json!({ "app_metadata": { "walferry_role": word }, "user_role": "admin" });
        refuses(&given, AuthRefusal::RoleMissing);
    }
    refuses(&json!({ "role": "anon" }), AuthRefusal::RoleMissing);
    refuses(&json!({ "is_anonymous": true }), AuthRefusal::RoleMissing);
    assert_eq!(role(&json!({ "is_anonymous": false })), Ok(Role::Admin));
}

#[test]
fn a_name_fits_into_a_line() {
    let name = |changes: &Value| of(changes).unwrap().name;
    assert_eq!(name(&json!({ "sub": "a\n\u{1b}[2Jb" })), "a[2Jb");
    assert_eq!(name(&json!({ "email": "x".repeat(900) })).len(), 200);
}
