//! What quinn and rustls are told: every default that matters is written down here.

use std::io;
use std::sync::{Arc, LazyLock, OnceLock};

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, ServerConfig,
    TransportConfig, VarInt,
};
use ring::hmac;
use rustls::RootCertStore;
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{ClientHello, NoClientAuth, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::verify::Pinned;
use super::{Credentials, Errand, MESH, Options, Pin};
use crate::limits::{
    CONNECTION_WINDOW_BYTES, HANDSHAKES_MAX, INITIAL_WINDOW_BYTES, SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES,
    UNACKNOWLEDGED_PACKETS_MAX, VISIT_WINDOW_BYTES,
};

/// ring alone, and never the one of the process, which another library might have set.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

const TLS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const SUITABLE: &str = "ring speaks TLS 1.3";

/// Credentials that were looked at.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// For members: they know the authorities, unless those change just now.
    own: Arc<CertifiedKey>,
    /// For visitors, with the authorities.
    whole: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Identity {
    /// Fails if the key does not belong to the certificate, or one of them cannot be read.
    pub(super) fn new(credentials: &Credentials) -> io::Result<Self> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(credentials.key.clone()));
        let key = PROVIDER.key_provider.load_private_key(key).map_err(invalid)?;
        let own = CertificateDer::from(credentials.certificate.clone());
        let authorities: Vec<_> = credentials.authorities.iter().cloned().map(CertificateDer::from).collect();
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone()).map_err(invalid)?;
        }
        let alone = CertifiedKey::new(vec![own.clone()], key.clone());
        alone.keys_match().map_err(invalid)?;
        let changing = authorities.len() > 1;
        let whole = Arc::new(CertifiedKey::new(std::iter::once(own).chain(authorities).collect(), key));
        // While authorities change, members may know the former one alone, and what it says of the next is shown to them.
        let own = if changing { whole.clone() } else { Arc::new(alone) };
        Ok(Self { own, whole, roots: Arc::new(roots) })
    }
}

impl Identity {
    /// Is this certificate still signed by one of our authorities, and not expired?
    pub(super) fn vouches(&self, certificate: &[u8]) -> Result<(), String> {
        let certificate = CertificateDer::from(certificate);
        let words = |error: rustls::Error| error.to_string();
        let parsed = ParsedCertificate::try_from(&certificate).map_err(words)?;
        let algorithms = PROVIDER.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, &[], UnixTime::now(), algorithms).map_err(words)
    }
}

/// What is shown to whom.
#[derive(Debug)]
struct Shown {
    visitors: Arc<CertifiedKey>,
    members: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let of_mesh = hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == MESH));
        if of_mesh { self.members.clone() } else { Some(self.visitors.clone()) }
    }
}

/// Who is answered, and how: visitors, and members once this peer is one.
pub(super) fn server(options: &Options, visitors: &Identity, mesh: Option<&Identity>) -> io::Result<ServerConfig> {
    // Not mandatory, because visitors have none: members without one are sent away after the handshake.
    let clients = match mesh {
        Some(mesh) => WebPkiClientVerifier::builder_with_provider(mesh.roots.clone(), PROVIDER.clone())
            .allow_unauthenticated()
            .clear_root_hint_subjects()
            .build()
            .map_err(invalid)?,
        None => Arc::new(NoClientAuth),
    };
    let shown = Shown { visitors: visitors.whole.clone(), members: mesh.map(|mesh| mesh.own.clone()) };
    let builder = rustls::ServerConfig::builder_with_provider(PROVIDER.clone()).with_protocol_versions(TLS);
    let mut tls = builder.expect(SUITABLE).with_client_cert_verifier(clients).with_cert_resolver(Arc::new(shown));
    let errands = [Errand::Join, Errand::Found].map(Errand::protocol);
    tls.alpn_protocols = mesh.map(|_| MESH).into_iter().chain(errands).map(<[u8]>::to_vec).collect();
    // Every handshake is a whole one, so that who is let in is asked each time; nothing of it can be replayed.
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    let tls = QuicServerConfig::try_from(tls).map_err(invalid)?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    let mut transport = transport(options);
    // For visitors. Members get more once they are let in.
    transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
    transport.receive_window(VarInt::from_u32(VISIT_WINDOW_BYTES));
    config.transport_config(Arc::new(transport));
    config.max_incoming(HANDSHAKES_MAX);
    config.incoming_buffer_size(64 << 10);
    config.incoming_buffer_size_total(4 << 20);
    Ok(config)
}

/// How a member is called: only who is shown to be him may answer.
pub(super) fn member(options: &Options, mesh: &Identity) -> io::Result<ClientConfig> {
    let servers = WebPkiServerVerifier::builder_with_provider(mesh.roots.clone(), PROVIDER.clone());
    let servers = servers.build().map_err(invalid)?;
    let builder = rustls::ClientConfig::builder_with_provider(PROVIDER.clone()).with_protocol_versions(TLS);
    let own = Arc::new(rustls::sign::SingleCertAndKey::from(mesh.own.clone()));
    let tls = builder.expect(SUITABLE).with_webpki_verifier(servers).with_client_cert_resolver(own);
    client(options, tls, MESH)
}

/// How somebody is visited. The words are why he was not believed.
pub(super) fn visitor(
    options: &Options,
    errand: Errand,
    pin: Pin,
) -> io::Result<(ClientConfig, Arc<OnceLock<String>>)> {
    let (pinned, why) = Pinned::new(pin, &PROVIDER);
    let builder = rustls::ClientConfig::builder_with_provider(PROVIDER.clone()).with_protocol_versions(TLS);
    let builder = builder.expect(SUITABLE).dangerous().with_custom_certificate_verifier(Arc::new(pinned));
    Ok((client(options, builder.with_no_client_auth(), errand.protocol())?, why))
}

fn client(options: &Options, mut tls: rustls::ClientConfig, protocol: &[u8]) -> io::Result<ClientConfig> {
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    let tls = QuicClientConfig::try_from(tls).map_err(invalid)?;
    let mut config = ClientConfig::new(Arc::new(tls));
    let mut transport = transport(options);
    // Whoever is called opens nothing.
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    transport.receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn transport(options: &Options) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // What is called is answered soon, and the answer acknowledges what it answers, as the next call does for the answer:
    // packets of their own, for every second one, would double the packets of one call at a time.
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED_PACKETS_MAX));
    let idle = IdleTimeout::try_from(options.idle).unwrap_or_else(|_| VarInt::MAX.into());
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(options.keep_alive))
        .initial_rtt(options.initial_rtt)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .ack_frequency_config(Some(acknowledgements))
        .crypto_buffer_size(64 << 10)
        .enable_segmentation_offload(options.segmentation_offload)
        .congestion_controller_factory(Arc::new(congestion));
    transport
}

/// Of the socket as a whole. With a secret the same reset tokens come from it each time.
pub(super) fn endpoint(options: &Options) -> EndpointConfig {
    let Some(secret) = options.reset_secret else { return EndpointConfig::default() };
    let derived = |label: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), label);
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, derived(b"reset").as_ref())));
    // Ids that can be looked at without knowing them would hide from us that one of them is of an earlier life: to a
    // packet for one of those the answer is that the connection is no more.
    config.cid_generator(|| Box::new(Ids));
    config
}

/// Connection ids of chance alone.
struct Ids;

const ID_BYTES: usize = 8;

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&super::chance::<ID_BYTES>())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}
