//! What the kind decides, one sentence at a time. What it does is tried on a real systemd: `tests/lab/services.rs`.

use super::decide::{Drift, Startup, State, Verdict, Wants, decide};
use super::*;
use crate::kind::Value;
use crate::systemd::{Active, Load};

/// A unit that runs and is enabled.
fn unit() -> Unit {
    Unit {
        id: "u.service".into(),
        load: Load::Loaded,
        load_error: String::new(),
        active: Active::Active,
        sub: "running".into(),
        fragment: None,
        drop_ins: Vec::new(),
        needs_reload: false,
        job: None,
        can_start: true,
        can_stop: true,
        can_reload: false,
        invocation: "1".into(),
        file_state: "enabled".into(),
    }
}

const BOTH: Wants = Wants { state: Some(State::Running), startup: Some(Startup::Enabled) };
const NEITHER: Wants = Wants { state: Some(State::Stopped), startup: Some(Startup::Disabled) };

/// What is made of it, as a line.
fn told(wants: &Wants, unit: &Unit) -> String {
    match decide(wants, unit) {
        Ok(Verdict::Fine) => "fine".to_owned(),
        Ok(Verdict::Wait(what)) => format!("waits for {what}"),
        Ok(Verdict::Drifted(drift)) => drift.to_string(),
        Err(impossible) => format!("fails: {impossible}"),
    }
}

fn each(cases: &[(Unit, &str, &str)]) {
    for (unit, both, neither) in cases {
        assert_eq!((told(&BOTH, unit).as_str(), told(&NEITHER, unit).as_str()), (*both, *neither), "{unit:?}");
    }
}

#[test]
fn what_runs_and_is_enabled_is_told_by_its_state() {
    let with = |active, file_state: &str| Unit { active, file_state: file_state.into(), ..unit() };
    let enabled = "is enabled, wanted disabled";
    let disabled = "is disabled, wanted enabled";
    each(&[
        (with(Active::Active, "enabled"), "fine", "is enabled, wanted disabled; is running, wanted stopped"),
        (with(Active::Reloading, "enabled"), "fine", "is enabled, wanted disabled; is running, wanted stopped"),
        (with(Active::Inactive, "disabled"), "is disabled, wanted enabled; is stopped, wanted running", "fine"),
        (with(Active::Failed, "disabled"), "is disabled, wanted enabled; has failed, wanted running", "fine"),
        (with(Active::Active, "disabled"), disabled, "is running, wanted stopped"),
        (with(Active::Inactive, "enabled"), "is stopped, wanted running", enabled),
    ]);
    assert_eq!(told(&Wants::default(), &with(Active::Failed, "disabled")), "fine", "what is not said is not managed");
}

#[test]
fn what_is_on_its_way_is_waited_for() {
    let with = |active, job| Unit { active, job, sub: "start".into(), ..unit() };
    let pauses = |job| Unit { active: Active::Activating, sub: "auto-restart".into(), job, ..unit() };
    let only = |state| Wants { state: Some(state), startup: None };
    for (unit, running, stopped) in [
        (with(Active::Activating, Some(1)), "waits for its start to end", "waits for its start to end"),
        (with(Active::Deactivating, Some(1)), "waits for its stop to end", "waits for its stop to end"),
        (with(Active::Active, Some(1)), "waits for its job to end", "waits for its job to end"),
        (with(Active::Inactive, Some(1)), "waits for its job to end", "waits for its job to end"),
        // systemd restarts it by itself, later; who wants it stopped need not wait.
        (pauses(None), "waits for systemd to restart it", "is running, wanted stopped"),
        (pauses(Some(1)), "waits for its start to end", "waits for its start to end"),
    ] {
        assert_eq!(told(&only(State::Running), &unit), running, "{unit:?}");
        assert_eq!(told(&only(State::Stopped), &unit), stopped, "{unit:?}");
    }
    let both = Unit { file_state: "disabled".into(), ..with(Active::Activating, Some(1)) };
    assert_eq!(told(&BOTH, &both), "is disabled, wanted enabled", "what is not in its way is repaired at once");
}

