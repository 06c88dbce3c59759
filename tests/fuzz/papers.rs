//! What comes from strangers before anything is known of them: certificates, keys, tokens.
//!
//! Their seeds are in the corpora alone: keys are drawn, so that nothing would be the same when it is made again.

use std::sync::LazyLock;

use mgmt_consensus::ClusterId;
use mgmt_consensus::authority::token::Token;
use mgmt_consensus::authority::{Authority, Certificate, certificates_from_pem, key_from_pem, pem_of_certificates};

/// Who has signed nothing of what is read here.
static AUTHORITY: LazyLock<Authority> =
    LazyLock::new(|| Authority::create(ClusterId(1), 1_800_000_000).expect("there is chance, and it is not too late"));

/// A certificate that can be read says what it says, and nobody who did not sign it has signed it.
pub fn certificates(bytes: &[u8]) {
    if let Ok(certificate) = Certificate::from_der(bytes.to_vec()) {
        assert_eq!(certificate.der(), bytes);
        assert!(!certificate.signed_by(AUTHORITY.certificate()), "it was made out of nothing");
        let (badge, cluster) = (certificate.badge(), certificate.authority_of());
        assert!(badge.is_err() || cluster.is_err(), "a peer is no authority");
        if let Ok(badge) = badge {
            assert!(mgmt_consensus::identity::check_host(&badge.host).is_ok());
        }
        let text = pem_of_certificates(std::slice::from_ref(&certificate));
        assert_eq!(certificates_from_pem(text.as_bytes()).expect("it was just written"), [certificate]);
    }
    drop(certificates_from_pem(bytes));
    drop(key_from_pem(bytes));
}

/// A token that can be read is written the same.
pub fn tokens(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string(), text.trim(), "one token has one text");
        assert_eq!(token.id.len(), 8);
    }
}

/// For measuring what reading takes.
pub fn read_certificates(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = bytes.to_vec();
    Box::new(move || drop(Certificate::from_der(bytes).map(|certificate| certificate.badge())))
}

/// For measuring what reading takes.
pub fn read_tokens(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    Box::new(move || drop(text.parse::<Token>()))
}
