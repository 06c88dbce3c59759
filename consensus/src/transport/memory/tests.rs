//! The suite on two runtimes, and the faults one by one on the virtual clock.

use std::collections::BTreeMap;

use openraft::TokioRuntime;
use openraft_rt_sim::{SimInstant, SimRuntime};

use super::*;
use crate::transport::suite::{Fabric, test_all};

mod order;

impl<R: AsyncRuntime> Fabric<Memory<R>> for Network<R> {
    async fn join(&self, peer: PeerId) -> Memory<R> {
        Self::join(self, peer)
    }

    fn cut(&self, from: PeerId, to: PeerId) -> bool {
        Self::cut(self, from, to);
        true
    }

    fn mend(&self, from: PeerId, to: PeerId) {
        Self::mend(self, from, to);
    }
}

const A: PeerId = PeerId(1);
const B: PeerId = PeerId(2);
const C: PeerId = PeerId(3);
const SECOND: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(10);

fn path(delay: Duration) -> Path {
    Path { delay, ..Path::default() }
}

/// All of the suite, with so many milliseconds of delay and jitter.
async fn whole_suite<R: AsyncRuntime>(delay: u64, jitter: u64) {
    let network = Network::<R>::new(1);
    let [delay, jitter] = [delay, jitter].map(Duration::from_millis);
    network.set_paths(Path { delay, jitter, ..Path::default() });
    let skipped = test_all::<R, _, _>(&network).await;
    assert!(skipped.is_empty(), "this one can do everything: {skipped:?}");
}

#[test]
fn the_suite_passes_on_tokio() {
    TokioRuntime::new(2).block_on(whole_suite::<TokioRuntime>(0, 0));
}

#[test]
fn the_suite_passes_on_tokio_with_delay() {
    TokioRuntime::new(2).block_on(whole_suite::<TokioRuntime>(1, 5));
}

#[test]
fn the_suite_passes_in_a_simulation() {
    for (delay, jitter) in [(0, 0), (1, 0), (1, 5), (20, 20)] {
        SimRuntime::with_seed(1).block_on(whole_suite::<SimRuntime>(delay, jitter));
    }
}

/// Runs on the virtual clock.
fn simulate<O>(body: impl AsyncFnOnce(Network<SimRuntime>) -> O) -> O {
    SimRuntime::with_seed(1).block_on(async { body(Network::new(7)).await })
}

fn echo(end: &Memory<SimRuntime>) {
    let end = end.clone();
    drop(SimRuntime::spawn(async move {
        while let Some(Incoming { message, reply, .. }) = end.accept().await {
            reply.send(message);
        }
    }));
}

async fn ask(from: &Memory<SimRuntime>, to: PeerId) -> Result<Bytes, CallError> {
    from.call(to, Lane::Control, Bytes::from_static(b"?"), SECOND).await
}

const SILENCE: Result<Bytes, CallError> = Err(CallError::Timeout(B, SECOND));
const GONE: Result<Bytes, CallError> = Err(CallError::Unreachable(B));

#[test]
fn delay_is_of_the_direction() {
    simulate(async |network| {
        let (a, b) = (network.join(A), network.join(B));
        echo(&b);
        network.set_paths(path(DELAY));
        network.set_path(B, A, Some(path(3 * DELAY)));
        let before = SimInstant::now();
        ask(&a, B).await.unwrap();
        assert_eq!(before.elapsed(), 4 * DELAY);
        network.set_path(B, A, None);
        let before = SimInstant::now();
        ask(&a, B).await.unwrap();
        assert_eq!(before.elapsed(), 2 * DELAY);
    });
}

