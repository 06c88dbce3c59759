//! When a new version is seen, and when it is safe.

use super::*;

/// Polls a repair once, as a worker thread does, and says whether it is done.
fn first_poll(bench: &Bench, cause: Cause, pairs: &[(&'static str, &str)], seen: impl FnOnce()) -> bool {
    let fix = bench.fix(pairs);
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut repair = pin!(fix.apply(Work::because(cause)));
    let done = match repair.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => {
            outcome.unwrap();
            true
        }
        Poll::Pending => false,
    };
    seen();
    if !done {
        runtime.block_on(repair).unwrap();
    }
    done
}

#[test]
fn drift_is_healed_before_it_is_durable() {
    let bench = Bench::new();
    bench.write("a", "wrong");
    first_poll(&bench, Cause::Drift, &[("path", "a"), ("content", "right")], || assert_eq!(bench.read("a"), "right"));
}

#[test]
fn so_is_drift_from_a_small_source() {
    let bench = Bench::new();
    bench.write("from", "right");
    bench.write("a", "wrong");
    let done = first_poll(&bench, Cause::Drift, &[("path", "a"), ("source", "from")], || {
        assert_eq!(bench.read("a"), "right");
    });
    assert!(!done, "the sync is waited for");
}

#[test]
fn a_new_file_is_seen_before_it_is_durable() {
    let bench = Bench::new();
    let file = [("path", "a"), ("content", "right"), ("state", "exists")];
    first_poll(&bench, Cause::First, &file, || assert_eq!(bench.read("a"), "right"));
}

#[test]
fn a_good_version_is_replaced_only_by_one_that_is_durable() {
    let bench = Bench::new();
    bench.write("a", "good");
    let done = first_poll(&bench, Cause::First, &[("path", "a"), ("content", "better")], || {
        assert_eq!(bench.read("a"), "good", "until the new version is synced");
    });
    assert!(!done);
    assert_eq!(bench.read("a"), "better");
}

#[test]
fn without_durable_nothing_is_waited_for() {
    let bench = Bench::new();
    bench.write("a", "good");
    let file = [("path", "a"), ("content", "better"), ("durable", "false")];
    assert!(first_poll(&bench, Cause::First, &file, || assert_eq!(bench.read("a"), "better")));
}

#[test]
fn a_clean_check_is_done_in_its_first_poll() {
    let bench = Bench::new();
    bench.write("a", "x");
    let resource = bench.resource(&[("path", "a"), ("content", "x"), ("mode", "0644"), ("owner", "0")]);
    let mut looking = pin!(resource.check(Look::because(Cause::Poll)));
    assert!(looking.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_ready());
}

#[test]
fn what_could_not_be_synced_is_not_clean() {
    let bench = Bench::new();
    fs::create_dir(bench.path("d")).unwrap();
    let file = [("path", "d/a"), ("content", "right"), ("state", "exists")];
    let resource = bench.resource(&file);
    let Ok(Check::Drifted(fix)) = check(&resource, &Look::because(Cause::Drift)) else { panic!("nothing is there") };
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut repair = pin!(fix.apply(Work::because(Cause::Drift)));
    // The directory is taken away while the file is written: whether before or after the sync, the next look tells.
    let polled = repair.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    fs::rename(bench.path("d"), bench.path("e")).unwrap();
    let synced = match polled {
        Poll::Ready(outcome) => outcome.is_ok(),
        Poll::Pending => runtime.block_on(repair).is_ok(),
    };
    fs::rename(bench.path("e"), bench.path("d")).unwrap();
    drop(_entered);
    let said_now = said(check(&resource, &Look::because(Cause::Drift)));
    assert_eq!(said_now, if synced { "converged" } else { "not known to be on stable storage" });
}

#[test]
fn a_sync_that_failed_is_made_up_for() {
    let bench = Bench::new();
    bench.write("a", "right");
    let resource = bench.resource(&[("path", "a"), ("content", "right")]);
    let any: &dyn std::any::Any = &*resource;
    any.downcast_ref::<super::super::File>().unwrap().unsynced.0.store(true, Ordering::Relaxed);
    let plan = Look { purpose: Purpose::Plan, ..Look::because(Cause::First) };
    assert_eq!(said(check(&resource, &plan)), "converged", "of no interest to a plan");
    let Ok(Check::Drifted(fix)) = check(&resource, &Look::because(Cause::Drift)) else { panic!("it is not clean") };
    assert_eq!(runtime().block_on(fix.apply(Work::because(Cause::Drift))), Ok(Applied::changed("synced")));
    assert_eq!(said(check(&resource, &Look::because(Cause::Drift))), "converged");
}
