//! Services on a host with a real systemd.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mgmt_engine::resource::{Signal, Sink, Stop, Ticket, Urgency};
use mgmt_resources::bus::{Bus, Which};
use mgmt_resources::systemd::{Active, Ended, Load, Manager, Property, Verb};
use mgmt_resources::watches::Watches;

use super::booted::{BOOTED, Booted};
use super::wait;

#[test]
fn a_booted_host_runs_the_program() {
    needs!(BOOTED);
    let host = Booted::up();
    let facts = host.run(&["mgmt", "facts", "--json"]);
    assert!(facts.contains("systemd"), "{facts}");
    assert_eq!(host.shell("cat /proc/1/comm"), "systemd\n");
    let agent = host.agent("graph: g\nresources:\n  file:\n  - {name: a, path: /srv/a, content: x, state: exists}\n");
    wait::until("a file is there", || host.read("/srv/a").as_deref() == Some("x"));
    assert_eq!(agent.end(), Some(0), "{}", host.log());
}

/// Counts what is raised.
#[derive(Default)]
struct Raises(AtomicU32);

impl Sink for Raises {
    fn raised(&self, _: &[Ticket]) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn ticked(&self, _: Ticket) {}
}

/// A service that does nothing for long.
const SLEEPS: &str = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
/// One that never says that it has started.
const HANGS: &str = "[Service]\nType=notify\nExecStart=/bin/sleep infinity\nTimeoutStartSec=infinity\n";

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn manager(host: &Booted) -> Manager {
    let socket = Arc::new(Bus::new(Which::At(host.path("/run/dbus/system_bus_socket"))));
    Manager::new(socket, Watches::start().unwrap(), None)
}

#[test]
fn the_client_starts_stops_cancels_and_hears() {
    needs!(BOOTED);
    let host = Booted::up();
    host.write("/etc/systemd/system/sleeps.service", SLEEPS);
    host.write("/etc/systemd/system/hangs.service", HANGS);
    let manager = manager(&host);
    let (raises, never) = (Arc::new(Raises::default()), Stop::never());
    let _guard = manager.subscribe("sleeps.service", &Signal::elsewhere(raises.clone(), 0));
    let heard = || raises.0.swap(0, Ordering::SeqCst) > 0;
    tokio().block_on(async {
        let unit = manager.look("sleeps.service").await.unwrap();
        assert_eq!((unit.load, unit.active, unit.file_state.as_str()), (Load::Loaded, Active::Inactive, "disabled"));
        assert_eq!(unit.fragment.as_deref(), Some(Path::new("/etc/systemd/system/sleeps.service")));
        assert_eq!(manager.look("nothing.service").await.unwrap().load, Load::Missing);
        assert!(manager.enable(&["sleeps.service"]).await.unwrap().links == 1);
        let (one, two) = tokio::join!(manager.reload(), manager.reload());
        one.and(two).unwrap();
        assert_eq!(manager.job(Verb::Start, "sleeps.service", &never).await, Ok(Ended::Done));
        let unit = manager.look("sleeps.service").await.unwrap();
        assert_eq!((unit.active, unit.file_state.as_str()), (Active::Active, "enabled"));
        assert_eq!(unit.invocation.len(), 32);

        // What somebody else does is heard.
        let pid = manager.of_type("sleeps.service", "MainPID").await.unwrap().unwrap();
        assert!(heard());
        host.run(&["kill", "-9", &pid]);
        wait::until("its death is heard", heard);
        wait::until("it failed", || host.ended(&["systemctl", "is-failed", "sleeps.service"]).out == "failed\n");
        assert_eq!(manager.of_type("sleeps.service", "Result").await.unwrap().unwrap(), "signal");

        // A start that hangs is cancelled.
        let (sender, stop) = Stop::new();
        let start = manager.job(Verb::Start, "hangs.service", &stop);
        let cancel = async {
            loop {
                let unit = manager.look("hangs.service").await.unwrap();
                if unit.active == Active::Activating && unit.job.is_some() {
                    return sender.send_replace(Urgency::Cancel);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (ended, _) = tokio::join!(start, cancel);
        assert_eq!(ended, Ok(Ended::Stopped));
        assert_eq!(manager.look("hangs.service").await.unwrap().job, None);
        let unknown = manager.job(Verb::Start, "nothing.service", &never).await.unwrap_err();
        assert_eq!(unknown.to_string(), "Unit nothing.service not found");
    });
}

#[test]
fn the_client_makes_scopes_and_comes_back_to_a_bus_that_was_lost() {
    needs!(BOOTED);
    let host = Booted::up();
    host.write("/etc/systemd/system/sleeps.service", SLEEPS);
    let manager = manager(&host);
    let (raises, never) = (Arc::new(Raises::default()), Stop::never());
    let _guard = manager.subscribe("sleeps.service", &Signal::elsewhere(raises.clone(), 0));
    tokio().block_on(async {
        host.shell("sleep 1000 >/dev/null 2>&1 & echo $! >/run/pid");
        let pid: u32 = host.read("/run/pid").unwrap().trim().parse().unwrap();
        let properties = [
            ("Description".to_owned(), Property::Text("one sleeper".to_owned())),
            ("TasksMax".to_owned(), Property::Number(7)),
        ];
        manager.scope("sleeper.scope", &[pid], &properties, &never).await.unwrap();
        assert_eq!(host.shell("systemctl show -P TasksMax sleeper.scope"), "7\n");
        manager.kill("sleeper.scope", 9).await.unwrap();
        wait::until("the scope is gone", || host.shell("systemctl is-active sleeper.scope") == "inactive\n");
        manager.kill("sleeper.scope", 9).await.unwrap();

        for lost in ["systemctl restart dbus", "systemctl daemon-reexec", "pkill -9 -x dbus-daemon"] {
            assert!(manager.look("sleeps.service").await.is_ok());
            raises.0.store(0, Ordering::SeqCst);
            host.shell(lost);
            wait::until(&format!("back after {lost}"), || raises.0.load(Ordering::SeqCst) > 0);
            let started = manager.job(Verb::Start, "sleeps.service", &never).await;
            assert_eq!(started, Ok(Ended::Done), "after {lost}");
            raises.0.store(0, Ordering::SeqCst);
            host.shell("systemctl stop sleeps");
            wait::until(&format!("heard after {lost}"), || raises.0.load(Ordering::SeqCst) > 0);
        }
    });
}
