//! Commands in scopes of their own, on a host with a real systemd.

use super::booted::{BOOTED, Booted};
use super::wait::until;

/// The graph of one command in a scope, with more of its parameters.
fn graph(cmd: &str, more: &str) -> String {
    let cmd = format!("{{name: apart, shell: sh, isolate: true, cmd: '{cmd}', {more}}}");
    format!("graph: g\nresources:\n  exec:\n  - {cmd}\n")
}

/// The scope of the command, once it has said which.
fn scope(host: &Booted) -> String {
    until("the command says where it is", || host.read("/srv/where").is_some_and(|text| text.ends_with('\n')));
    let line = host.read("/srv/where").unwrap();
    let scope = line.trim().rsplit('/').next().unwrap().to_owned();
    assert!(scope.starts_with("mgmt-exec-apart-") && scope.ends_with(".scope"), "{line}");
    scope
}

fn sleepers(host: &Booted) -> String {
    // Not those that have ended and wait to be buried.
    host.shell("ps -C sleep -o stat=,args= | grep -v ^Z")
}

const WHERE: &str = "grep -o \"/.*\" /proc/self/cgroup | tail -n1 >/srv/where;";

#[test]
fn a_command_runs_in_its_scope_with_its_properties_and_ends_with_it() {
    needs!(BOOTED);
    let host = Booted::up();
    let unit = "unit: {MemoryMax: 64M, TasksMax: 50, CPUQuota: 50%, Nice: 5, OOMScoreAdjust: 300}";
    // One that has left the group, and one whose parent is gone as well.
    let cmd = format!("{WHERE} setsid sleep 1001 & (setsid sleep 1002 &) ; sleep 1003");
    let agent = host.agent(&graph(&cmd, unit));
    let scope = scope(&host);
    until("all three sleep", || sleepers(&host).lines().count() == 3);
    let shown = host.run(&["systemctl", "show", &scope, "-p", "MemoryMax,TasksMax,CPUQuotaPerSecUSec,Description"]);
    for wanted in
        ["MemoryMax=67108864", "TasksMax=50", "CPUQuotaPerSecUSec=500ms", "Description=a command of exec[apart]"]
    {
        assert!(shown.lines().any(|line| line == wanted), "{wanted}: {shown}");
    }
    let of_sleeper =
        host.shell("p=$(pgrep -f \"^sleep 1001\"); cut -d\" \" -f19 /proc/$p/stat; cat /proc/$p/oom_score_adj");
    assert_eq!(of_sleeper, "5\n300\n");
    // The first one finishes what runs, the second one cancels it.
    agent.signal("TERM");
    until("the agent has heard it", || host.log().contains("finishing what runs"));
    agent.end();
    until("nothing of it is left", || sleepers(&host).is_empty());
    until("its scope is gone", || host.shell(&format!("systemctl is-active {scope}")).trim() == "inactive");
}

#[test]
fn what_runs_too_long_ends_with_all_it_started_and_what_ended_by_itself_leaves_the_rest() {
    needs!(BOOTED);
    let host = Booted::up();
    let agent = host.agent(&graph(&format!("{WHERE} setsid sleep 1001 & sleep 1002"), "timeout: 0.5"));
    scope(&host);
    until("it took too long", || host.log().contains("ran longer than 0.5 s"));
    assert_eq!(sleepers(&host), "", "{}", host.log());
    agent.end();
    host.run(&["rm", "/srv/where"]);
    let agent = host.agent(&graph(&format!("{WHERE} setsid sleep 1001 >/dev/null 2>&1 &"), ""));
    let scope = scope(&host);
    until("it is done", || host.log().contains("exit 0"));
    agent.end();
    assert_eq!(host.shell(&format!("systemctl is-active {scope}")), "active\n");
    host.run(&["systemctl", "stop", &scope]);
    assert_eq!(sleepers(&host), "");
}

#[test]
fn a_command_that_no_scope_can_be_made_for_does_not_run() {
    needs!(BOOTED);
    let host = Booted::up();
    host.run(&["systemctl", "mask", "batch.slice"]);
    let agent = host.agent(&graph("touch /srv/ran", "unit: {Slice: batch.slice}"));
    until("it fails", || host.log().contains("cannot isolate it"));
    assert!(!host.path("/srv/ran").exists());
    agent.end();
    host.write("/etc/mgmt/wrong.yaml", &graph("true", "unit: {MemoryMx: 64M}"));
    let said = host.shell("mgmt validate /etc/mgmt/wrong.yaml");
    assert!(said.contains("unit: unknown property 'MemoryMx' (did you mean 'MemoryMax'?)"), "{said}");
}
