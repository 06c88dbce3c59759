//! Permission bits as a user writes them: octal (`0644`) or in words (`u+rwx,go-w`). Pure: text and bits in, bits out.

/// All bits a mode may have.
const ALL: u32 = 0o7777;
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
/// The longest mode in words. Whether it settles takes a try for each set of bits, and other hosts write modes as well.
const WORDS_BYTES_MAX: usize = 64;

/// Wanted permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Exactly these.
    Exact(u32),
    /// Those that stand, changed by each of these in turn.
    Changed(Vec<Clause>),
}

/// One operation of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    /// How far the classes' bits are shifted: 6 user, 3 group, 0 others.
    classes: Vec<u32>,
    operation: Operation,
    bits: Bits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Bits {
    /// Letters of `rwxXst`.
    Letters(String),
    /// What the class with this shift has.
    CopyOf(u32),
}

impl Mode {
    /// Reads a mode.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            let bits = u32::from_str_radix(digits, 8).ok().filter(|bits| *bits <= ALL);
            return bits.map(Self::Exact).ok_or_else(|| format!("{text} is no octal mode: 0644 would be one"));
        }
        if text.len() > WORDS_BYTES_MAX {
            return Err(format!("a mode in words has {WORDS_BYTES_MAX} bytes at most, and this one {}", text.len()));
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            clauses
                .extend(clauses_of(part).ok_or_else(|| format!("{text} is no mode: 0644 or u+rwx,go-w would be one"))?);
        }
        // What sets and clears the same bits whatever stands does nothing more the second time.
        let looks = |clause: &Clause| match &clause.bits {
            Bits::CopyOf(_) => true,
            Bits::Letters(letters) => letters.contains('X'),
        };
        let constant = !clauses.iter().any(looks);
        let mode = Self::Changed(clauses);
        // A check asks whether applying the mode changes anything: one that changes its own outcome is never satisfied.
        let settles = |bits, directory| mode.bits(mode.bits(bits, directory), directory) == mode.bits(bits, directory);
        // The special bits are never copied: they need no try.
        match constant || (0..=0o777).all(|bits| settles(bits, false) && settles(bits, true)) {
            true => Ok(mode),
            false => Err(format!("{text} gives another result each time it is applied, so it cannot be kept")),
        }
    }

    /// The wanted bits, where `standing` are the present ones.
    pub(super) fn bits(&self, standing: u32, directory: bool) -> u32 {
        match self {
            Self::Exact(bits) => *bits,
            Self::Changed(clauses) => clauses.iter().fold(standing & ALL, |bits, clause| clause.apply(bits, directory)),
        }
    }
}

impl Clause {
    fn apply(&self, standing: u32, directory: bool) -> u32 {
        let everybody = self.classes.len() == 3;
        let (mut touched, mut mask) = (0, 0);
        for shift in &self.classes {
            mask |= 0o7 << shift;
            touched |= match &self.bits {
                Bits::CopyOf(other) => ((standing >> other) & 0o7) << shift,
                Bits::Letters(letters) => {
                    letters.chars().fold(0, |bits, letter| bits | letter_bits(letter, *shift, standing, directory))
                }
            };
            // `=` also sets the class's special bit, as chmod does for files.
            mask |= [0, 0, 0, SET_GID, 0, 0, SET_UID][*shift as usize];
        }
        if everybody {
            mask |= STICKY;
        }
        match self.operation {
            Operation::Add => standing | touched,
            Operation::Remove => standing & !touched,
            Operation::Set => (standing & !mask) | touched,
        }
    }
}

fn letter_bits(letter: char, shift: u32, standing: u32, directory: bool) -> u32 {
    match letter {
        'r' => 0o4 << shift,
        'w' => 0o2 << shift,
        'x' => 0o1 << shift,
        'X' if directory || standing & 0o111 != 0 => 0o1 << shift,
        's' if shift == 6 => SET_UID,
        's' if shift == 3 => SET_GID,
        't' => STICKY,
        _ => 0,
    }
}

/// `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`. Without a class: all of them, whatever the umask of this program.
fn clauses_of(part: &str) -> Option<Vec<Clause>> {
    let start = part.find(['+', '-', '='])?;
    let (who, mut rest) = part.split_at(start);
    let mut classes: Vec<u32> = Vec::new();
    for letter in if who.is_empty() { "a" } else { who }.chars() {
        match letter {
            'a' => classes.extend([6, 3, 0]),
            other => classes.push(class(other)?),
        }
    }
    classes.sort_unstable();
    classes.dedup();
    let mut clauses = Vec::new();
    while let Some(sign) = rest.chars().next() {
        let operation = match sign {
            '+' => Operation::Add,
            '-' => Operation::Remove,
            _ => Operation::Set,
        };
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        let what = &rest[1..end];
        let mut letters = what.chars();
        let bits = match (letters.next().and_then(class), letters.next()) {
            (Some(other), None) => Bits::CopyOf(other),
            _ if what.chars().all(|letter| "rwxXst".contains(letter)) => Bits::Letters(what.to_owned()),
            _ => return None,
        };
        clauses.push(Clause { classes: classes.clone(), operation, bits });
        rest = &rest[end..];
    }
    Some(clauses)
}

fn class(letter: char) -> Option<u32> {
    match letter {
        'u' => Some(6),
        'g' => Some(3),
        'o' => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_do_what_chmod_does() {
        let cases = [
            ("0644", 0o777, 0o644),
            ("644", 0o4755, 0o644),
            ("0o755", 0, 0o755),
            ("4755", 0, 0o4755),
            ("0", 0o777, 0),
            ("u+rwx,go-w", 0o066, 0o744),
            ("a=r", 0o7777, 0o444),
            ("+x", 0o644, 0o755),
            ("u=rw,g=r,o=", 0o777, 0o640),
            ("u=rwx,g=u", 0o000, 0o770),
            ("u+s", 0o755, 0o4755),
            ("g+s,o+t", 0o755, 0o3755),
            ("u-s", 0o4755, 0o755),
            ("a+X", 0o644, 0o644),
            ("a+X", 0o744, 0o755),
            ("u+r-w", 0o222, 0o422),
            ("go=", 0o2777, 0o700),
            ("a=", 0o1777, 0),
            ("o=g", 0o750, 0o755),
        ];
        for (text, standing, wanted) in cases {
            let mode = Mode::parse(text).unwrap();
            assert_eq!(mode.bits(standing, false), wanted, "{text} on {standing:o}");
        }
        assert_eq!(Mode::parse("a+X").unwrap().bits(0o644, true), 0o755, "a directory may always be entered");
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "8", "0o", "10000", "rw", "u", "u+q", "z+r", "u+rw g-w", "u+r,", "u=go", "-1", "0x1ff"] {
            assert!(Mode::parse(text).is_err(), "{text}");
        }
        // Each clause would be tried on each set of bits.
        let long = vec!["u+r"; 60_000].join(",");
        assert!(Mode::parse(&long).unwrap_err().contains("64 bytes at most"));
        assert!(Mode::parse("u=g,g=o").unwrap_err().contains("another result each time"));
    }
}
