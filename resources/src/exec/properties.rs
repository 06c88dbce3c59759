//! What a scope of its own may be given: the properties that `unit` takes, with the values that systemd's own files take
//! (systemd.resource-control(5)). Pure.
//!
//! Promises: what is accepted here, systemd understands; what is not is refused with the nearest that is. Must not know
//! how a scope is made.

use crate::systemd::Property;

/// What all processes together may have, as a scope has it; the last two are of the process itself, which a scope knows
/// nothing of.
const TABLE: [(&str, Form); 22] = [
    ("AllowedCPUs", Form::Set),
    ("AllowedMemoryNodes", Form::Set),
    ("CPUAccounting", Form::Flag),
    ("CPUQuota", Form::Quota),
    ("CPUWeight", Form::Weight { idle: true }),
    ("IOAccounting", Form::Flag),
    ("IOWeight", Form::Weight { idle: false }),
    ("IPAccounting", Form::Flag),
    ("MemoryAccounting", Form::Flag),
    ("MemoryHigh", Form::Bytes),
    ("MemoryLow", Form::Bytes),
    ("MemoryMax", Form::Bytes),
    ("MemoryMin", Form::Bytes),
    ("MemorySwapMax", Form::Bytes),
    ("MemoryZSwapMax", Form::Bytes),
    ("Slice", Form::Slice),
    ("StartupCPUWeight", Form::Weight { idle: true }),
    ("StartupIOWeight", Form::Weight { idle: false }),
    ("TasksAccounting", Form::Flag),
    ("TasksMax", Form::Tasks),
    ("Nice", Form::Nice),
    ("OOMScoreAdjust", Form::OomScore),
];

/// CPUs and memory nodes have numbers below this.
const SET_MAX: usize = 8192;
/// What `infinity` is.
const UNLIMITED: u64 = u64::MAX;
/// A name that is written with so many mistakes is still guessed.
const MISTAKES_MAX: usize = 3;

/// How a value is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Bytes,
    Tasks,
    Quota,
    Weight { idle: bool },
    Set,
    Flag,
    Slice,
    Nice,
    OomScore,
}

/// What a pair of texts asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    /// A property of the scope, as the bus has it.
    Scope(String, Property),
    /// The process's own priority.
    Nice(i32),
    /// How likely the kernel ends the process when memory is short.
    OomScore(i32),
}

/// Reads one.
pub(super) fn parse(name: &str, value: &str) -> Result<Asked, String> {
    let Some((known, form)) = TABLE.iter().find(|(known, _)| *known == name) else { return Err(unknown(name)) };
    let value = value.trim();
    let scope = |property| Asked::Scope((*known).to_owned(), property);
    let asked = match form {
        Form::Bytes => shared(known, value).or_else(|| bytes(value).map(|bytes| scope(Property::Number(bytes)))),
        Form::Tasks => shared(known, value).or_else(|| {
            let most = if value == "infinity" { Some(UNLIMITED) } else { value.parse().ok() };
            most.filter(|most| *most > 0).map(|most| scope(Property::Number(most)))
        }),
        Form::Quota => percent(value).filter(|part| *part > 0.0).map(|part| {
            // Of one second of each CPU, in microseconds.
            Asked::Scope("CPUQuotaPerSecUSec".to_owned(), Property::Number((part * 1e6).round() as u64))
        }),
        Form::Weight { idle } => match value {
            "idle" if *idle => Some(scope(Property::Number(0))),
            _ => value.parse().ok().filter(|weight| (1..=10_000).contains(weight)).map(|w| scope(Property::Number(w))),
        },
        Form::Set => set(value).map(|mask| scope(Property::Bytes(mask))),
        Form::Flag => flag(value).map(|flag| scope(Property::Flag(flag))),
        Form::Slice => is_slice(value).then(|| scope(Property::Text(value.to_owned()))),
        Form::Nice => value.parse().ok().filter(|nice| (-20..=19).contains(nice)).map(Asked::Nice),
        Form::OomScore => value.parse().ok().filter(|score| (-1000..=1000).contains(score)).map(Asked::OomScore),
    };
    asked.ok_or_else(|| format!("{known} is {}, not '{value}'", form.wanted()))
}

impl Form {
    const fn wanted(self) -> &'static str {
        match self {
            Self::Bytes => "a number of bytes (512M, 2G), a part of all memory (25%), or infinity",
            Self::Tasks => "a number, a part of all tasks (25%), or infinity",
            Self::Quota => "a part of one CPU's time (50%, 200%)",
            Self::Weight { idle: true } => "a number from 1 to 10000, or idle",
            Self::Weight { idle: false } => "a number from 1 to 10000",
            Self::Set => "numbers and ranges (0-3,6)",
            Self::Flag => "yes or no",
            Self::Slice => "the name of a slice (batch.slice)",
            Self::Nice => "a number from -20 to 19",
            Self::OomScore => "a number from -1000 to 1000",
        }
    }
}