#[test]
fn silence_is_not_absence() {
    simulate(async |network| {
        network.set_paths(path(DELAY));
        let (a, b) = (network.join(A), network.join(B));
        echo(&b);
        network.unplug(B);
        assert_eq!(ask(&a, B).await, SILENCE);
        network.crash(B);
        assert_eq!(ask(&a, B).await, SILENCE, "nobody can know");
        network.replug(B);
        let before = SimInstant::now();
        assert_eq!(ask(&a, B).await, GONE);
        assert_eq!(before.elapsed(), 2 * DELAY, "there and back");
        network.cut(B, A);
        assert_eq!(ask(&a, B).await, SILENCE, "the way back is cut");
        network.mend(B, A);
        echo(&network.join(B));
        assert!(ask(&a, B).await.is_ok());
        assert_eq!(b.accept().await.map(|_| ()), None, "the former life stays dead");
        assert_eq!(ask(&b, A).await, Err(CallError::Closed));
    });
}

#[test]
fn who_waits_for_a_peer_that_dies_hears_of_it() {
    simulate(async |network| {
        network.set_paths(path(DELAY));
        let (a, b) = (network.join(A), network.join(B));
        let caller = a.clone();
        let call = SimRuntime::spawn(async move { ask(&caller, B).await });
        let incoming = b.accept().await.unwrap();
        let before = SimInstant::now();
        network.crash(B);
        assert_eq!(call.await.unwrap(), GONE);
        assert_eq!(before.elapsed(), DELAY);
        incoming.reply.send(Bytes::new());
        assert_eq!(network.counts(Lane::Control).sent, 2, "the dead are silent");
    });
}

#[test]
fn a_partition_keeps_its_groups_apart() {
    simulate(async |network| {
        let ends = [A, B, C, PeerId(4), PeerId(5)].map(|peer| network.join(peer));
        ends.iter().for_each(echo);
        network.partition(&[&[A, B], &[C]]);
        let mut reached = BTreeMap::new();
        for from in &ends {
            for to in &ends {
                reached.insert((from.me().0, to.me().0), ask(from, to.me()).await.is_ok());
            }
        }
        let group = |peer: u128| [0, 1, 1, 2, 3, 3][peer as usize];
        for ((from, to), reached) in reached {
            assert_eq!(reached, group(from) == group(to), "{from} to {to}");
        }
        network.partition(&[]);
        assert!(ask(&ends[0], C).await.is_ok());
    });
}

#[test]
fn what_is_on_its_way_when_the_way_is_cut_is_lost() {
    simulate(async |network| {
        network.set_paths(path(10 * DELAY));
        let (a, b) = (network.join(A), network.join(B));
        echo(&b);
        let caller = a.clone();
        let call = SimRuntime::spawn(async move { ask(&caller, B).await });
        SimRuntime::sleep(DELAY).await;
        network.cut(A, B);
        network.mend(A, B);
        assert_eq!(call.await.unwrap(), SILENCE);
        assert_eq!(network.counts(Lane::Control), Counts { sent: 1, bytes: 1, lost: 1, ..Counts::default() });
        assert!(ask(&a, B).await.is_ok());
    });
}

#[test]
fn a_peer_that_stands_still_goes_on_where_it_was() {
    simulate(async |network| {
        network.set_paths(path(DELAY));
        let (a, b) = (network.join(A), network.join(B));
        echo(&b);
        network.pause(B);
        let (caller, paused) = (a.clone(), b.clone());
        let to_it = SimRuntime::spawn(async move { ask(&caller, B).await });
        let of_it = SimRuntime::spawn(async move { ask(&paused, A).await });
        SimRuntime::sleep(SECOND / 2).await;
        assert_eq!(network.counts(Lane::Control).delivered, 0);
        network.resume(B);
        a.accept().await.unwrap().reply.send(Bytes::new());
        assert!(to_it.await.unwrap().is_ok() && of_it.await.unwrap().is_ok());
        network.pause(B);
        assert_eq!(ask(&a, B).await, SILENCE);
        network.calm();
        assert!(ask(&a, B).await.is_ok());
    });
}

