//! Sizes, deadlines, and how much may be under way.

use bytes::Bytes;
use futures_util::FutureExt as _;
use openraft::async_runtime::{AsyncRuntime, Instant};

use super::{Bench, Fabric, PATIENCE, QUIET, SHORT, numbered, together};
use crate::limits::FRAME_BYTES_MAX;
use crate::transport::{CALLS_MAX, CallError, INBOX_MAX, Incoming, Lane, Reply, Transport};

pub(super) async fn too_large<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    bench.echo(&b);
    let most = Bytes::from(vec![1; FRAME_BYTES_MAX]);
    let call = bench.start(&a, &b, Lane::Append, most.clone(), PATIENCE);
    assert!(bench.result(call).await == Ok(most), "the largest message there may be, and the largest answer");
    let more = Bytes::from(vec![1; FRAME_BYTES_MAX + 1]);
    let call = bench.start(&a, &b, Lane::Append, more, PATIENCE);
    assert_eq!(bench.result(call).await, Err(CallError::TooLarge(FRAME_BYTES_MAX + 1)));
    bench.reaches(&a, &b).await;
    a.close();
    b.close();
}

pub(super) async fn deadlines<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    let before = R::Instant::now();
    let call = bench.start(&a, &b, Lane::Client, numbered(1), SHORT);
    let held = bench.accept(&b).await;
    assert_eq!(bench.result(call).await, Err(CallError::Timeout(b.me(), SHORT)));
    assert!(before.elapsed() >= SHORT, "given up too early");
    assert!(before.elapsed() < PATIENCE, "given up too late");
    drop(held);
    // The largest number there is is no reason to do anything foolish.
    let patient = bench.start(&a, &b, Lane::Client, numbered(2), std::time::Duration::MAX);
    let Incoming { message, reply, .. } = bench.accept(&b).await;
    reply.send(message);
    assert_eq!(bench.result(patient).await, Ok(numbered(2)));
    a.close();
    b.close();
}

pub(super) async fn a_late_answer_goes_nowhere<R: AsyncRuntime, T: Transport, F: Fabric<T>>(
    bench: &Bench<'_, R, T, F>,
) {
    let (a, b) = bench.pair().await;
    let call = bench.start(&a, &b, Lane::Client, numbered(1), SHORT);
    let late = bench.accept(&b).await;
    assert!(bench.result(call).await.is_err());
    let next = bench.start(&a, &b, Lane::Client, numbered(2), PATIENCE);
    let Incoming { message, reply, .. } = bench.accept(&b).await;
    late.reply.send(numbered(1));
    R::sleep(QUIET).await;
    reply.send(message);
    assert_eq!(bench.result(next).await, Ok(numbered(2)), "an answer to a call that was given up");
    a.close();
    b.close();
}

/// As often as may be in flight, and more: what is dropped takes nothing with it.
pub(super) async fn a_dropped_call_harms_nobody<R: AsyncRuntime, T: Transport, F: Fabric<T>>(
    bench: &Bench<'_, R, T, F>,
) {
    let (a, b) = bench.pair().await;
    for n in 0..CALLS_MAX + 10 {
        let call = a.call(b.me(), Lane::Client, numbered(n), PATIENCE);
        match R::select2(call, b.accept()).await {
            openraft::async_runtime::Select2::Second(Some(Incoming { message, reply, .. })) => reply.send(message),
            _ => panic!("nobody has answered, and nothing is closed"),
        }
    }
    bench.echo(&b);
    let call = bench.start(&a, &b, Lane::Client, numbered(7), PATIENCE);
    assert_eq!(bench.result(call).await, Ok(numbered(7)));
    a.close();
    b.close();
}

pub(super) async fn calls_in_flight<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    let more = CALLS_MAX + 10;
    let calls = (0..more).map(|n| bench.start(&a, &b, Lane::Client, numbered(n), PATIENCE)).collect::<Vec<_>>();
    let mut held = Vec::new();
    while held.len() < CALLS_MAX {
        held.push(bench.accept(&b).await);
    }
    assert_eq!(bench.accept_all(&b).await.len(), 0, "more than may be in flight");
    let late = bench.start(&a, &b, Lane::Client, numbered(more), SHORT);
    assert!(matches!(bench.result(late).await, Err(CallError::Timeout(..))), "a deadline also ends waiting for a turn");
    // Another lane and another peer have their own.
    let other = bench.start(&a, &b, Lane::Control, numbered(1), PATIENCE);
    let Incoming { message, reply, .. } = bench.accept(&b).await;
    reply.send(message);
    assert_eq!(bench.result(other).await, Ok(numbered(1)));
    for _ in CALLS_MAX..more {
        let Some(Incoming { message, reply, .. }) = held.pop() else { break };
        reply.send(message);
        held.insert(0, bench.accept(&b).await);
    }
    held.into_iter().for_each(|Incoming { message, reply, .. }| reply.send(message));
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(bench.result(call).await, Ok(numbered(n)));
    }
    a.close();
    b.close();
}

/// Nobody accepts, and more peers send than there is room for.
pub(super) async fn waiting_to_be_accepted<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let b = bench.join().await;
    let mut senders = Vec::new();
    for _ in 0..=INBOX_MAX / CALLS_MAX {
        senders.push(bench.join().await);
    }
    let flood = senders.iter().map(|sender| {
        let (sender, to) = (sender.clone(), b.me());
        R::spawn(async move {
            let calls = (0..CALLS_MAX).map(|n| sender.call(to, Lane::Append, numbered(n), SHORT));
            together(calls).await.into_iter().filter(Result::is_ok).count()
        })
    });
    for task in flood.collect::<Vec<_>>() {
        let answered = bench.soon("the end of all calls", task).await.expect("a call does not panic");
        assert_eq!(answered, 0, "nobody has accepted, much less answered");
    }
    // In one go: what is still on its way takes the places that become free.
    let mut waited = 0;
    while let Some(Some(_lost)) = b.accept().now_or_never() {
        waited += 1;
    }
    assert!(waited <= INBOX_MAX, "{waited} have waited");
    drop(bench.accept_all(&b).await);
    bench.echo(&b);
    for sender in &senders {
        bench.reaches(sender, &b).await;
        sender.close();
    }
    b.close();
}