#[test]
fn what_can_be_neither_started_nor_enabled_says_why() {
    let with = |load, file_state: &str| Unit {
        load,
        file_state: file_state.into(),
        active: Active::Inactive,
        load_error: "Line 1".into(),
        ..unit()
    };
    let masked = "fails: u.service is masked, so that nothing may enable it: `systemctl unmask u.service` ends that";
    each(&[
        (with(Load::Missing, ""), "fails: there is no unit u.service on this machine", "fine"),
        (with(Load::Masked, "masked"), masked, "fine"),
        (with(Load::Masked, "masked-runtime"), masked, "fine"),
        (with(Load::Bad, "bad"), "fails: the file of u.service cannot be used: Line 1", "fine"),
    ]);
    let busy = Unit { load_error: "reload service manager: Device or resource busy".into(), ..with(Load::Bad, "") };
    assert_eq!(told(&BOTH, &busy), "its unit file has changed on disk");
    let start = Wants { startup: None, ..BOTH };
    let told_masked = told(&start, &with(Load::Masked, "masked"));
    assert!(told_masked.contains("nothing may start it"), "{told_masked}");
    let running = Unit { load: Load::Masked, file_state: "masked".into(), ..unit() };
    assert_eq!(told(&start, &running), "fine", "it runs: there is nothing to start");
    assert_eq!(told(&NEITHER, &running), "is running, wanted stopped");
    let by_hand = Unit { active: Active::Inactive, can_start: false, ..unit() };
    assert_eq!(told(&start, &by_hand), "fails: u.service may not be started by hand, only by what it depends on");
}

#[test]
fn what_has_nothing_to_enable_is_fine() {
    let with = |file_state: &str| Unit { file_state: file_state.into(), ..unit() };
    let startup = |startup| Wants { state: None, startup: Some(startup) };
    for (file_state, enabled, disabled) in [
        ("static", "fine", "fine"),
        ("transient", "fine", "fine"),
        ("indirect", "is indirect, wanted enabled", "fine"),
        ("linked", "is linked, wanted enabled", "fine"),
        ("enabled-runtime", "is enabled-runtime, wanted enabled", "is enabled-runtime, wanted disabled"),
        (
            "generated",
            "fine",
            "fails: u.service cannot be disabled, as it is made by a generator; `systemctl mask u.service` keeps it \
             from being started",
        ),
    ] {
        assert_eq!(told(&startup(Startup::Enabled), &with(file_state)), enabled, "{file_state}");
        assert_eq!(told(&startup(Startup::Disabled), &with(file_state)), disabled, "{file_state}");
    }
}

#[test]
fn files_that_have_changed_come_first() {
    let unit = Unit { needs_reload: true, active: Active::Failed, load: Load::Missing, ..unit() };
    assert_eq!(told(&BOTH, &unit), "its unit file has changed on disk");
    let Ok(Verdict::Drifted(drift)) = decide(&BOTH, &unit) else { panic!("nothing is wrong") };
    assert_eq!(drift, Drift { reload: true, ..Drift::default() });
}

#[test]
fn enabling_that_changed_nothing_is_not_tried_again() {
    let host = host();
    let svc = svc(&host, "u", &[("startup", "enabled")]).unwrap();
    let unit = Unit { file_state: "indirect".into(), ..unit() };
    assert!(matches!(svc.decide(&unit), Ok(Verdict::Drifted(_))));
    svc.tracks.was_not_enabled(&unit);
    assert_eq!(svc.decide(&unit), Ok(Verdict::Fine));
    let other = Unit { file_state: "disabled".into(), ..unit };
    assert!(matches!(svc.decide(&other), Ok(Verdict::Drifted(_))));
}

