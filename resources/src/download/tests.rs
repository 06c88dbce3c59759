//! Each sentence of the kind's page, against small servers that behave, and some that do not.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::bed::{self, Bed};
use mgmt_engine::Clock;
use mgmt_engine::erased::AnyResource;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// SHA-256 of `hello\n`, as sha256sum prints it.
const OF_HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
const SILENCE: Duration = Duration::from_millis(300);

/// A server on this machine. Its thread ends with the test's process.
struct Server {
    at: SocketAddr,
    asked: Arc<AtomicU32>,
}

impl Server {
    /// Answers each request with what `answer` writes, told the lines of the request; then hangs up.
    fn of(answer: impl Fn(&[String], &mut dyn Write) + Send + 'static) -> Self {
        Self::with(move |stream| {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request: Vec<_> = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let mut stream = stream;
            answer(&request, &mut stream);
        })
    }

    fn with(serve: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                serve(stream.unwrap());
            }
        });
        Self { at, asked }
    }

    /// Answers everything so.
    fn says(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::of(move |_, to| drop(to.write_all(answer.as_bytes())))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A download in a scratch directory, to `got`.
struct Rig {
    bed: Bed,
    client: &'static Client,
}

impl Rig {
    fn new() -> Self {
        Self::trusting(Vec::new())
    }

    fn trusting(roots: Vec<PathBuf>) -> Self {
        Self { bed: Bed::new(), client: Box::leak(Box::new(Client::new(roots, SILENCE))) }
    }

    fn built(&self, pairs: &[(&str, &str)]) -> Result<AnyResource, String> {
        let build = |params: &mut Params, context: &Context<'_>| build_with(params, context, self.client);
        let pairs = [&[("path", "got")], pairs].concat();
        Ok(self.bed.built(&INFO, &build, &pairs)?.resource)
    }

    async fn converge(&self, pairs: &[(&str, &str)]) -> Result<String, String> {
        bed::converge(&self.built(pairs)?).await
    }

    /// How it fails; then nothing may have been left.
    async fn fails(&self, url: &str, more: &[(&str, &str)]) -> String {
        let pairs = [&[("url", url), ("sha256", OF_HELLO)], more].concat();
        let why = self.converge(&pairs).await.unwrap_err();
        assert_eq!(self.bed.names(), [] as [String; 0], "{why}");
        why.replace(url, "URL")
    }
}

#[tokio::test]
async fn a_file_is_fetched_once_and_again_when_it_changed() {
    let (server, rig) = (Server::says(HELLO), Rig::new());
    let pairs: [(&str, &str); 3] = [("url", &server.url("/x")), ("sha256", OF_HELLO), ("mode", "0640")];
    let resource = rig.built(&pairs).unwrap();
    assert_eq!(bed::said(&resource).await.unwrap(), "missing");
    assert_eq!(server.asked(), 0, "a look asks nobody");
    assert_eq!(bed::converge(&resource).await.unwrap(), "created, 6 bytes");
    assert_eq!(rig.bed.read("got").as_deref(), Some("hello\n"));
    assert_eq!(std::fs::metadata(rig.bed.path("got")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(bed::converge(&resource).await.unwrap(), "right");
    std::fs::write(rig.bed.path("got"), "hullo\n").unwrap();
    assert_eq!(bed::converge(&resource).await.unwrap(), "content replaced, 6 bytes");
    std::fs::set_permissions(rig.bed.path("got"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(bed::converge(&resource).await.unwrap(), "mode set to 0640");
    assert_eq!((rig.converge(&pairs).await.unwrap().as_str(), server.asked()), ("right", 2));
    assert_eq!(rig.bed.names(), ["got"]);
}

#[tokio::test]
async fn what_is_wrong_or_cut_short_or_endless_is_thrown_away() {
    let rig = Rig::new();
    let says = |answer: &str| Server::says(answer).url("/x?key=geheim");
    let head = "HTTP/1.1 200 OK\r\n";
    let wrong = rig.fails(&says(&HELLO.replace("hello", "HELLO")), &[]).await;
    assert!(wrong.contains("the 6 bytes that came have the checksum ") && wrong.contains("not 5891b5b"), "{wrong}");
    assert!(wrong.starts_with("cannot fetch http://127.0.0.1:") && wrong.contains("/x?…: "), "{wrong}");
    let short = rig.fails(&says(&format!("{head}Content-Length: 60\r\n\r\nhello\n")), &[]).await;
    assert!(short.ends_with("the server hung up after 6 of 60 bytes"), "{short}");
    let long = rig.fails(&says(&format!("{head}Content-Length: 6000\r\n\r\n")), &[("bytes_max", "10")]).await;
    assert!(long.ends_with("it has 6000 bytes, and bytes_max is 10"), "{long}");
    let endless = Server::of(move |_, to| {
        drop(to.write_all(head.as_bytes()));
        drop(to.write_all(b"\r\n"));
        while to.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let endless = rig.fails(&endless.url("/"), &[("bytes_max", "1000000")]).await;
    assert!(endless.ends_with("it goes on after 1000000 bytes, which is bytes_max"), "{endless}");
    let none = rig.fails(&says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), &[]).await;
    assert!(none.ends_with("the server answered 404 Not Found"), "{none}");
    let ill = rig.fails(&says("SSH-2.0-OpenSSH_9\r\n"), &[]).await;
    assert!(ill.contains("does not speak HTTP"), "{ill}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = rig.fails(&format!("http://{nobody}/"), &[]).await;
    assert!(nobody.to_lowercase().contains("connection refused"), "{nobody}");
}

#[tokio::test]
async fn redirects_are_followed_to_an_end() {
    let rig = Rig::new();
    let to = |place: &str| format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
    let round = rig.fails(&Server::says(to("/again")).url("/"), &[]).await;
    assert!(round.contains("elsewhere more than 10 times"), "{round}");
    let end = Server::says(HELLO);
    let first = Server::says(to(&end.url("/y")));
    let deed = rig.converge(&[("url", &first.url("/x")), ("sha256", OF_HELLO)]).await;
    assert_eq!(deed.as_deref(), Ok("created, 6 bytes"));
}

#[tokio::test]
async fn a_silent_or_slow_server_is_left_in_time_or_when_told_to() {
    let rig = Rig::new();
    // Says half of it, and holds the line until we hang up.
    let silent = || {
        Server::with(|mut stream| {
            drop(stream.write_all(&HELLO.as_bytes()[..HELLO.len() - 3]));
            std::thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        })
    };
    let why = rig.fails(&silent().url("/"), &[]).await;
    assert!(why.ends_with("the server says nothing any more after 3 of 6 bytes"), "{why}");
    let slow = Rig { client: Box::leak(Box::new(Client::new(Vec::new(), Duration::from_secs(60)))), ..Rig::new() };
    let why = slow.fails(&silent().url("/"), &[("timeout", "0.2")]).await;
    assert!(why.ends_with("it took longer than timeout after 3 of 6 bytes"), "{why}");
    let (stopper, stop) = Stop::new();
    let (clock, server) = (Clock::start(), silent());
    let resource = slow.built(&[("url", &server.url("/")), ("sha256", OF_HELLO)]).unwrap();
    let running = tokio::spawn(async move { bed::converge_until(&resource, stop).await });
    while server.asked() == 0 {
        tokio::task::yield_now().await;
    }
    stopper.send(Urgency::Cancel).unwrap();
    let why = running.await.unwrap().unwrap_err();
    assert!(why.contains("told to stop"), "{why}");
    assert!(clock.now().since(mgmt_engine::clock::Moment::START) < Duration::from_secs(20), "nobody waited for it");
    assert_eq!(slow.bed.names(), [] as [String; 0]);
}

#[tokio::test]
async fn a_name_and_password_go_to_that_server_alone_and_are_shown_nowhere() {
    let mut rig = Rig::new();
    let server = Server::of(|request, to| {
        let known = request.iter().any(|line| line.eq_ignore_ascii_case("authorization: Basic dXNlcjpwQHNz"));
        drop(to.write_all(if known { HELLO } else { "HTTP/1.1 401 Unauthorized\r\n\r\n" }.as_bytes()));
    });
    let url = format!("http://user:p%40ss@{}/x", server.at);
    let deed = rig.converge(&[("url", &url), ("sha256", OF_HELLO)]).await;
    assert_eq!(deed.as_deref(), Ok("created, 6 bytes"));
    let wrong = format!("http://user:geheim@{}/x", server.at);
    std::fs::remove_file(rig.bed.path("got")).unwrap();
    let why = rig.fails(&wrong, &[]).await;
    assert!(why.ends_with(&format!("http://{}/x: the server answered 401 Unauthorized", server.at)), "{why}");
    let elsewhere = Server::says(format!("HTTP/1.1 302 Found\r\nLocation: {}\r\n\r\n", server.url("/x")));
    let why = rig.fails(&format!("http://user:p%40ss@{}/x", elsewhere.at), &[]).await;
    assert!(why.ends_with("the server answered 401 Unauthorized"), "{why}");
    rig.bed.sensitive = true;
    let why = rig.fails(&wrong, &[]).await;
    assert_eq!(why, "cannot fetch its URL, which is hidden: the server answered 401 Unauthorized");
}

/// An authority of the test's own, as a file, and a server that it vouches for.
fn secure(directory: &Path, answer: String) -> (PathBuf, Server) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let roots = directory.join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let config = Arc::new(config);
    let server = Server::with(move |tcp| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, tcp);
        let mut lines = BufReader::new(&mut stream).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        drop(stream.write_all(answer.as_bytes()));
        stream.conn.send_close_notify();
        drop(stream.flush());
    });
    (roots, server)
}

#[tokio::test]
async fn with_https_the_server_is_known_and_what_came_first_is_kept() {
    let keys = tempfile::tempdir().unwrap();
    let (roots, server) = secure(keys.path(), HELLO.to_owned());
    let url = format!("https://localhost:{}/x", server.at.port());
    let rig = Rig::trusting(vec![keys.path().join("none"), roots.clone()]);
    let pairs = [("url", url.as_str())];
    assert_eq!(rig.converge(&pairs).await.unwrap(), "created, 6 bytes");
    assert_eq!(rig.converge(&pairs).await.unwrap(), "right");
    std::fs::write(rig.bed.path("got"), "other").unwrap();
    assert_eq!(rig.converge(&pairs).await.unwrap(), "content replaced, 6 bytes");
    let other = format!("{url}?other");
    assert_eq!(rig.converge(&[("url", &other)]).await.unwrap(), "content replaced, 6 bytes", "nothing is known of it");
    let stranger = Rig::trusting(vec![secure(keys.path(), String::new()).0]);
    let why = stranger.fails(&url, &[]).await;
    assert!(why.contains("invalid peer certificate"), "{why}");
    let why = Rig::new().fails(&url, &[]).await;
    assert!(why.contains("no certificates to check https by (install ca-certificates"), "{why}");
    let plain = Server::says(HELLO);
    let away = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", plain.url("/x"));
    let (roots, server) = secure(keys.path(), away);
    let why = Rig::trusting(vec![roots]).fails(&format!("https://localhost:{}/x", server.at.port()), &[]).await;
    assert!(why.ends_with("from https to http, which is refused") && plain.asked() == 0, "{why}");
}

#[tokio::test]
async fn a_name_nobody_knows_is_said() {
    let why = Rig::new().fails("http://no-such-host.invalid/", &[]).await;
    assert!(why.ends_with("its host is not known"), "{why}");
}

#[test]
fn what_is_wrong_is_refused_with_a_remedy() {
    let rig = Rig::new();
    let refused = |pairs: &[(&str, &str)]| rig.built(pairs).unwrap_err();
    assert_eq!(refused(&[]), "url: is required");
    let said = refused(&[("url", "http://h/x")]);
    assert_eq!(said, "sha256: is required with http, where anybody on the way could give another file");
    let said = refused(&[("url", "ftp://h/x"), ("sha256", "12"), ("mode", "rwx"), ("timeout", "1e30")]);
    let fields: Vec<_> = said.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(fields, ["url", "sha256", "timeout", "mode"], "{said}");
    let (a, b) = (rig.built(&[("url", "https://h/x")]).unwrap(), rig.built(&[("url", "https://h/y")]).unwrap());
    assert!(!a.same(&*b) && a.same(&*rig.built(&[("url", "https://h/x")]).unwrap()));
}
