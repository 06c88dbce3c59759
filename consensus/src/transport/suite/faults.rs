//! Peers that are not there, go, come back, or are cut off.

use openraft::async_runtime::AsyncRuntime;

use super::{Bench, Fabric, PATIENCE, QUIET, SHORT, numbered};
use crate::transport::{CALLS_MAX, CallError, Incoming, Lane, Reply, Transport};

/// No answer, for one reason or the other: which one depends on what can be known.
fn no_answer(error: &CallError) -> bool {
    matches!(error, CallError::Unreachable(_) | CallError::Timeout(..))
}

pub(super) async fn nobody_there<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let a = bench.join().await;
    let nobody = bench.stranger();
    for _ in 0..3 {
        let call = a.call(nobody, Lane::Control, numbered(1), SHORT);
        let error = bench.soon("an error", call).await.expect_err("there is nobody");
        assert!(no_answer(&error), "{error}");
    }
    a.close();
}

pub(super) async fn a_reply_that_is_dropped<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    let call = bench.start(&a, &b, Lane::Control, numbered(1), SHORT);
    drop(bench.accept(&b).await);
    let error = bench.result(call).await.expect_err("there was no answer");
    assert!(no_answer(&error), "{error}");
    bench.echo(&b);
    bench.reaches(&a, &b).await;
    a.close();
    b.close();
}

/// Whatever waits at the end that is closed ends now, also what waits for its turn; the other end is not told lies.
pub(super) async fn closing<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    let more = CALLS_MAX + 5;
    let calls = (0..more).map(|n| bench.start(&a, &b, Lane::Client, numbered(n), PATIENCE)).collect::<Vec<_>>();
    let back = bench.start(&b, &a, Lane::Client, numbered(1), PATIENCE);
    let waiting = bench.accept(&a).await;
    let held = bench.accept_all(&b).await;
    let end = a.clone();
    let accepting = R::spawn(async move { end.accept().await.is_none() });
    let before = a.clone();
    // So that accepting and all calls wait already when the end comes.
    R::sleep(QUIET).await;
    a.close();
    for call in calls {
        assert_eq!(bench.result(call).await, Err(CallError::Closed));
    }
    assert!(bench.soon("the end", accepting).await.expect("it does not panic"), "a message after closing");
    assert!(bench.soon("the end", before.accept()).await.is_none(), "all of its handles are closed");
    let after = before.call(b.me(), Lane::Control, numbered(1), PATIENCE);
    assert_eq!(bench.soon("an error", after).await, Err(CallError::Closed));
    a.close();
    // An answer from beyond, and answers to it.
    waiting.reply.send(numbered(2));
    held.into_iter().for_each(|Incoming { message, reply, .. }| reply.send(message));
    let error = bench.result(back).await.expect_err("whoever was asked is gone");
    assert!(no_answer(&error), "{error}");
    let error = bench.soon("an error", b.call(a.me(), Lane::Control, numbered(1), SHORT)).await;
    assert!(no_answer(&error.expect_err("it is closed")));
    b.close();
}

pub(super) async fn coming_back<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    bench.echo(&b);
    bench.reaches(&a, &b).await;
    b.close();
    let error = bench.soon("an error", a.call(b.me(), Lane::Control, numbered(1), SHORT)).await;
    assert!(no_answer(&error.expect_err("it is closed")));
    let again = bench.fabric.join(b.me()).await;
    bench.echo(&again);
    bench.reaches(&a, &again).await;
    bench.echo(&a);
    bench.reaches(&again, &a).await;
    let former = bench.soon("an error", b.call(a.me(), Lane::Control, numbered(1), SHORT)).await;
    assert_eq!(former, Err(CallError::Closed), "the end that was closed stays closed");
    a.close();
    again.close();
}

pub(super) async fn a_cut_and_after<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    bench.echo(&a);
    bench.echo(&b);
    bench.reaches(&a, &b).await;
    if !(bench.fabric.cut(a.me(), b.me()) && bench.fabric.cut(b.me(), a.me())) {
        bench.skip("a cut, and what comes after it", "this network cannot be cut");
        return;
    }
    for lane in Lane::ALL {
        let call = bench.soon("an error", a.call(b.me(), lane, numbered(1), SHORT)).await;
        assert!(no_answer(&call.expect_err("nothing gets through")));
    }
    bench.fabric.mend(a.me(), b.me());
    bench.fabric.mend(b.me(), a.me());
    bench.reaches(&a, &b).await;
    bench.reaches(&b, &a).await;
    a.close();
    b.close();
}

/// The one hears and is not heard: no answer, in either direction; but his messages may arrive.
pub(super) async fn a_cut_one_way<R: AsyncRuntime, T: Transport, F: Fabric<T>>(bench: &Bench<'_, R, T, F>) {
    let (a, b) = bench.pair().await;
    bench.echo(&a);
    bench.echo(&b);
    bench.reaches(&a, &b).await;
    if !bench.fabric.cut(a.me(), b.me()) {
        bench.skip("a cut in one direction", "this network cannot be cut");
        return;
    }
    R::sleep(QUIET).await;
    for (from, to) in [(&a, &b), (&b, &a)] {
        let call = bench.soon("an error", from.call(to.me(), Lane::Control, numbered(1), SHORT)).await;
        assert!(no_answer(&call.expect_err("either the message or its answer is lost")));
    }
    bench.fabric.mend(a.me(), b.me());
    bench.reaches(&a, &b).await;
    bench.reaches(&b, &a).await;
    a.close();
    b.close();
}
