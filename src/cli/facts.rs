//! `mgmt facts`: what is known of this host, for people and for programs.

use std::io::Write;

use serde::Serialize;

use super::args;
use super::exit::{Exit, Failure};
use super::print;
use crate::diagnostic::Printable;
use crate::facts::Facts;

/// Facts as programs read them.
#[derive(Serialize)]
struct Record<'a> {
    format_version: u32,
    facts: &'a Facts,
}

/// Prints what is known of this host.
///
/// # Errors
/// Output cannot be written.
pub fn run(args: &args::Print, out: &mut dyn Write) -> Result<Exit, Failure> {
    let facts = Facts::gather();
    if args.json {
        print::json(&Record { format_version: 1, facts: &facts }, out)?;
    } else {
        print::text(&text(&facts), out)?;
    }
    Ok(Exit::Done)
}

fn text(facts: &Facts) -> String {
    let absent = || "unknown".to_owned();
    let os = facts.os.name.as_ref().or(facts.os.id.as_ref());
    let user = facts.user.as_ref().map(|name| format!("{name} ({})", facts.uid));
    let rows = [
        ("hostname", facts.hostname.clone()),
        ("os", os.cloned().unwrap_or_else(absent)),
        ("os id", facts.os.id.clone().unwrap_or_else(absent)),
        ("os version", facts.os.version.clone().unwrap_or_else(absent)),
        ("kernel", facts.kernel.clone()),
        ("architecture", facts.architecture.clone()),
        ("init", facts.init.clone().unwrap_or_else(absent)),
        ("package manager", facts.package_manager.map_or_else(absent, str::to_owned)),
        ("cpus", facts.cpus.map_or_else(absent, |cpus| cpus.to_string())),
        ("memory", facts.memory.map_or_else(absent, |bytes| format!("{} MiB", bytes >> 20))),
        ("user", user.unwrap_or_else(|| facts.uid.to_string())),
        ("container", facts.container.clone().unwrap_or_else(|| "none seen".to_owned())),
        ("virtualization", facts.virtualization.unwrap_or("none seen").to_owned()),
    ];
    rows.iter().map(|(name, value)| format!("{name:17}{}\n", Printable(value))).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::facts::Os;

    fn facts() -> Facts {
        Facts {
            hostname: "web1".into(),
            os: Os { id: Some("debian".into()), name: Some("Debian".into()), version: None },
            kernel: "6.12.0".into(),
            architecture: "x86_64".into(),
            init: Some("systemd".into()),
            package_manager: Some("apt"),
            cpus: Some(2),
            memory: Some(2 << 30),
            uid: 0,
            user: Some("root".into()),
            container: None,
            virtualization: Some("kvm"),
        }
    }

    #[test]
    fn people_read_a_table() {
        expect![[r#"
            hostname         web1
            os               Debian
            os id            debian
            os version       unknown
            kernel           6.12.0
            architecture     x86_64
            init             systemd
            package manager  apt
            cpus             2
            memory           2048 MiB
            user             root (0)
            container        none seen
            virtualization   kvm
        "#]]
        .assert_eq(&text(&facts()));
    }

    #[test]
    fn programs_read_an_object() {
        let record = Record { format_version: 1, facts: &facts() };
        let mut out = Vec::new();
        print::json(&record, &mut out).expect("memory takes it");
        expect![[r#"
            {
              "format_version": 1,
              "facts": {
                "hostname": "web1",
                "os": {
                  "id": "debian",
                  "name": "Debian",
                  "version": null
                },
                "kernel": "6.12.0",
                "architecture": "x86_64",
                "init": "systemd",
                "package_manager": "apt",
                "cpus": 2,
                "memory": 2147483648,
                "uid": 0,
                "user": "root",
                "container": null,
                "virtualization": "kvm"
              }
            }
        "#]]
        .assert_eq(&String::from_utf8_lossy(&out));
    }

    #[test]
    fn this_machine_has_facts() {
        let mut out = Vec::new();
        assert_eq!(run(&args::Print { json: true }, &mut out), Ok(Exit::Done));
        let read: serde_json::Value = serde_json::from_slice(&out).expect("it is JSON");
        assert!(read["facts"]["kernel"].is_string());
    }
}
