//! Hosts that found together over a network in memory: everything but the sockets.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use super::super::messages::HexId;
use super::super::seeds;
use super::*;

/// Who listens where, and how many connections there were.
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<Switch>>);

#[derive(Default)]
struct Switch {
    listeners: BTreeMap<SocketAddr, mpsc::UnboundedSender<Visitor>>,
    connections: u8,
}

/// One host's end.
#[derive(Clone)]
struct Wire(Wires, SocketAddr);

struct Callers(mpsc::UnboundedReceiver<Visitor>);

impl Wires {
    fn listen(&self, at: SocketAddr) -> Callers {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().unwrap().listeners.insert(at, sender);
        Callers(receiver)
    }
}

impl Network for Wire {
    async fn visit(&self, at: SocketAddr, say: Say, limit: Duration) -> Heard {
        let (there, exporter) = {
            let mut wires = self.0.0.lock().unwrap();
            wires.connections = wires.connections.wrapping_add(1);
            (wires.listeners.get(&at).cloned(), [wires.connections; 32])
        };
        let (answer, answered) = oneshot::channel();
        let answer = Box::new(move |bytes| drop(answer.send(bytes)));
        let visitor = Visitor { from: self.1, exporter, message: say(&exporter), answer };
        there.ok_or("nobody")?.send(visitor).map_err(|_| "gone")?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(bytes)) => Ok((bytes, exporter)),
            _ => Err("no answer".to_owned()),
        }
    }
}

impl Visitors for Callers {
    async fn next(&mut self) -> Option<Visitor> {
        self.0.recv().await
    }
}

fn address(host: u8) -> SocketAddr {
    ([10, 0, 0, host + 1], 6468).into()
}

fn founders(expect: u16, secret: &str) -> Founders {
    let seeds: Vec<_> = (0..u8::try_from(expect).unwrap()).map(|host| address(host).to_string()).collect();
    Founders { seeds: seeds::parse(&seeds).unwrap(), expect, secret: Secret::new(secret).unwrap() }
}

const SECRET: &str = "0123456789abcdef";

/// Takes part until there is a mesh, and then answers as a member. Which cluster it is in.
async fn live(wires: Wires, host: u8, founders: Founders, joined: mpsc::UnboundedSender<(u8, u128)>) {
    let state = tempfile::tempdir().unwrap();
    let place = Place::open(state.path()).unwrap();
    let mut visitors = wires.listen(address(host));
    let network = Wire(wires, address(host));
    let bootstrap = Bootstrap {
        host: &format!("h{host}"),
        founders: &founders,
        ledger: Ledger::open(&place, &founders.secret).await.unwrap(),
        network: network.clone(),
        visitors: &mut visitors,
        resolver: Resolver::new(),
        clock: Clock::start(),
    };
    let cluster = match bootstrap.settle(|_| {}).await.unwrap() {
        Settled::Found => {
            let (_, whom) = promised(&place).unwrap().unwrap();
            assert_eq!(whom, format!("h{host}"), "who founds has promised to itself");
            HexId(100 + u128::from(host))
        }
        Settled::Join(mesh) => mesh.cluster,
    };
    forget(&place).unwrap();
    assert_eq!(promised(&place).unwrap(), None);
    joined.send((host, cluster.0)).unwrap();
    let mesh = Mesh { cluster, token: Some("token".to_owned()), addresses: vec![address(host)] };
    let me = Who { peer: HexId(1), host: format!("h{host}") };
    let greeting = greet(network, founders.clone(), me, address(host), || mesh.clone());
    let answering = async {
        while let Some(Visitor { from, exporter, message, answer }) = visitors.next().await {
            answer(by_member(&founders.secret, from, &exporter, &message, mesh.clone()));
        }
    };
    tokio::join!(greeting, answering);
}

#[tokio::test]
async fn five_that_start_empty_are_in_one_mesh_and_one_with_another_secret_is_not() {
    let wires = Wires::default();
    let (joined, mut coming) = mpsc::unbounded_channel();
    let mut hosts = JoinSet::new();
    // It has an address that is among the seeds of the others, and a secret that is not theirs.
    hosts.spawn(live(wires.clone(), 5, founders(6, "another secret than theirs"), joined.clone()));
    for host in 0..5 {
        let mut founders = founders(6, SECRET);
        founders.expect = 5;
        hosts.spawn(live(wires.clone(), host, founders, joined.clone()));
    }
    let mut clusters = BTreeMap::new();
    while clusters.len() < 5 {
        let (host, cluster) = coming.recv().await.unwrap();
        clusters.insert(host, cluster);
    }
    assert!(!clusters.contains_key(&5), "{clusters:?}");
    assert_eq!(clusters.values().collect::<BTreeSet<_>>().len(), 1, "{clusters:?}");
    // Whoever comes later joins as well.
    let mut late = founders(6, SECRET);
    late.expect = 5;
    hosts.spawn(live(wires, 6, late, joined));
    let (host, cluster) = coming.recv().await.unwrap();
    assert_eq!((host, Some(&cluster)), (6, clusters.get(&0)));
}

#[tokio::test]
async fn a_promise_is_kept_over_restarts_and_void_under_another_secret() {
    let state = tempfile::tempdir().unwrap();
    let place = Place::open(state.path()).unwrap();
    let (one, two) = (Secret::new(SECRET).unwrap(), Secret::new("another secret it is").unwrap());
    let mut ledger = Ledger::open(&place, &one).await.unwrap();
    let other = Who { peer: HexId(7), host: "h7".to_owned() };
    ledger.write(other.clone()).await.unwrap();
    let again = Ledger::open(&place, &one).await.unwrap();
    assert_eq!(again, ledger);
    assert_eq!(again.promised(), Some(other));
    assert_eq!(promised(&place).unwrap().unwrap().1, "h7");
    let void = Ledger::open(&place, &two).await.unwrap();
    assert_eq!(void.promised(), None);
    assert_ne!(void.me("a"), ledger.me("a"));
    std::fs::write(place.path(super::super::place::Part::Promise), "?").unwrap();
    let error = Ledger::open(&place, &one).await.unwrap_err().to_string();
    assert!(error.contains("remove it if no mesh is being founded"), "{error}");
}
