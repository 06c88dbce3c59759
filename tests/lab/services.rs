//! Services on a host with a real systemd.

use super::booted::{BOOTED, Booted};

#[test]
fn a_booted_host_runs_the_program() {
    needs!(BOOTED);
    let host = Booted::up();
    let facts = host.run(&["mgmt", "facts", "--json"]);
    assert!(facts.contains("systemd"), "{facts}");
    assert_eq!(host.shell("cat /proc/1/comm"), "systemd\n");
    let agent = host.agent("graph: g\nresources:\n  file:\n  - {name: a, path: /srv/a, content: x, state: exists}\n");
    super::wait::until("a file is there", || host.read("/srv/a").as_deref() == Some("x"));
    assert_eq!(agent.end(), Some(0), "{}", host.log());
}