/// What waited in line before it stood still is there for all that accept.
#[test]
fn all_who_accept_hear_that_it_goes_on() {
    simulate(async |network| {
        let (a, b) = (network.join(A), network.join(B));
        for lane in [Lane::Control, Lane::Snapshot] {
            let a = a.clone();
            drop(SimRuntime::spawn(async move { a.call(B, lane, Bytes::new(), SECOND).await }));
        }
        SimRuntime::sleep(DELAY).await;
        network.pause(B);
        let accepting = [&b, &b].map(|end| {
            let end = end.clone();
            SimRuntime::spawn(async move { SimRuntime::timeout(SECOND, end.accept()).await.is_ok() })
        });
        SimRuntime::sleep(DELAY).await;
        network.resume(B);
        for accepting in accepting {
            assert!(accepting.await.unwrap(), "not woken");
        }
    });
}

#[test]
fn nothing_is_kept_of_calls_that_were_given_up() {
    simulate(async |network| {
        let (a, _b) = (network.join(A), network.join(B));
        for _ in 0..10 {
            assert_eq!(ask(&a, B).await, SILENCE);
        }
        let again = a.call(B, Lane::Client, Bytes::new(), SECOND);
        drop(SimRuntime::timeout(DELAY, again).await);
        assert!(network.shared.lock().waiting(A).is_empty());
    });
}

#[test]
fn as_much_is_lost_and_doubled_as_was_asked_for() {
    simulate(async |network| {
        let (a, b) = (network.join(A), network.join(B));
        network.set_path(A, B, Some(Path { lost_per_million: 100_000, ..path(DELAY) }));
        let mut lost = 0;
        echo(&b);
        for _ in 0..1000 {
            lost += usize::from(ask(&a, B).await.is_err());
        }
        assert!((70..130).contains(&lost), "{lost} of 1000 lost, where 100 were to be");
        assert_eq!(network.counts(Lane::Control).lost, lost as u64);
        network.set_path(A, B, Some(Path { doubled_per_million: 200_000, ..path(DELAY) }));
        for _ in 0..1000 {
            assert_eq!(ask(&a, B).await.unwrap(), b"?"[..], "one answer each");
        }
        let Counts { doubled, sent, .. } = network.counts(Lane::Control);
        assert!((150..250).contains(&doubled), "{doubled} of 1000 doubled, where 200 were to be");
        // The last one's double may still be answered.
        let answers = 1000 - lost as u64 + 1000 + doubled;
        assert!((2000 + answers - 1..=2000 + answers).contains(&sent), "{sent} sent");
        network.calm();
        assert_eq!(network.shared.lock().paths.get(A, B), path(DELAY), "delay stays");
    });
}

#[test]
fn what_stands_in_line_is_bounded_by_lane() {
    simulate(async |network| {
        let b = network.join(B);
        let senders: Vec<_> = (10..30).map(|peer| network.join(PeerId(peer))).collect();
        for sender in &senders {
            for _ in 0..CALLS_MAX {
                let sender = sender.clone();
                drop(SimRuntime::spawn(async move { sender.call(B, Lane::Append, Bytes::new(), SECOND).await }));
            }
        }
        let urgent = senders[0].clone();
        drop(SimRuntime::spawn(async move { ask(&urgent, B).await }));
        SimRuntime::sleep(2 * SECOND).await;
        let Counts { sent, delivered, lost, .. } = network.counts(Lane::Append);
        assert_eq!((sent, delivered, lost), (20 * 256, 4096, 1024));
        assert_eq!(b.accept().await.unwrap().lane, Lane::Control, "the most urgent first");
        assert_eq!(b.accept().await.unwrap().lane, Lane::Append);
    });
}

#[test]
fn a_network_that_nobody_holds_has_no_task() {
    let mut runtime = SimRuntime::with_seed(1);
    let wake = runtime.block_on(async {
        let network = Network::<SimRuntime>::new(1);
        let a = network.join(A);
        network.set_paths(path(SECOND));
        drop(SimRuntime::spawn(async move { ask(&a, B).await }));
        SimRuntime::sleep(DELAY).await;
        let wake = Arc::downgrade(&network.shared.wake);
        drop(network);
        SimRuntime::sleep(10 * SECOND).await;
        wake
    });
    assert!(wake.upgrade().is_none(), "the task still waits");
}
