//! The one client of this process for servers on the network: kept connections, this machine's certificates and names,
//! and transfers that end when they are told to.
//!
//! Promises: whatever a server does, a fetch ends within the bounds below, or soon after it was told to stop; nothing that
//! is secret in a URL is in an error. Blocks: to be called where that does no harm. Must not know what is fetched.

mod heed;
mod names;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use mgmt_engine::Clock;
use mgmt_engine::resource::{Stop, Urgency};
use rustls::crypto::CryptoProvider;
use ureq::http::{StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, RustlsConnector, TcpConnector};
use ureq::{Agent, Error, Timeout};

use super::Fetched;
use super::url::Url;
use crate::checksum::{Stamp, Sum};

/// Where distributions keep the certificates they trust, as one file; the first that is there is taken.
const ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Names another file instead, as for most programs.
const ROOTS_VARIABLE: &str = "SSL_CERT_FILE";
/// That of a large distribution has a quarter of it.
const ROOTS_BYTES_MAX: u64 = 4 << 20;
/// A name is found, and a connection stands, within this.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// A server that says nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How many times a server may send us elsewhere.
const REDIRECTS_MAX: u32 = 10;
/// How much is read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// How often a long transfer says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Connections that are kept for what is fetched next, and for how long.
const IDLE_CONNECTIONS_MAX: usize = 4;
const IDLE_MAX: Duration = Duration::from_secs(15);

/// The provider must be given everywhere: a default would depend on who else is in the build.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// Fetches. Nothing is read or connected before the first fetch.
#[derive(Debug)]
pub(super) struct Client {
    /// Files of certificates, the first of which that is there is trusted.
    roots: Vec<PathBuf>,
    silence_max: Duration,
    kept: Mutex<Option<(Option<Stamp>, Agent)>>,
}

/// What is fetched, and within which bounds.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) url: &'a Url,
    pub(super) within: Option<Duration>,
    pub(super) bytes_max: u64,
}

/// The one of this process.
pub(super) fn shared() -> &'static Client {
    static SHARED: LazyLock<Client> = LazyLock::new(|| {
        let named = std::env::var_os(ROOTS_VARIABLE).filter(|name| !name.is_empty());
        let roots = named.map_or_else(|| ROOTS.map(PathBuf::from).to_vec(), |named| vec![named.into()]);
        Client::new(roots, SILENCE_MAX)
    });
    &SHARED
}

impl Client {
    pub(super) const fn new(roots: Vec<PathBuf>, silence_max: Duration) -> Self {
        Self { roots, silence_max, kept: Mutex::new(None) }
    }

    /// Appends what is there to a file.
    ///
    /// # Errors
    /// In words, without the URL.
    pub(super) fn fetch(&self, request: &Request<'_>, to: &File, stop: &Stop) -> Result<Fetched, String> {
        let _heeded = heed::heed(stop);
        let secure = request.url.is_secure();
        let mut asked = self.agent(secure)?.get(&request.url.uri);
        if let Some(authorization) = &request.url.authorization {
            asked = asked.header(header::AUTHORIZATION, authorization);
        }
        // Who was asked for safely is not answered unsafely.
        let asked = asked.config().https_only(secure).timeout_global(request.within).build();
        let answer = asked.call().map_err(|error| told(&error))?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(format!(
                "the server answered {}",
                status.to_string().trim_end_matches(" <unknown status code>")
            ));
        }
        let length = answer.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if let Some(length) = length.filter(|length| *length > request.bytes_max) {
            return Err(format!("it has {length} bytes, and bytes_max is {}", request.bytes_max));
        }
        receive(answer.into_body().into_reader(), length, request, to, stop)
    }

    /// The client for the certificates as they are now.
    fn agent(&self, secure: bool) -> Result<Agent, String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.roots.iter().find_map(|path| Some((path, File::open(path).ok()?)));
        if opened.is_none() && secure {
            let places: Vec<_> = self.roots.iter().map(|path| path.display().to_string()).collect();
            return Err(format!(
                "this machine has no certificates to check https by (install ca-certificates; looked for {})",
                places.join(", ")
            ));
        }
        let stamp = opened.as_ref().and_then(|(_, file)| Stamp::of(file).ok());
        if let Some((of, agent)) = &*kept
            && *of == stamp
        {
            return Ok(agent.clone());
        }
        let mut roots = Vec::new();
        if let Some((path, file)) = opened {
            roots = certificates(file).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        }
        let agent = agent(&roots, self.silence_max);
        *kept = Some((stamp, agent.clone()));
        Ok(agent)
    }
}

