//! One UDP socket, and who may come in through it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::HandshakeData;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::complaints::{Complaints, Kind};
use super::configs::{self, Identity};
use super::mesh::Face;
use super::sources::{Sources, TooMany, UnderWay};
use super::visits::{self, Porch};
use super::{Close, Credentials, Doorkeeper, Errand, Exporter, MESH, Options, Pin, Quic};
use super::{VisitError, Visited, Visits, guests, mesh, stranger};
use crate::identity::{ClusterId, PeerId};
use crate::limits::{HANDSHAKE_DEADLINE, HANDSHAKES_CALM_MAX, HANDSHAKES_MAX, SOCKET_BUFFER_BYTES};

/// How long closing waits for others to hear of it.
const FAREWELL: Duration = Duration::from_millis(500);

/// One UDP socket: it answers, and it calls. Closed when its last handle and the last [`Quic`] on it are dropped.
#[derive(Clone)]
pub struct Endpoint(Arc<Shared>);

struct Shared {
    quinn: quinn::Endpoint,
    options: Options,
    address: SocketAddr,
    state: Mutex<State>,
    visits: Mutex<Option<Visits>>,
    porch: Porch,
    complaints: Arc<Complaints>,
    handshakes: Arc<Semaphore>,
    sources: Arc<Sources>,
}

/// What is shown, and to whom.
struct State {
    visitors: Identity,
    mesh: Option<(Identity, Weak<mesh::Shared>)>,
}

impl Shared {
    /// Both parts belong together at every moment at which the lock is not held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new state if it can be used.
    fn change(&self, change: impl FnOnce(&State) -> io::Result<State>) -> io::Result<()> {
        let mut state = self.state();
        let next = change(&state)?;
        let mesh = next.mesh.as_ref().map(|(identity, _)| identity);
        self.quinn.set_server_config(Some(configs::server(&self.options, &next.visitors, mesh)?));
        *state = next;
        Ok(())
    }

    fn mesh(&self) -> Option<Arc<mesh::Shared>> {
        self.state().mesh.as_ref()?.1.upgrade()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.quinn.close((Close::Stopping as u32).into(), b"stopping");
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.0.address).finish()
    }
}

/// A socket with room for bursts, as far as the system allows.
fn socket(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(listen)?;
    let granted = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES)
        .and_then(|()| rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES));
    if let Err(error) = granted {
        tracing::debug!(%error, "the socket keeps its small buffers");
    }
    Ok(socket)
}

