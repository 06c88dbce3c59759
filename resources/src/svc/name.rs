//! Names of units: from what a graph file says to what systemd has.

/// Types that can be managed, as systemd.unit(5) has them.
const SUFFIXES: [&str; 9] = ["service", "socket", "target", "mount", "automount", "swap", "timer", "path", "slice"];
/// Types that come and go by themselves.
const NOT_MANAGED: [&str; 2] = ["device", "scope"];
/// `UNIT_NAME_MAX`.
const BYTES_MAX: usize = 255;

/// The whole name of the unit, or why there can be no such unit.
pub(super) fn unit(name: &str) -> Result<String, String> {
    let whole = match name.rsplit_once('.') {
        Some((_, suffix)) if SUFFIXES.contains(&suffix) || NOT_MANAGED.contains(&suffix) => name.to_owned(),
        _ => format!("{name}.service"),
    };
    let (prefix, suffix) = whole.rsplit_once('.').expect("a suffix has just been put there");
    if prefix.is_empty() || whole.len() > BYTES_MAX {
        return Err(format!("a unit's name has to have 1 to {BYTES_MAX} bytes, its type included"));
    }
    if let Some(wrong) = prefix.chars().find(|c| !c.is_ascii_alphanumeric() && !":-_.\\@".contains(*c)) {
        return Err(format!(
            "a unit's name has no {wrong:?}: letters, digits and ':-_.\\@' only (systemd-escape makes one of a path)"
        ));
    }
    if NOT_MANAGED.contains(&suffix) {
        return Err(format!("a unit of the type {suffix} can be neither started nor enabled"));
    }
    if prefix.starts_with('@') {
        return Err("a unit's name does not begin with '@'".to_owned());
    }
    if prefix.ends_with('@') {
        return Err(format!("{whole} is a template: name an instance of it, such as {prefix}INSTANCE.{suffix}"));
    }
    Ok(whole)
}

/// The template of an instance: `getty@.service` of `getty@tty1.service`.
pub(super) fn template(unit: &str) -> Option<String> {
    let (prefix, rest) = unit.split_once('@')?;
    let (_, suffix) = rest.rsplit_once('.')?;
    Some(format!("{prefix}@.{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_type_is_a_service() {
        for (name, whole) in [
            ("nginx", "nginx.service"),
            ("nginx.service", "nginx.service"),
            ("fstrim.timer", "fstrim.timer"),
            ("php8.2-fpm", "php8.2-fpm.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("srv-data\\x2dnew.mount", "srv-data\\x2dnew.mount"),
        ] {
            assert_eq!(unit(name).as_deref(), Ok(whole));
        }
    }

    #[test]
    fn what_can_be_no_unit_says_why() {
        for (name, why) in [
            ("", "1 to 255 bytes"),
            (".service", "1 to 255 bytes"),
            ("/srv/data", "no '/'"),
            ("a b", "no ' '"),
            ("getty@", "is a template: name an instance of it, such as getty@INSTANCE.service"),
            ("getty@.service", "is a template"),
            ("@x", "does not begin"),
            ("sda.device", "type device"),
            ("run-1.scope", "type scope"),
        ] {
            let said = unit(name).unwrap_err();
            assert!(said.contains(why), "{name}: {said}");
        }
        assert!(unit(&"x".repeat(250)).is_err());
    }

    #[test]
    fn an_instance_has_a_template() {
        assert_eq!(template("getty@tty1.service").as_deref(), Some("getty@.service"));
        assert_eq!(template("a@b.c.timer").as_deref(), Some("a@.timer"));
        assert_eq!(template("nginx.service"), None);
    }
}