/// Those of a file; what else is in it does not matter.
fn certificates(file: File) -> io::Result<Vec<Certificate<'static>>> {
    let mut pem = Vec::new();
    file.take(ROOTS_BYTES_MAX).read_to_end(&mut pem)?;
    let items = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    Ok(items.collect())
}

fn agent(roots: &[Certificate<'static>], silence_max: Duration) -> Agent {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::clone(&PROVIDER))
        .root_certs(RootCerts::new_with_certs(roots))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .max_redirects(REDIRECTS_MAX)
        .http_status_as_error(false)
        .user_agent(concat!("mgmt/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT_WITHIN))
        .timeout_connect(Some(CONNECT_WITHIN))
        .timeout_per_read(Some(silence_max))
        .timeout_per_write(Some(silence_max))
        .max_idle_connections(IDLE_CONNECTIONS_MAX)
        .max_idle_age(IDLE_MAX)
        .build();
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(heed::Heeding)
            .chain(RustlsConnector::default());
    Agent::with_parts(config, connector, names::Names)
}

/// Reads all that comes, and writes it.
fn receive(
    mut from: impl io::Read,
    length: Option<u64>,
    request: &Request<'_>,
    mut to: &File,
    stop: &Stop,
) -> Result<Fetched, String> {
    let (mut sum, mut bytes, mut buffer) = (Sum::default(), 0, vec![0; CHUNK_BYTES]);
    let clock = Clock::start();
    let mut told_at = clock.now();
    loop {
        if stop.urgency() != Urgency::None {
            return Err(heed::STOPPED.to_owned());
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(Fetched { bytes, checksum: sum.done() }),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let of = length.map_or_else(String::new, |length| format!(" of {length}"));
                return Err(format!("{} after {bytes}{of} bytes", told(&Error::from(error))));
            }
        };
        bytes += count as u64;
        if bytes > request.bytes_max {
            return Err(format!("it goes on after {} bytes, which is bytes_max", request.bytes_max));
        }
        sum.add(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(|error| format!("cannot write it: {error}"))?;
        if clock.now().since(told_at) >= TOLD_EVERY {
            told_at = clock.now();
            tracing::debug!(bytes, of = length, "a download goes on");
        }
    }
}

/// An error in words, without what may be secret in a URL.
fn told(error: &Error) -> String {
    match error {
        Error::StatusCode(code) => format!("the server answered {code}"),
        Error::BadUri(_) | Error::Http(_) => "it, or where the server sends us, is no URL".to_owned(),
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => "the server hung up".to_owned(),
        Error::Io(error) => error.to_string(),
        Error::Timeout(Timeout::Global) => "it took longer than timeout".to_owned(),
        Error::Timeout(Timeout::PerRead | Timeout::PerWrite) => "the server says nothing any more".to_owned(),
        Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
            format!("no connection within {} s", CONNECT_WITHIN.as_secs())
        }
        Error::Timeout(other) => format!("took too long: {other}"),
        Error::HostNotFound => "its host is not known".to_owned(),
        Error::TooManyRedirects => format!("the server sends us elsewhere more than {REDIRECTS_MAX} times"),
        Error::RequireHttpsOnly(_) => "the server sends us from https to http, which is refused".to_owned(),
        Error::ConnectProxyFailed(_) => "the proxy refuses".to_owned(),
        Error::InvalidProxyUrl => "the proxy in the environment is no URL".to_owned(),
        Error::Rustls(error) => format!("cannot talk to the server in private: {error}"),
        Error::Protocol(error) => format!("the server does not speak HTTP as it should: {error}"),
        Error::LargeResponseHeader(..) => "the header of the server's answer is too large".to_owned(),
        other => other.to_string(),
    }
}
