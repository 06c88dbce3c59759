//! A mesh on loopback: an authority, who is let in, where everybody is, and wires that can be cut.

#![allow(dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use mgmt_consensus::quic::{Caller, Credentials, Doorkeeper, Endpoint, Options, Quic};
use mgmt_consensus::{ClusterId, PeerId};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};

pub(crate) const CLUSTER: ClusterId = ClusterId(7);

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn issue(&self, name: &str) -> Credentials {
        self.issue_with(name, |_| {})
    }

    pub(crate) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Credentials {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Credentials { certificate, key: key.serialize_der(), authorities: vec![self.certificate.clone()] }
    }
}

pub(crate) fn name(peer: PeerId) -> String {
    format!("{peer}.mgmt")
}

/// Who is let in, and where everybody is.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) callers: Mutex<BTreeMap<Vec<u8>, Caller>>,
    pub(crate) addresses: Mutex<BTreeMap<PeerId, Vec<SocketAddr>>>,
}

impl Book {
    pub(crate) fn admit(&self, credentials: &Credentials, peer: PeerId) {
        self.callers.lock().unwrap().insert(credentials.certificate.clone(), Caller { peer, may_lead: true });
    }

    pub(crate) fn expel(&self, peer: PeerId) {
        self.callers.lock().unwrap().retain(|_, caller| caller.peer != peer);
    }

    pub(crate) fn list(&self, peer: PeerId, addresses: Vec<SocketAddr>) {
        self.addresses.lock().unwrap().insert(peer, addresses);
    }
}

impl Doorkeeper for Book {
    fn admits(&self, certificate: &[u8]) -> Result<Caller, String> {
        self.callers.lock().unwrap().get(certificate).copied().ok_or_else(|| "not in the book".to_owned())
    }

    fn addresses(&self, peer: PeerId) -> Vec<SocketAddr> {
        self.addresses.lock().unwrap().get(&peer).cloned().unwrap_or_default()
    }
}

/// A mesh whose members know each other.
pub(crate) struct Mesh {
    pub(crate) authority: Authority,
    pub(crate) book: Arc<Book>,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        Self { authority: Authority::new(), book: Arc::default() }
    }

    pub(crate) fn credentials(&self, peer: PeerId) -> Credentials {
        let credentials = self.authority.issue(&name(peer));
        self.book.admit(&credentials, peer);
        credentials
    }

    /// A member, who is listed where he listens.
    pub(crate) fn join(&self, peer: u128) -> (Endpoint, Quic) {
        self.join_with(PeerId(peer), Options::lan(loopback()))
    }

    pub(crate) fn join_with(&self, peer: PeerId, options: Options) -> (Endpoint, Quic) {
        let endpoint = Endpoint::bind(options).unwrap();
        let quic = endpoint.mesh(CLUSTER, peer, self.credentials(peer), self.book.clone()).unwrap();
        self.book.list(peer, vec![endpoint.local_address()]);
        (endpoint, quic)
    }
}

/// Which ways are cut: from whom to whom.
pub(crate) type Cuts = Arc<Mutex<BTreeSet<(PeerId, PeerId)>>>;

/// A wire between one who dials and one who is dialled. Ends with the runtime.
pub(crate) fn wire(from: PeerId, to: PeerId, at: SocketAddr, cuts: Cuts) -> SocketAddr {
    let bind = || {
        let socket = std::net::UdpSocket::bind(loopback()).unwrap();
        socket.set_nonblocking(true).unwrap();
        tokio::net::UdpSocket::from_std(socket).unwrap()
    };
    let (near, far) = (bind(), bind());
    let address = near.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut there, mut back) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut dialler = None;
        let is_cut = |from, to| cuts.lock().unwrap().contains(&(from, to));
        loop {
            tokio::select! {
                Ok((bytes, source)) = near.recv_from(&mut there) => {
                    dialler = Some(source);
                    if !is_cut(from, to) {
                        let _lost = far.send_to(&there[..bytes], at).await;
                    }
                }
                Ok((bytes, _)) = far.recv_from(&mut back) => if let Some(dialler) = dialler.filter(|_| !is_cut(to, from)) {
                    let _lost = near.send_to(&back[..bytes], dialler).await;
                },
                else => {}
            }
        }
    });
    address
}