impl Endpoint {
    /// Opens the socket. Within a tokio runtime, which carries it from then on.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind(options: Options) -> io::Result<Self> {
        let visitors = Identity::new(&stranger::credentials()?)?;
        let server = configs::server(&options, &visitors, None)?;
        let (socket, runtime) = (socket(options.listen)?, Arc::new(super::clock::Clock));
        let quinn = quinn::Endpoint::new(configs::endpoint(&options), Some(server), socket, runtime)?;
        let address = quinn.local_addr()?;
        let complaints = Arc::<Complaints>::default();
        let (porch, visits) = Porch::new(complaints.clone());
        let shared = Arc::new(Shared {
            quinn,
            options,
            address,
            state: Mutex::new(State { visitors, mesh: None }),
            visits: Mutex::new(Some(visits)),
            porch,
            complaints,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            sources: Arc::default(),
        });
        tokio::spawn(answer(shared.quinn.clone(), Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.0.address
    }

    /// Those who visit.
    ///
    /// # Panics
    /// When asked for a second time.
    #[must_use]
    pub fn visits(&self) -> Visits {
        let visits = self.0.visits.lock().unwrap_or_else(PoisonError::into_inner).take();
        visits.expect("visits are taken once")
    }

    /// Whoever took those who visit needs them no longer: somebody else may take them. Nobody who came meanwhile is lost.
    pub fn take_back(&self, visits: Visits) {
        *self.0.visits.lock().unwrap_or_else(PoisonError::into_inner) = Some(visits);
    }

    /// Says one thing to whoever listens at an address, and hears one thing. What is said may depend on what this
    /// connection alone exports.
    ///
    /// # Errors
    /// [`VisitError`] says why nothing was heard.
    pub async fn visit(
        &self,
        to: SocketAddr,
        errand: Errand,
        pin: Pin,
        say: impl FnOnce(&Exporter) -> Bytes,
        deadline: Duration,
    ) -> Result<Visited, VisitError> {
        let impossible = |error: &dyn fmt::Display| VisitError::Impossible(to, error.to_string());
        let (config, why) = configs::visitor(&self.0.options, errand, pin).map_err(|error| impossible(&error))?;
        let connecting = self.0.quinn.connect_with(config, to, "visit.mgmt").map_err(|error| impossible(&error))?;
        visits::visit(connecting, to, &why, say, deadline).await
    }

    /// What visitors are shown from now on. Before: a certificate that proves nothing.
    ///
    /// # Errors
    /// The credentials cannot be used; all stays as it was.
    pub fn appear(&self, credentials: Credentials) -> io::Result<()> {
        let visitors = Identity::new(&credentials)?;
        self.0.change(|state| Ok(State { visitors, mesh: state.mesh.clone() }))
    }

    /// Begins to speak with members. A mesh there was before is closed. Visitors are shown the same credentials.
    ///
    /// # Errors
    /// The credentials cannot be used; all stays as it was.
    pub fn mesh(
        &self,
        cluster: ClusterId,
        me: PeerId,
        credentials: Credentials,
        doorkeeper: Arc<dyn Doorkeeper>,
    ) -> io::Result<Quic> {
        let identity = Identity::new(&credentials)?;
        let client = configs::member(&self.0.options, &identity)?;
        let (quinn, complaints) = (self.0.quinn.clone(), self.0.complaints.clone());
        let face = Face { identity: identity.clone(), client };
        let quic = Quic::new(self.clone(), quinn, complaints, face, (cluster, me), doorkeeper);
        let former = self.0.mesh();
        let mesh = Some((identity.clone(), Arc::downgrade(&quic.shared)));
        self.0.change(|_| Ok(State { visitors: identity, mesh }))?;
        if let Some(former) = former {
            former.close();
        }
        Ok(quic)
    }

    pub(super) fn recheck(&self) -> Duration {
        self.0.options.recheck
    }

    pub(super) fn renew(&self, quic: &Quic, credentials: &Credentials) -> io::Result<()> {
        let identity = Identity::new(credentials)?;
        let client = configs::member(&self.0.options, &identity)?;
        let current = Arc::downgrade(&quic.shared);
        self.0.change(|state| {
            if !state.mesh.as_ref().is_some_and(|(_, mesh)| mesh.ptr_eq(&current)) {
                return Err(io::Error::new(io::ErrorKind::NotConnected, "another mesh has taken its place"));
            }
            Ok(State { visitors: identity.clone(), mesh: Some((identity.clone(), current)) })
        })?;
        quic.shared.set_face(Face { identity, client });
        Ok(())
    }

    /// Ends it: others are told, and what they had here ends.
    pub async fn close(&self) {
        if let Some(mesh) = self.0.mesh() {
            mesh.close();
        }
        self.0.quinn.close((Close::Stopping as u32).into(), b"stopping");
        // Whoever does not hear it finds out by himself.
        let _in_time = tokio::time::timeout(FAREWELL, self.0.quinn.wait_idle()).await;
    }
}

/// Answers whoever comes, until the endpoint is closed.
async fn answer(quinn: quinn::Endpoint, shared: Weak<Shared>) {
    while let Some(incoming) = quinn.accept().await {
        let Some(shared) = shared.upgrade() else { return };
        let from = incoming.remote_address();
        let is_proved = incoming.remote_address_validated() || !incoming.may_retry();
        let busy = HANDSHAKES_MAX - shared.handshakes.available_permits();
        let place = match shared.sources.begin(from.ip(), is_proved, Instant::now()) {
            _ if !is_proved && busy >= HANDSHAKES_CALM_MAX => Err(TooMany::Prove),
            place => place,
        };
        let place = match place {
            Ok(place) => place,
            Err(TooMany::Prove) => {
                // He is asked to come again, with a word that only who is there can have read.
                let _he_may_come_again = incoming.retry();
                continue;
            }
            Err(TooMany::Ignore) => {
                shared.complaints.note(Kind::Source, from, &"not answered");
                incoming.ignore();
                continue;
            }
        };
        let Ok(permit) = shared.handshakes.clone().try_acquire_owned() else {
            shared.complaints.note(Kind::Flood, from, &"refused");
            incoming.refuse();
            continue;
        };
        tokio::spawn(welcome(shared, incoming, (permit, place)));
    }
}

/// What a handshake holds: a place of all there are, and one of his host's.
type Permit = (OwnedSemaphorePermit, UnderWay);

/// Shakes hands, and leads him to where he wants to go. The permit is held until he is a member or a visitor.
async fn welcome(shared: Arc<Shared>, incoming: quinn::Incoming, permit: Permit) {
    let from = incoming.remote_address();
    let connection = match incoming.accept() {
        Ok(connecting) => tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await,
        Err(error) => Ok(Err(error)),
    };
    let connection = match connection {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return shared.complaints.note(Kind::Handshake, from, &error),
        Err(_elapsed) => return shared.complaints.note(Kind::Handshake, from, &"too slow"),
    };
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
    let errand = [Errand::Join, Errand::Found].into_iter().find(|errand| errand.protocol() == protocol);
    if let Some(errand) = errand {
        drop(permit);
        shared.porch.receive(errand, connection).await;
    } else if let Some(mesh) = shared.mesh().filter(|_| protocol == MESH) {
        // A member keeps the endpoint no longer than its owner does.
        drop(shared);
        guests::receive(mesh, connection, permit).await;
    } else {
        Close::Refused.say(&connection, "no member of a mesh");
    }
}
