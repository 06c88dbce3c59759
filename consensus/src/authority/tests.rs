//! Certificates, keys and tokens: what is made is taken by TLS, and what was changed is not.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

use super::token::Token;
use super::*;
use crate::identity::{ClusterId, PeerId};

const NOW_S: u64 = 1_800_000_000;

fn badge(role: Role) -> Badge {
    Badge { cluster: ClusterId(0xc1), peer: PeerId(0xbee), host: "web1.example".to_owned(), role }
}

fn authority() -> Authority {
    Authority::create(ClusterId(0xc1), NOW_S).unwrap()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(authorities: &[&Authority]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(authority.certificate().der().to_vec())).unwrap();
    }
    Arc::new(roots)
}

/// What TLS says of a certificate, as server and as client.
fn tls(authorities: &[&Authority], certificate: &[u8], name: &str, now_s: u64) -> (bool, bool) {
    let leaf = CertificateDer::from(certificate.to_vec());
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    let servers = WebPkiServerVerifier::builder_with_provider(roots(authorities), provider()).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let server = servers.verify_server_cert(&leaf, &[], &name, &[], now);
    let clients = WebPkiClientVerifier::builder_with_provider(roots(authorities), provider()).build().unwrap();
    (server.is_ok(), clients.verify_client_cert(&leaf, &[], now).is_ok())
}

#[test]
fn a_certificate_says_what_it_was_made_for_and_tls_takes_it() {
    let (authority, key) = (authority(), KeyPair::generate().unwrap());
    for role in Role::ALL {
        let made = authority.issue(&badge(*role), &key.public_key(), NOW_S).unwrap();
        assert_eq!(made.badge(), Ok(badge(*role)));
        let again = Certificate::from_der(made.der().to_vec()).unwrap();
        assert_eq!(again, made);
        assert_eq!(*again.public_key(), key.public_key());
        assert_eq!(again.key_hash(), key_hash(&key.public_key()));
        assert!(again.signed_by(authority.certificate()));
        let name = server_name(PeerId(0xbee));
        assert_eq!(name, "00000000000000000000000000000bee.mgmt");
        assert_eq!(tls(&[&authority], made.der(), &name, NOW_S), (true, true));
        assert_eq!(tls(&[&authority], made.der(), &server_name(PeerId(1)), NOW_S), (false, true));
    }
}

#[test]
fn a_certificate_counts_for_90_days_and_an_authority_for_10_years() {
    let (authority, key) = (authority(), KeyPair::generate().unwrap());
    let made = authority.issue(&badge(Role::Agent), &key.public_key(), NOW_S).unwrap();
    let name = server_name(PeerId(0xbee));
    let end = NOW_S + 90 * DAY_S;
    for (at, counts) in [(NOW_S - SKEW_S - 1, false), (NOW_S - SKEW_S, true), (end, true), (end + 1, false)] {
        assert_eq!(made.counts_at(at), counts, "{at}");
        assert_eq!(tls(&[&authority], made.der(), &name, at), (counts, counts), "{at}");
    }
    assert_eq!(authority.certificate().not_after_s(), NOW_S + AUTHORITY_DAYS * DAY_S);
}

#[test]
fn the_longest_names_fit() {
    let long = Badge { host: "a".repeat(253), ..badge(Role::Master) };
    let made = authority().issue(&long, &KeyPair::generate().unwrap().public_key(), NOW_S).unwrap();
    assert_eq!(made.badge().unwrap(), long);
}

#[test]
fn an_authority_comes_back_from_its_files_and_signs_on() {
    let (before, key) = (authority(), KeyPair::generate().unwrap());
    let certificates = certificates_from_pem(pem_of_certificates(&[before.certificate().clone()]).as_bytes()).unwrap();
    let own = key_from_pem(pem_of_key(before.key()).as_bytes()).unwrap();
    let [certificate] = &certificates[..] else { panic!("one") };
    let after = Authority::from_parts(certificate.clone(), own).unwrap();
    let made = after.issue(&badge(Role::Agent), &key.public_key(), NOW_S).unwrap();
    assert_eq!(tls(&[&before], made.der(), &server_name(PeerId(0xbee)), NOW_S), (true, true));
    assert_eq!(after.cluster(), ClusterId(0xc1));
    assert!(matches!(Authority::from_parts(certificate.clone(), key), Err(IssueError::OtherKey)));
}

