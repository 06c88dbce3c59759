//! Messages arrive, in order, and answers find their way back.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::async_runtime::AsyncRuntime;

use super::{Bench, Fabric, PATIENCE, number, numbered, together};
use crate::transport::{CALLS_MAX, Incoming, Lane, Reply, Transport};

/// As many as may be, answered from the last to the first.
pub(super) async fn each_call_gets_its_own<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    let calls = (0..CALLS_MAX).map(|n| bench.start(&a, &b, Lane::Client, numbered(n), PATIENCE)).collect::<Vec<_>>();
    let mut come = Vec::new();
    for _ in 0..CALLS_MAX {
        come.push(bench.accept(&b).await);
    }
    for Incoming { message, reply, .. } in come.into_iter().rev() {
        let mut answer = BytesMut::from(&message[..]);
        answer.put_slice(b" and more");
        reply.send(answer.freeze());
    }
    for (n, call) in calls.into_iter().enumerate() {
        let answer = bench.result(call).await.expect("there is no fault");
        assert_eq!(number(&answer), n, "an answer to another call");
        assert_eq!(&answer[8..], b" and more");
    }
    let empty = bench.start(&a, &b, Lane::Control, Bytes::new(), PATIENCE);
    let Incoming { message, reply, .. } = bench.accept(&b).await;
    assert!(message.is_empty());
    reply.send(Bytes::new());
    assert_eq!(bench.result(empty).await, Ok(Bytes::new()), "nothing is something, too");
    a.close();
    b.close();
}

pub(super) async fn both_ways_at_once<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    bench.echo(&a);
    bench.echo(&b);
    let there = (0..100).map(|n| bench.start(&a, &b, Lane::Append, numbered(n), PATIENCE)).collect::<Vec<_>>();
    let back = (0..100).map(|n| bench.start(&b, &a, Lane::Append, numbered(n), PATIENCE)).collect::<Vec<_>>();
    for (n, call) in (0..100).chain(0..100).zip(there.into_iter().chain(back)) {
        assert_eq!(bench.result(call).await, Ok(numbered(n)));
    }
    a.close();
    b.close();
}

pub(super) async fn order_within_a_lane<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    // More than may be in flight: those that wait for their turn keep the order as well.
    let many = CALLS_MAX * 3;
    let end = b.clone();
    let sorted = R::spawn(async move {
        let mut come: [Vec<usize>; Lane::ALL.len()] = Default::default();
        for _ in 0..many {
            let Some(Incoming { lane, message, reply, .. }) = end.accept().await else { break };
            come[lane as usize].push(number(&message));
            reply.send(message);
        }
        come
    });
    let calls = (0..many).map(|n| a.call(b.me(), Lane::ALL[n % 4], numbered(n), PATIENCE));
    for answer in bench.soon("all answers", together(calls)).await {
        answer.expect("there is no fault");
    }
    for (lane, come) in bench.soon("all messages", sorted).await.expect("it does not panic").iter().enumerate() {
        assert!(come.is_sorted(), "lane {lane} is out of order: {come:?}");
        assert_eq!(come.len(), many / 4, "lane {lane}");
    }
    a.close();
    b.close();
}

/// Every other lane is as full as can be, and nobody looks: what is urgent is heard all the same.
pub(super) async fn lanes_do_not_wait_for_each_other<R: AsyncRuntime, T: Transport, F: Fabric<T>>(
    bench: &Bench<'_, R, T, F>,
) {
    let (a, b) = bench.pair().await;
    let large = Bytes::from(vec![7; 64 << 10]);
    let full = Lane::ALL.into_iter().filter(|lane| *lane != Lane::Control);
    let calls = full.flat_map(|lane| vec![lane; CALLS_MAX + 10]);
    let calls = calls.map(|lane| bench.start(&a, &b, lane, large.clone(), PATIENCE)).collect::<Vec<_>>();
    // Half of it is on its way, or all: as far as this transport goes.
    let first = bench.accept(&b).await;
    let urgent = bench.start(&a, &b, Lane::Control, numbered(1), PATIENCE);
    let mut held = vec![first];
    loop {
        let incoming = bench.accept(&b).await;
        if incoming.lane == Lane::Control {
            incoming.reply.send(incoming.message);
            break;
        }
        held.push(incoming);
        assert!(held.len() <= 3 * CALLS_MAX, "more than may be in flight");
    }
    assert_eq!(bench.result(urgent).await, Ok(numbered(1)), "answered while all others still wait");
    let end = b.clone();
    drop(R::spawn(async move {
        held.into_iter().for_each(|Incoming { reply, .. }| reply.send(numbered(0)));
        while let Some(Incoming { reply, .. }) = end.accept().await {
            reply.send(numbered(0));
        }
    }));
    for call in calls {
        assert_eq!(bench.result(call).await, Ok(numbered(0)));
    }
    a.close();
    b.close();
}

pub(super) async fn who_sent_it_is_not_in_the_message<R: AsyncRuntime, T: Transport, F: Fabric<T>>(
    bench: &Bench<'_, R, T, F>,
) {
    let (a, b) = bench.pair().await;
    let c = bench.join().await;
    let claim = Bytes::copy_from_slice(&c.me().0.to_le_bytes());
    for (sender, lane) in [(&a, Lane::Control), (&c, Lane::Snapshot)] {
        let call = bench.start(sender, &b, lane, claim.clone(), PATIENCE);
        let incoming = bench.accept(&b).await;
        assert_eq!((incoming.from, incoming.lane), (sender.me(), lane));
        incoming.reply.send(claim.clone());
        bench.result(call).await.expect("there is no fault");
    }
    a.close();
    b.close();
    c.close();
}

pub(super) async fn a_dropped_accept_loses_nothing<R: AsyncRuntime, T: Transport, F: Fabric<T>>(
    bench: &Bench<'_, R, T, F>,
) {
    let (a, b) = bench.pair().await;
    let calls = (0..50).map(|n| bench.start(&a, &b, Lane::Client, numbered(n), PATIENCE)).collect::<Vec<_>>();
    let mut come = 0;
    while come < 50 {
        // Ready at once, but only after accepting was tried: dropped wherever that had got to.
        if let openraft::async_runtime::Select2::First(incoming) = R::select2(b.accept(), async {}).await {
            let Incoming { message, reply, .. } = incoming.expect("the end is open");
            reply.send(message);
            come += 1;
        } else {
            let incoming = bench.accept(&b).await;
            incoming.reply.send(incoming.message);
            come += 1;
        }
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(bench.result(call).await, Ok(numbered(n)));
    }
    a.close();
    b.close();
}
