//! TLS with libpq's `sslmode`, by rustls.
//!
//! `prefer` and `require` encrypt the connection and do not verify the certificate; `require` with
//! root certificates verifies as `verify-ca` does (libpq, "SSL Mode Descriptions"). `verify-ca`
//! verifies the certificate chain, and `verify-full` the host name as well. A server certificate
//! that is contained in the file of roots is trusted, as OpenSSL trusts self-signed certificates.
//! The host name is compared with the certificate's subjectAltName only.
//!
//! Not here: sockets. The process-wide crypto provider is neither needed nor set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::config::SslMode;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read sslrootcert {path}: {reason}; name a PEM file of certificates")]
    RootFile { path: PathBuf, reason: String },
    #[error("no certificate authority in {0}; name a PEM file of certificates in sslrootcert")]
    NoRoots(String),
    #[error("cannot set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The TLS client configuration for an `sslmode`. `roots` is a PEM file (`sslrootcert`); `None`
/// uses the system's certificate store.
///
/// # Errors
/// [`TlsError`] if the certificate authorities are needed and cannot be read.
pub fn client_config(mode: SslMode, roots: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verification = match mode {
        SslMode::Disable | SslMode::Prefer => Verification::None,
        SslMode::Require if roots.is_none() => Verification::None,
        SslMode::Require | SslMode::VerifyCa => Verification::Chain(trust(roots, &provider)?),
        SslMode::VerifyFull => Verification::ChainAndName(trust(roots, &provider)?),
    };
    let verifier = Verifier { verification, provider: Arc::clone(&provider) };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// The hash of a certificate for SCRAM's channel binding `tls-server-end-point` (RFC 5929, section
/// 4.1); `None` for signature algorithms that the RFC does not define.
#[must_use]
pub fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    let oid = signature_algorithm(certificate)?;
    let (last, family) = oid.split_last()?;
    let hash = match (family, last) {
        // The RFC replaces MD5 and SHA-1 by SHA-256.
        (RSA, 4 | 5 | 11) | (ECDSA_SHA2, 2) => Sha256::digest(certificate).to_vec(),
        (RSA, 12) | (ECDSA_SHA2, 3) => Sha384::digest(certificate).to_vec(),
        (RSA, 13) | (ECDSA_SHA2, 4) => Sha512::digest(certificate).to_vec(),
        _ => return None,
    };
    Some(hash)
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OID … } … }`
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (certificate, _) = der(certificate, SEQUENCE)?;
    let (_to_be_signed, rest) = der(certificate, SEQUENCE)?;
    let (algorithm, _) = der(rest, SEQUENCE)?;
    Some(der(algorithm, OBJECT_IDENTIFIER)?.0)
}

/// The content of the DER element at the beginning of `bytes`, and the bytes after it; `None` if
/// the element has another tag or is truncated.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |n, &digit| n << 8 | usize::from(digit)), rest)
    };
    if found == tag { rest.split_at_checked(length) } else { None }
}

/// The certificate authorities of a file, or of the system.
fn trust(roots: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<TrustedRoots, TlsError> {
    let (certificates, origin) = match roots {
        Some(path) => (read_roots(path)?, path.display().to_string()),
        None => (
            rustls_native_certs::load_native_certs().certs,
            "the system's certificate store".to_owned(),
        ),
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    if store.is_empty() {
        return Err(TlsError::NoRoots(origin));
    }
    let chain_verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(TrustedRoots {
        chain_verifier,
        file: if roots.is_some() { certificates } else { Vec::new() },
    })
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| TlsError::RootFile { path: path.to_owned(), reason: error.to_string() })
}

/// The verification of a server certificate.
#[derive(Debug)]
enum Verification {
    None,
    Chain(TrustedRoots),
    ChainAndName(TrustedRoots),
}

#[derive(Debug)]
struct TrustedRoots {
    chain_verifier: Arc<WebPkiServerVerifier>,
    /// The certificates of `sslrootcert`; empty if the system's store is used.
    file: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
struct Verifier {
    verification: Verification,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (roots, verifies_name) = match &self.verification {
            Verification::None => return Ok(ServerCertVerified::assertion()),
            Verification::Chain(roots) => (roots, false),
            Verification::ChainAndName(roots) => (roots, true),
        };
        if roots.file.iter().any(|root| root == end_entity) {
            if verifies_name {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        let verified = roots.chain_verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The verifier checks the name after the chain, so the chain is valid here.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !verifies_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_der_has_no_content() {
        for bytes in [&[][..], &[0x30], &[0x30, 0x05, 0], &[0x30, 0x84, 1, 1], &[0x31, 0]] {
            assert_eq!(der(bytes, 0x30), None, "{bytes:?}");
        }
        assert_eq!(der(&[0x30, 0x81, 1, 9, 7], 0x30), Some((&[9][..], &[7][..])));
    }

    #[test]
    fn the_hash_follows_the_signature_algorithm() {
        let certificate = |oid: &[u8]| {
            let mut algorithm = vec![0x06, u8::try_from(oid.len()).unwrap()];
            algorithm.extend_from_slice(oid);
            let mut body = vec![0x30, 0x00, 0x30, u8::try_from(algorithm.len()).unwrap()];
            body.extend_from_slice(&algorithm);
            let mut whole = vec![0x30, u8::try_from(body.len()).unwrap()];
            whole.extend_from_slice(&body);
            end_point_hash(&whole).map(|hash| hash.len())
        };
        let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
        let with = |last: u8| certificate(&[&rsa[..], &[last]].concat());
        assert_eq!(
            [with(5), with(11), with(12), with(13)],
            [Some(32), Some(32), Some(48), Some(64)]
        );
        // RSA-PSS and Ed25519 have no defined hash.
        assert_eq!([with(10), certificate(&[0x2b, 0x65, 0x70])], [None, None]);
    }

    #[test]
    fn roots_that_cannot_be_read_are_named() {
        let error = client_config(SslMode::VerifyCa, Some(Path::new("/nowhere.pem")));
        assert!(error.unwrap_err().to_string().contains("/nowhere.pem"));
    }
}
