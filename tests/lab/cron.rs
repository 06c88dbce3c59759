//! Timers of the calendar, on a host with a real systemd.

use super::booted::{BOOTED, Booted};
use super::wait::until;

fn graph(more: &str) -> String {
    format!("graph: g\nresources:\n  cron:\n  - {{name: tick, {more}}}\n")
}

const EVERY_SECOND: &str = "schedule: \"*-*-* *:*:*\", accuracy: 0.001, cmd: 'echo \"$(id -un) 100%\" >>/srv/ticks'";

fn ticks(host: &Booted) -> usize {
    host.read("/srv/ticks").unwrap_or_default().lines().count()
}

#[test]
fn a_command_runs_at_its_times_and_whatever_is_changed_from_outside_is_put_right() {
    needs!(BOOTED);
    let host = Booted::up();
    let agent = host.agent(&graph(EVERY_SECOND));
    until("it has run twice", || ticks(&host) >= 2);
    assert_eq!(host.read("/srv/ticks").unwrap().lines().next(), Some("root 100%"));
    let timer = "mgmt-tick.timer";
    let is = |what: &str, answer: &str| host.shell(&format!("systemctl {what} {timer}")).trim() == answer;
    assert!(is("is-enabled", "enabled") && is("is-active", "active"), "{}", host.log());
    let link = "/etc/systemd/system/timers.target.wants/mgmt-tick.timer";
    let file = "/etc/systemd/system/mgmt-tick.timer";
    let service = "/etc/systemd/system/mgmt-tick.service";
    let (right_timer, right_service) = (host.read(file).unwrap(), host.read(service).unwrap());
    let right = || {
        let files = (host.read(file), host.read(service)) == (Some(right_timer.clone()), Some(right_service.clone()));
        files && is("is-enabled", "enabled") && is("is-active", "active")
    };
    for (what, line) in [
        ("stopped", format!("systemctl stop {timer}")),
        ("disabled", format!("systemctl disable {timer}")),
        ("its link removed", format!("rm {link}")),
        ("its file removed", format!("rm {file}")),
        ("its file changed", format!("echo OnCalendar=2020-01-01 >>{file}; systemctl daemon-reload")),
        ("the service changed", format!("sed -i s/echo/true/ {service}; systemctl daemon-reload")),
    ] {
        let changes = host.log().matches("cron[tick]: ").count();
        assert!(right(), "before it was {what}");
        host.shell(&line);
        until(&format!("what was {what} is right again"), || {
            host.log().matches("cron[tick]: ").count() > changes && right()
        });
    }
    let before = ticks(&host);
    until("it still runs", || ticks(&host) > before);
    assert_eq!(agent.end(), Some(0), "{}", host.log());
    let again = host.run(&["mgmt", "apply", "/etc/mgmt/graph.yaml"]);
    assert!(!again.contains("written"), "{again}");
    host.write("/etc/mgmt/graph.yaml", &graph("state: absent"));
    host.run(&["mgmt", "apply", "/etc/mgmt/graph.yaml"]);
    assert!(is("is-active", "inactive") && !host.path(file).exists() && !host.path(service).exists());
    assert!(!host.path(link).is_symlink());
    host.run(&["mgmt", "apply", "/etc/mgmt/graph.yaml"]);
}

#[test]
fn a_line_of_a_crontab_is_a_schedule_and_nonsense_is_none() {
    needs!(BOOTED);
    let host = Booted::up();
    let more = "schedule: \"*/20 8,9 * * mon-fri\", cmd: 'true', persistent: true, delay: 90, user: nobody";
    host.write("/etc/mgmt/graph.yaml", &graph(more));
    host.run(&["mgmt", "apply", "/etc/mgmt/graph.yaml"]);
    let shown =
        host.run(&["systemctl", "show", "mgmt-tick.timer", "-p", "TimersCalendar,Persistent,RandomizedDelayUSec"]);
    for wanted in ["OnCalendar=Mon..Fri *-*-* 08,09:00,20,40:00", "Persistent=yes", "RandomizedDelayUSec=1min 30s"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert!(host.run(&["systemctl", "show", "mgmt-tick.service", "-p", "User"]).contains("User=nobody"));
    host.write("/etc/mgmt/graph.yaml", &graph("schedule: whenever, cmd: 'true'"));
    let said = host.shell("mgmt apply /etc/mgmt/graph.yaml");
    assert!(said.contains("schedule: ") && said.contains("whenever"), "{said}");
    assert!(host.read("/etc/systemd/system/mgmt-tick.timer").unwrap().contains("08,09"), "the old one is left");
}