#[test]
fn two_authorities_of_one_cluster_are_told_apart() {
    let (old, new, key) = (authority(), authority(), KeyPair::generate().unwrap());
    let made = new.issue(&badge(Role::Agent), &key.public_key(), NOW_S).unwrap();
    let name = server_name(PeerId(0xbee));
    assert_eq!(tls(&[&old, &new], made.der(), &name, NOW_S), (true, true));
    assert_eq!(tls(&[&old], made.der(), &name, NOW_S), (false, false));
    assert!(made.signed_by(new.certificate()) && !made.signed_by(old.certificate()));
    assert_ne!(old.certificate().key_hash(), new.certificate().key_hash());
}

#[test]
fn who_knows_the_former_authority_alone_believes_the_next_one_by_its_word() {
    let (old, new, key) = (authority(), authority(), KeyPair::generate().unwrap());
    let bridge = old.vouch(&new, NOW_S).unwrap();
    assert!(bridge.signed_by(old.certificate()) && bridge.key_hash() == new.certificate().key_hash());
    assert_eq!(bridge.authority_of(), Ok(ClusterId(0xc1)));
    let made = new.issue(&badge(Role::Agent), &key.public_key(), NOW_S).unwrap();
    let between = [CertificateDer::from(bridge.der().to_vec())];
    let (leaf, now) =
        (CertificateDer::from(made.der().to_vec()), UnixTime::since_unix_epoch(Duration::from_secs(NOW_S)));
    let name = ServerName::try_from(server_name(PeerId(0xbee))).unwrap();
    let servers = WebPkiServerVerifier::builder_with_provider(roots(&[&old]), provider()).build().unwrap();
    servers.verify_server_cert(&leaf, &between, &name, &[], now).unwrap();
    assert!(servers.verify_server_cert(&leaf, &[], &name, &[], now).is_err());
    let clients = WebPkiClientVerifier::builder_with_provider(roots(&[&old]), provider()).build().unwrap();
    clients.verify_client_cert(&leaf, &between, now).unwrap();
    let other = Authority::create(ClusterId(2), NOW_S).unwrap();
    assert!(old.vouch(&other, NOW_S).is_err());
}

#[test]
fn nobody_signs_for_another_cluster_or_an_impossible_host() {
    let (authority, key) = (authority(), KeyPair::generate().unwrap().public_key());
    let issue = |badge: Badge| authority.issue(&badge, &key, NOW_S).unwrap_err().to_string();
    let mut said = vec![issue(Badge { cluster: ClusterId(2), ..badge(Role::Admin) })];
    for host in ["", "a/b", "WEB", "a/../b"] {
        said.push(issue(Badge { host: host.to_owned(), ..badge(Role::Admin) }));
    }
    said.push(authority.issue(&badge(Role::Admin), &key, u64::MAX).unwrap_err().to_string());
    expect![[r#"
        the authority of cluster 000000000000000000000000000000c1 signs nothing for cluster 00000000000000000000000000000002
        a host name has at least one letter or digit
        a host name with '/'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
        a host name with 'W'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
        a host name with '/'; it has a-z, 0-9, '.' and '-', and begins with a letter or digit
        the clock says 18446744073709551615 s since 1970, for which there are no certificates"#]]
    .assert_eq(&said.join("\n"));
}

/// A certificate as somebody else would make it with the same library.
fn foreign(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Result<Badge, CertificateError> {
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![server_name(PeerId(1))]).unwrap();
    let uri = "mgmt://00000000000000000000000000000001/host/a".to_owned();
    params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().unwrap()));
    params.custom_extensions =
        vec![rcgen::CustomExtension::from_oid_content(certificate::ROLE_OID, certificate::role_der(Role::Agent))];
    change(&mut params);
    Certificate::from_der(params.self_signed(&key).unwrap().der().to_vec()).and_then(|made| made.badge())
}