/// A part of all there is, which the bus has under another name and as a part of 2³².
fn shared(known: &str, value: &str) -> Option<Asked> {
    let part = percent(value).filter(|part| *part <= 1.0)?;
    let scaled = (part * f64::from(u32::MAX)).round() as u32;
    Some(Asked::Scope(format!("{known}Scale"), Property::Part(scaled)))
}

fn percent(value: &str) -> Option<f64> {
    let part: f64 = value.strip_suffix('%')?.trim().parse().ok()?;
    (part.is_finite() && (0.0..=1e6).contains(&part)).then_some(part / 100.0)
}

/// `512M`: to the base of 1024, as systemd has it.
fn bytes(value: &str) -> Option<u64> {
    if value == "infinity" {
        return Some(UNLIMITED);
    }
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &value[digits.len()..] {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        _ => return None,
    };
    let (whole, part) = digits.trim().split_once('.').unwrap_or((digits.trim(), ""));
    let whole: u64 = whole.parse().ok()?;
    let part = match part {
        "" => 0.0,
        part if part.bytes().all(|byte| byte.is_ascii_digit()) => format!("0.{part}").parse::<f64>().ok()?,
        _ => return None,
    };
    let factor = 1_u64 << factor;
    whole.checked_mul(factor)?.checked_add((part * factor as f64) as u64).filter(|bytes| *bytes < UNLIMITED)
}

fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// `0-3,6`, as a mask of bits.
fn set(value: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for range in value.split([',', ' ']).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= SET_MAX {
            return None;
        }
        mask.resize(mask.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|at| mask[at / 8] |= 1 << (at % 8));
    }
    (!mask.is_empty()).then_some(mask)
}

fn is_slice(value: &str) -> bool {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '\\');
    value.strip_suffix(".slice").is_some_and(|name| !name.is_empty() && name.chars().all(named)) && value.len() <= 255
}

/// What to say of a name that is not in the table.
fn unknown(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let near = TABLE.iter().map(|(known, _)| (distance(&lower, &known.to_ascii_lowercase()), *known)).min();
    match near.filter(|(mistakes, _)| *mistakes <= MISTAKES_MAX) {
        Some((_, known)) => format!("unknown property '{name}' (did you mean '{known}'?)"),
        None => {
            let names: Vec<_> = TABLE.iter().map(|(known, _)| *known).collect();
            format!("unknown property '{name}'; there are: {}", names.join(", "))
        }
    }
}

/// How many letters are wrong, missing or too many.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let here = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], here);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, value: &str) -> String {
        match parse(name, value) {
            Ok(Asked::Scope(name, property)) => format!("{name} {property:?}"),
            Ok(other) => format!("{other:?}"),
            Err(why) => why,
        }
    }

    #[test]
    fn values_are_read_as_systemd_writes_them() {
        for (name, value, wanted) in [
            ("MemoryMax", "512M", "MemoryMax Number(536870912)"),
            ("MemoryHigh", "1.5G", "MemoryHigh Number(1610612736)"),
            ("MemoryMax", "infinity", "MemoryMax Number(18446744073709551615)"),
            ("MemoryMax", "50%", "MemoryMaxScale Part(2147483648)"),
            ("TasksMax", "12", "TasksMax Number(12)"),
            ("CPUQuota", "150%", "CPUQuotaPerSecUSec Number(1500000)"),
            ("CPUWeight", "idle", "CPUWeight Number(0)"),
            ("IOWeight", "10", "IOWeight Number(10)"),
            ("AllowedCPUs", "0-1,9", "AllowedCPUs Bytes([3, 2])"),
            ("TasksAccounting", "on", "TasksAccounting Flag(true)"),
            ("Slice", "batch.slice", "Slice Text(\"batch.slice\")"),
            ("Nice", "-5", "Nice(-5)"),
            ("OOMScoreAdjust", "1000", "OomScore(1000)"),
        ] {
            assert_eq!(said(name, value), wanted);
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_would_be_right() {
        for (name, value) in [
            ("MemoryMax", "lots"),
            ("MemoryMax", "-1"),
            ("MemoryMax", "1.2.3M"),
            ("MemoryMax", "99999999999P"),
            ("MemoryMax", "101%"),
            ("TasksMax", "0"),
            ("CPUQuota", "50"),
            ("CPUQuota", "0%"),
            ("CPUWeight", "0"),
            ("IOWeight", "idle"),
            ("AllowedCPUs", "3-1"),
            ("AllowedCPUs", "99999999"),
            ("AllowedCPUs", ""),
            ("Slice", "../x.slice"),
            ("Nice", "20"),
            ("OOMScoreAdjust", "x"),
            ("CPUAccounting", "maybe"),
        ] {
            let why = said(name, value);
            assert!(why.starts_with(&format!("{name} is ")) && why.ends_with(&format!("not '{value}'")), "{why}");
        }
        assert_eq!(said("memorymax", "1"), "unknown property 'memorymax' (did you mean 'MemoryMax'?)");
        assert_eq!(said("CPUQuotas", "1"), "unknown property 'CPUQuotas' (did you mean 'CPUQuota'?)");
        assert!(said("User", "root").starts_with("unknown property 'User'; there are: AllowedCPUs, "));
    }
}
