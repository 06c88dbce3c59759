//! What files say about a host. Pure.

/// Bytes of memory, from the text of `meminfo`.
pub(super) fn memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The name of a user, from the text of `passwd`.
pub(super) fn user(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, number) = (parts.next()?, parts.nth(1)?);
        (number.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

/// The hypervisor, from what the firmware says of maker and product.
pub(super) fn hypervisor(vendor: &str, product: &str) -> Option<&'static str> {
    let known = [
        ("QEMU", "kvm"),
        ("KVM", "kvm"),
        ("Amazon EC2", "amazon"),
        ("Google Compute Engine", "google"),
        ("VMware", "vmware"),
        ("innotek", "virtualbox"),
        ("VirtualBox", "virtualbox"),
        ("Xen", "xen"),
        ("Parallels", "parallels"),
        ("BHYVE", "bhyve"),
        ("OpenStack", "kvm"),
    ];
    let found = known.iter().find(|(mark, _)| vendor.starts_with(mark) || product.starts_with(mark));
    // Microsoft makes machines, too.
    let microsoft = vendor == "Microsoft Corporation" && product == "Virtual Machine";
    found.map(|(_, name)| *name).or(microsoft.then_some("hyper-v"))
}

/// Whether the processor says that a hypervisor is above it, from the text of `cpuinfo`.
pub(super) fn is_virtual(text: &str) -> bool {
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(memory("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
        assert_eq!(memory("MemTotal: many kB\n"), None);
        assert_eq!(memory("MemTotal: 18446744073709551615 kB\n"), None);
    }

    #[test]
    fn users_are_found_by_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/:\n";
        assert_eq!(user(text, 33).as_deref(), Some("web"));
        assert_eq!(user(text, 34), None);
    }

    #[test]
    fn firmware_names_the_hypervisor() {
        assert_eq!(hypervisor("QEMU", "Standard PC"), Some("kvm"));
        assert_eq!(hypervisor("Microsoft Corporation", "Virtual Machine"), Some("hyper-v"));
        assert_eq!(hypervisor("Microsoft Corporation", "Surface"), None);
        assert_eq!(hypervisor("", ""), None);
    }
}
