//! The texts of the two units: the timer, and the service that it starts. Pure.

use std::fmt::Write as _;

use super::Job;

/// What the units of a resource are called, without their suffix.
pub(super) fn stem(name: &str) -> Result<String, String> {
    const NAME_BYTES_MAX: usize = 200;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if name.is_empty() || !name.chars().all(plain) || name.len() > NAME_BYTES_MAX {
        return Err(format!("'{name}' cannot name a unit: use letters, digits, '-', '_', '.' and ':'"));
    }
    Ok(format!("mgmt-{name}"))
}

/// The service's text.
pub(super) fn service(name: &str, job: &Job) -> String {
    let mut text = head(name);
    text.push_str("\n[Service]\nType=oneshot\n");
    if let Some(user) = &job.user {
        add(&mut text, "User", user);
    }
    add(&mut text, "ExecStart", &format!("/bin/sh -c {}", quoted(&job.cmd)));
    text
}

/// The timer's text.
pub(super) fn timer(name: &str, job: &Job) -> String {
    let mut text = head(name);
    text.push_str("\n[Timer]\n");
    for event in &job.events {
        add(&mut text, "OnCalendar", event);
    }
    add(&mut text, "AccuracySec", &format!("{}us", job.accuracy.as_micros()));
    if !job.delay.is_zero() {
        add(&mut text, "RandomizedDelaySec", &format!("{}us", job.delay.as_micros()));
    }
    if job.persistent {
        text.push_str("Persistent=yes\n");
    }
    text.push_str("\n[Install]\nWantedBy=timers.target\n");
    text
}

fn head(name: &str) -> String {
    format!("# Made by mgmt for cron[{name}]: changes are undone.\n[Unit]\nDescription=cron[{name}]\n")
}

fn add(text: &mut String, key: &str, value: &str) {
    // Writing to a text does not fail.
    writeln!(text, "{key}={value}").ok();
}

/// One word of a command line, of which systemd changes nothing.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Specifiers and variables.
            '%' | '$' => out.extend([c, c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Writing to a text does not fail.
            c if c.is_ascii_control() => _ = write!(out, "\\x{:02x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_units_of_a_job() {
        let job = Job {
            events: vec!["*-*-* 03:00:00".into(), "Mon *-*-* 04:00:00".into()],
            cmd: "echo \"$HOME\" 100% \\ ; date\ntrue\u{1}".into(),
            user: Some("backup".into()),
            persistent: true,
            accuracy: Duration::from_secs(1),
            delay: Duration::from_millis(1500),
        };
        expect(
            &service("x", &job),
            "# Made by mgmt for cron[x]: changes are undone.\n[Unit]\nDescription=cron[x]\n\n[Service]\nType=oneshot\n\
             User=backup\nExecStart=/bin/sh -c \"echo \\\"$$HOME\\\" 100%% \\\\ ; date\\ntrue\\x01\"\n",
        );
        expect(
            &timer("x", &job),
            "# Made by mgmt for cron[x]: changes are undone.\n[Unit]\nDescription=cron[x]\n\n[Timer]\n\
             OnCalendar=*-*-* 03:00:00\nOnCalendar=Mon *-*-* 04:00:00\nAccuracySec=1000000us\n\
             RandomizedDelaySec=1500000us\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n",
        );
    }

    fn expect(text: &str, wanted: &str) {
        assert_eq!(text, wanted);
    }

    #[test]
    fn only_what_can_name_a_unit_does() {
        assert_eq!(stem("backup-1.x").as_deref(), Ok("mgmt-backup-1.x"));
        for wrong in ["", "a b", "a/b", "a@b", "%i", "ü", &"x".repeat(201)] {
            assert!(stem(wrong).is_err(), "{wrong}");
        }
    }
}