#[test]
fn a_start_that_was_given_up_is_a_failure_until_it_ends() {
    let host = host();
    let svc = svc(&host, "u", &[("state", "running")]).unwrap();
    let hangs = Unit { active: Active::Activating, ..unit() };
    assert!(matches!(svc.decide(&hangs), Ok(Verdict::Wait(_))));
    svc.tracks.give_up(&hangs);
    assert!(svc.decide(&hangs).unwrap_err().to_string().starts_with("its start hangs, and was given up"));
    let ended = Unit { active: Active::Failed, ..unit() };
    assert!(matches!(svc.decide(&ended), Ok(Verdict::Drifted(_))));
}

fn host() -> Arc<crate::Host> {
    Arc::new(crate::Host::with(crate::watches::Watches::shared()))
}

fn built(host: &Arc<crate::Host>, name: &str, pairs: &[(&'static str, &str)]) -> Result<Built, Vec<Problem>> {
    let mut params = Params::default();
    for (field, value) in pairs {
        let value = if *field == "session" { Value::Bool(*value == "true") } else { Value::Text((*value).to_owned()) };
        params.set(field, value);
    }
    let context = Context::of(host, name);
    build(&mut params, &context)
}

fn svc(host: &Arc<crate::Host>, name: &str, pairs: &[(&'static str, &str)]) -> Result<Svc, Vec<Problem>> {
    built(host, name, pairs)?;
    let value = |key| pairs.iter().find(|(field, _)| *field == key).map(|(_, value)| *value);
    let unit = name::unit(name).unwrap();
    Ok(Svc {
        wants: Wants {
            state: value("state").map(|word| if word == "running" { State::Running } else { State::Stopped }),
            startup: value("startup").map(|word| if word == "enabled" { Startup::Enabled } else { Startup::Disabled }),
        },
        files: Files::of(&unit, false),
        unit,
        session: false,
        sensitive: false,
        host: HostRef(Arc::clone(host)),
        tracks: Tracks::default(),
    })
}

#[test]
fn one_unit_is_claimed_by_whatever_name() {
    let host = host();
    let facets = |name, pairs: &[_]| built(&host, name, pairs).unwrap().facets;
    let claim = |name, pairs: &[_]| facets(name, pairs).claims.unwrap();
    assert_eq!(claim("nginx", &[]), "the unit nginx.service");
    assert_eq!(claim("nginx.service", &[]), claim("nginx", &[]));
    assert_eq!(claim("nginx", &[("session", "true")]), "the session's unit nginx.service");
    let wants = facets("getty@tty1", &[]).wants;
    for wanted in [
        Anchor::Path("/etc/systemd/system/getty@tty1.service".into()),
        Anchor::Path("/usr/lib/systemd/system/getty@.service".into()),
        Anchor::In("/etc/systemd/system/getty@tty1.service.d".into()),
        Anchor::Unit("getty@.service".into()),
        Anchor::Unit("getty@tty1.service".into()),
    ] {
        assert!(wants.contains(&wanted), "{wanted:?}: {wants:?}");
    }
}

#[test]
fn parameters_that_differ_are_another_resource() {
    let host = host();
    let one = |name, pairs: &[_]| built(&host, name, pairs).unwrap().resource;
    let running = one("nginx", &[("state", "running")]);
    assert!(running.same(&*one("nginx.service", &[("state", "running"), ("startup", "undefined")])));
    assert!(!running.same(&*one("nginx", &[("state", "stopped")])));
    assert!(!running.same(&*one("nginx", &[("state", "running"), ("session", "true")])));
    assert!(built(&host, "getty@", &[]).unwrap_err()[0].message.contains("template"));
}

#[tokio::test]
async fn without_systemd_it_says_what_runs_instead() {
    let mut host = crate::Host::with(crate::watches::Watches::shared());
    let machine = crate::machine::Machine { init: Some("runit".to_owned()), ..Default::default() };
    host.systemd = crate::systemd::Systemd::new(Arc::clone(&host.bus), &host.watches, &machine);
    let svc = svc(&Arc::new(host), "nginx", &[("state", "running")]).unwrap();
    let fault = svc.check(&Look::because(mgmt_engine::resource::Cause::First)).await.unwrap_err();
    assert_eq!(fault.to_string(), "this needs systemd, and here 'runit' runs as the first process");
}
