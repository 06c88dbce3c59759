//! What could be wrong with this host's own part in a mesh.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use super::Finding;
use crate::mesh::papers::Papers;
use crate::mesh::place::Place;
use crate::mesh::surroundings::unix_ms;

/// Less room than this on the disk of the state directory is worth a word.
const ROOM_BYTES: u64 = 512 << 20;
/// A certificate that ends within this was not renewed in time.
const CERTIFICATE_S: u64 = 14 * 86_400;
/// Fewer watches than this are used up by one graph of some size.
const WATCHES: u64 = 65_536;
/// No clock of today says less: 2025.
const CLOCK_MS: u64 = 1_735_689_600_000;

/// Looks at everything. `status` is what the agent says, or why it says nothing.
#[must_use]
pub fn own(state: &Path, status: &Result<Value, String>) -> Vec<Finding> {
    let mut findings = vec![directory(state), room(state)];
    findings.extend(certificate(state));
    findings.push(clock());
    findings.push(watches());
    findings.extend(agent(status));
    findings
}

fn directory(state: &Path) -> Finding {
    let shown = state.display();
    match std::fs::metadata(state) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => Finding::bad(
            "state",
            format!("others may look into {shown}, where this host's key is"),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => Finding::good("state", format!("{shown} is there, and closed to others")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::good("state", format!("there is no {shown}: this host has never run here"))
        }
        Err(error) => Finding::bad("state", format!("{shown}: {error}"), "run this as the user of the agent"),
    }
}

fn room(state: &Path) -> Finding {
    let at = state.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(at) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let said = format!("{} MiB are free for {}", free >> 20, state.display());
            if free >= ROOM_BYTES {
                Finding::good("disk", said)
            } else {
                Finding::bad(
                    "disk",
                    said,
                    "make room: a master hands over before its disk is full, and a full one stops",
                )
            }
        }
        Err(error) => Finding::bad("disk", format!("{}: {error}", at.display()), "look at the disk: dmesg"),
    }
}

fn certificate(state: &Path) -> Option<Finding> {
    if !state.join("mesh").exists() {
        return None;
    }
    let papers = Place::open(state).map_err(|e| e.to_string());
    let papers = papers.and_then(|place| Papers::load(&place).map_err(|e| e.to_string()));
    let now_s = unix_ms() / 1000;
    Some(match papers {
        Err(why) => Finding::bad("certificate", why, "join again with a token: mgmt join --help"),
        Ok(None) => Finding::good("certificate", "this host has none yet: it was in no mesh"),
        Ok(Some(papers)) => {
            let until_s = papers.certificate.not_after_s();
            let left_days = until_s.saturating_sub(now_s) / 86_400;
            if until_s <= now_s {
                let found = format!("it has ended {} days ago", (now_s - until_s) / 86_400);
                Finding::bad(
                    "certificate",
                    found,
                    "start the agent: it renews it for 30 days, after that join again with a token",
                )
            } else if now_s < papers.certificate.not_before_s() {
                Finding::bad(
                    "certificate",
                    "it begins in the future",
                    "set the clock of this host: timedatectl set-ntp true",
                )
            } else if until_s - now_s < CERTIFICATE_S {
                let found = format!("it ends in {left_days} days, and was not renewed");
                Finding::bad("certificate", found, "look whether a master can be reached: mgmt members")
            } else {
                Finding::good("certificate", format!("it is good for {left_days} days"))
            }
        }
    })
}

fn clock() -> Finding {
    let now_ms = unix_ms();
    let shown = crate::events::rfc3339(std::time::UNIX_EPOCH + std::time::Duration::from_millis(now_ms));
    if now_ms >= CLOCK_MS {
        Finding::good("clock", shown)
    } else {
        Finding::bad("clock", format!("{shown} cannot be"), "set it: timedatectl set-ntp true")
    }
}

fn watches() -> Finding {
    let limit = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    match (limit("max_user_watches"), limit("max_user_instances")) {
        (Some(watches), Some(instances)) if watches >= WATCHES && instances > 0 => {
            Finding::good("inotify", format!("{watches} watches"))
        }
        (Some(watches), Some(_)) => Finding::bad(
            "inotify",
            format!("only {watches} watches: what finds none is polled"),
            format!("sysctl fs.inotify.max_user_watches={}", 8 * WATCHES),
        ),
        _ => Finding::bad("inotify", "its limits cannot be read", "mount /proc"),
    }
}

fn agent(status: &Result<Value, String>) -> Vec<Finding> {
    let status = match status {
        Ok(status) => status,
        Err(why) => return vec![Finding::bad("agent", why.clone(), "start it: mgmt run FILE, or mgmt run empty")],
    };
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut findings =
        vec![Finding::good("agent", format!("process {} runs mgmt {}", status["pid"], text(&status["version"])))];
    let mesh = &status["mesh"];
    findings.push(match mesh["stage"].as_str() {
        None => Finding::good("mesh", "it takes part in none"),
        Some("coming") => Finding::bad("mesh", format!("it is on its way in: {}", text(&mesh["why"])), "mgmt doctor SEED says what is in its way"),
        Some("stopped") => Finding::bad("mesh", text(&mesh["why"]), "see docs/operations.md, repairing a mesh"),
        Some(_) if !mesh["why"].is_null() => Finding::bad("mesh", text(&mesh["why"]), "the disk is bad: see docs/operations.md, repairing a mesh"),
        Some(_) if mesh["quorum"] != true => Finding::bad(
            "mesh",
            "there is no quorum: most masters cannot be reached, or are down",
            "mgmt members says which; mgmt doctor HOST what is in the way; if most are lost for good: mgmt cluster recover",
        ),
        Some(_) => Finding::good("mesh", format!("{} of cluster {}, with a quorum", text(&mesh["role"]), text(&mesh["cluster"]))),
    });
    findings
}