#[test]
fn what_we_would_not_have_written_is_refused() {
    let uri = |text: &str| rcgen::SanType::URI(text.to_owned().try_into().unwrap());
    assert!(foreign(|_| {}).is_ok(), "the others are refused for what they change");
    let role = |content: &[u8]| rcgen::CustomExtension::from_oid_content(certificate::ROLE_OID, content.to_vec());
    let mut said = Vec::new();
    let mut refused = |what: &str, made: Result<Badge, CertificateError>| {
        said.push(format!("{what}: {}", made.unwrap_err()));
    };
    refused("an authority", foreign(|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)));
    refused("no names", foreign(|p| p.subject_alt_names.clear()));
    refused("no host", foreign(|p| p.subject_alt_names.truncate(1)));
    refused("two hosts", foreign(|p| p.subject_alt_names.push(uri("mgmt://1/host/b"))));
    refused("other order", foreign(|p| p.subject_alt_names.reverse()));
    refused("path as host", foreign(|p| p.subject_alt_names[1] = uri(&format!("mgmt://{:032x}/host/../etc", 1))));
    refused("short cluster", foreign(|p| p.subject_alt_names[1] = uri("mgmt://1/host/a")));
    refused("signed cluster", foreign(|p| p.subject_alt_names[1] = uri(&format!("mgmt://+{:031x}/host/a", 1))));
    refused("other scheme", foreign(|p| p.subject_alt_names[1] = uri("https://a/host/b")));
    refused(
        "other name",
        foreign(|p| {
            p.subject_alt_names[0] = rcgen::SanType::DnsName("a.example".to_owned().try_into().unwrap());
        }),
    );
    refused("no role", foreign(|p| p.custom_extensions.clear()));
    refused("two roles", foreign(|p| p.custom_extensions.push(role(&certificate::role_der(Role::Admin)))));
    refused("unknown role", foreign(|p| p.custom_extensions = vec![role(b"\x0c\x04root")]));
    refused("role and more", foreign(|p| p.custom_extensions = vec![role(b"\x0c\x05agent\x00")]));
    let other = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&other).unwrap();
    refused("other key", Certificate::from_der(made.der().to_vec()).and_then(|made| made.badge()));
    refused("long", Certificate::from_der(vec![0; 5000]).and_then(|made| made.badge()));
    refused("none", Certificate::from_der(b"hello".to_vec()).and_then(|made| made.badge()));
    expect![[r#"
        an authority: the certificate was not made by this program: it is an authority's
        no names: the certificate was not made by this program: it has no names
        no host: the certificate was not made by this program: it has other names
        two hosts: the certificate was not made by this program: it has other names
        other order: the certificate was not made by this program: it has other names
        path as host: the certificate was not made by this program: its host has an impossible name
        short cluster: the certificate was not made by this program: it names no cluster
        signed cluster: the certificate was not made by this program: it names no cluster
        other scheme: the certificate was not made by this program: it names no host
        other name: the certificate was not made by this program: it names no peer
        no role: the certificate was not made by this program: it does not say one role
        two roles: the certificate was not made by this program: it does not say one role
        unknown role: the certificate was not made by this program: its role is none that this version knows
        role and more: the certificate was not made by this program: its role is none that this version knows
        other key: the certificate is not of Ed25519
        long: a certificate of 5000 bytes is longer than any of this program, 2048 at most
        none: this is no certificate"#]]
    .assert_eq(&said.join("\n"));
}

#[test]
fn a_changed_byte_is_noticed() {
    let (authority, key) = (authority(), KeyPair::generate().unwrap());
    let made = authority.issue(&badge(Role::Agent), &key.public_key(), NOW_S).unwrap();
    for at in 0..made.der().len() {
        let mut bytes = made.der().to_vec();
        bytes[at] ^= 1;
        let Ok(changed) = Certificate::from_der(bytes.clone()) else { continue };
        // What TLS checks is the signature; reading alone never panics.
        drop(changed.badge());
        assert!(!changed.signed_by(authority.certificate()), "byte {at} of {bytes:x?}");
    }
    let mut more = made.der().to_vec();
    more.push(0);
    assert_eq!(Certificate::from_der(more), Err(CertificateError::Form));
}

#[test]
fn a_peer_cannot_sign_for_others() {
    let (authority, key) = (authority(), KeyPair::generate().unwrap());
    let agent = authority.issue(&badge(Role::Agent), &key.public_key(), NOW_S).unwrap();
    assert!(Authority::from_parts(agent, key).is_err());
}

#[test]
fn a_temporary_certificate_says_nothing() {
    let key = KeyPair::generate().unwrap();
    let made = Certificate::from_der(temporary(PeerId(1), &key, NOW_S).unwrap()).unwrap();
    assert!(made.badge().is_err() && made.authority_of().is_err());
    assert_eq!(tls(&[&authority()], made.der(), &server_name(PeerId(1)), NOW_S), (false, false));
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let (authority, key) = (authority(), KeyPair::generate().unwrap());
    let (certificate, key) = (pem_of_certificates(&[authority.certificate().clone()]), pem_of_key(&key));
    let mut said = Vec::new();
    for text in ["", "nonsense", &key, &certificate.repeat(5), &"a".repeat(100_000), &certificate.replace("\nM", "\nN")]
    {
        said.push(certificates_from_pem(text.as_bytes()).unwrap_err().to_string());
    }
    for text in ["", &certificate, &key.repeat(2), &key.replace("MF", "MG")] {
        said.push(key_from_pem(text.as_bytes()).unwrap_err().to_string());
    }
    expect![[r#"
        it does not hold what it should (CERTIFICATE), in PEM
        it does not hold what it should (CERTIFICATE), in PEM
        it does not hold what it should (CERTIFICATE), in PEM
        it holds more than 4 certificates
        100000 bytes are more than any such file of this program has, 16384 at most
        this is no certificate
        it does not hold what it should (PRIVATE KEY), in PEM
        it does not hold what it should (PRIVATE KEY), in PEM
        it does not hold what it should (PRIVATE KEY), in PEM
        this is no Ed25519 key in PKCS#8"#]]
    .assert_eq(&said.join("\n"));
    assert!(!format!("{:?}{:?}", key_from_pem(key.as_bytes()).unwrap(), authority).contains(&key[40..60]));
}

fn token() -> Token {
    Token::draw(ClusterId(u128::MAX - 5), [0xa5; 32]).unwrap()
}

#[test]
fn tokens_come_back_from_their_text() {
    for _ in 0..100 {
        let token = token();
        let text = token.to_string();
        assert_eq!(text.len(), 156);
        assert_eq!(text.parse::<Token>().unwrap(), token);
        assert_eq!(format!(" {text}\n").parse::<Token>().unwrap(), token);
        let signature = token.sign(b"message");
        assert!(token::verify(&token.public_key(), b"message", &signature));
        assert!(!token::verify(&token.public_key(), b"massage", &signature));
        let secret = text.split('_').nth(4).unwrap();
        assert!(!format!("{token:?}").contains(secret));
    }
    assert_ne!(token(), token());
}

#[test]
fn every_changed_character_of_a_token_is_noticed() {
    let text = token().to_string();
    for at in 0..text.len() {
        for other in "a27_zZ0 é".chars().filter(|c| !text[at..].starts_with(*c)) {
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(changed.trim().parse::<Token>().is_err(), "{other:?} at {at}");
        }
        let (cut, swapped) = (text[..at].parse::<Token>(), [&text[at..], &text[..at]].concat().parse::<Token>());
        assert!(cut.is_err() && (at == 0 || swapped.is_err()));
    }
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let text = token().to_string();
    let other = if text.ends_with('a') { 'b' } else { 'a' };
    let mut said = Vec::new();
    for wrong in [
        "",
        "hello",
        "K10abc::server:secret",
        &text.replace("mgmt1", "mgmt2"),
        &text[..100],
        &format!("{text}a"),
        &format!("{}{other}", &text[..text.len() - 1]),
        &text.replacen('_', "_A", 1),
    ] {
        said.push(wrong.parse::<Token>().unwrap_err().to_string());
    }
    expect![[r#"
        this is no token: tokens begin with mgmt1_; `mgmt token create` on a member of the mesh makes one
        this is no token: tokens begin with mgmt1_; `mgmt token create` on a member of the mesh makes one
        this is no token: tokens begin with mgmt1_; `mgmt token create` on a member of the mesh makes one
        this is a token of another version of this program; this one knows those that begin with mgmt1_
        the token has 100 characters instead of 156: copy all of it, and nothing else
        the token has 157 characters instead of 156: copy all of it, and nothing else
        the token was changed on its way: its checksum does not fit; copy it again from where it was made
        character 7 of the token is 'A', which cannot be there: tokens have a-z, 2-7 and '_'"#]]
    .assert_eq(&said.join("\n"));
}
