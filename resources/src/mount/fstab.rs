//! The line of `/etc/fstab` about one mount point; all other lines stay as they are.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;

use super::What;
use crate::file::edited::{Edit, Edited};
use crate::lines::Lines;
use crate::watches::unescape;

/// What the file shall say of a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// `None`: nothing.
    pub(super) what: Option<What>,
}

impl Edit for Entry {
    fn edited(&self, before: Option<&[u8]>) -> Result<Option<Edited>, Fault> {
        let mut lines = Lines::of(before.unwrap_or_default());
        let numbers = lines.numbers(|line| {
            point(line).is_some_and(|point| Path::new(std::ffi::OsStr::from_bytes(&point)) == self.path)
        });
        let (wrong, deed) = match (numbers.as_slice(), &self.what) {
            ([], None) => return Ok(None),
            (_, None) => {
                lines.remove(|number, _| numbers.contains(&number));
                ("in /etc/fstab, wanted absent", "removed from /etc/fstab")
            }
            ([], Some(what)) => {
                lines.insert(lines.count(), &[&self.line(what, "0 0")]);
                ("not in /etc/fstab", "written into /etc/fstab")
            }
            ([number], Some(what)) => {
                let rest = match lines.bodies(*number, number + 1).next().map(fields) {
                    Some(fields) if self.says(what, &fields) => return Ok(None),
                    Some(fields) => fields.get(4..).unwrap_or_default().join(" "),
                    None => String::new(),
                };
                let rest = if rest.is_empty() { "0 0" } else { &rest };
                lines.replace(*number, &self.line(what, rest));
                ("its line in /etc/fstab differs", "set in /etc/fstab")
            }
            (numbers, Some(_)) => {
                let shown: Vec<String> = numbers.iter().map(|number| (number + 1).to_string()).collect();
                let why = format!(
                    "/etc/fstab has several lines for {}: {}; leave one",
                    self.path.display(),
                    shown.join(", ")
                );
                return Err(Fault::new(why));
            }
        };
        Ok(Some(Edited { after: lines.joined(), wrong, deed }))
    }
}

impl Entry {
    /// With the last two fields as they were, or as told.
    fn line(&self, what: &What, rest: &str) -> String {
        let path = escape(&self.path.to_string_lossy());
        format!("{} {path} {} {} {rest}", escape(&what.device), what.fstype, escape(&what.options_text()))
    }

    fn says(&self, what: &What, fields: &[String]) -> bool {
        let wanted = [
            escape(&what.device),
            escape(&self.path.to_string_lossy()),
            what.fstype.clone(),
            escape(&what.options_text()),
        ];
        fields.get(..4).is_some_and(|fields| fields == wanted)
    }
}

fn fields(line: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(line).split_ascii_whitespace().map(str::to_owned).collect()
}

/// The mount point of a line, if it has one.
fn point(line: &[u8]) -> Option<Vec<u8>> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    fields.next().filter(|first| !first.starts_with(b"#"))?;
    let point = unescape(fields.next()?);
    let end = point.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    Some(point[..end.min(point.len())].to_vec())
}

/// Blanks, and what stands for them, as three octal digits.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '\\' | '#' => out.push_str(&format!("\\{:03o}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: bool) -> Entry {
        let options = vec!["ro".to_owned(), "noatime".to_owned()];
        let what = what.then(|| What { device: "/dev/b".to_owned(), fstype: "ext4".to_owned(), options });
        Entry { path: "/mnt/a b".into(), what }
    }

    fn edited(of: &Entry, before: &str) -> String {
        match of.edited(Some(before.as_bytes())) {
            Ok(None) => "=".to_owned(),
            Ok(Some(edited)) => {
                assert_eq!(of.edited(Some(&edited.after)), Ok(None), "a second time changes nothing");
                String::from_utf8(edited.after).unwrap()
            }
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn one_line_is_kept_and_the_others_stay() {
        let other = "# x /mnt/a\\040b y z\nLABEL=r\t/  ext4 defaults 0 1";
        let line = "/dev/b /mnt/a\\040b ext4 ro,noatime 0 0\n";
        assert_eq!(edited(&entry(true), other), format!("{other}\n{line}"));
        assert_eq!(edited(&entry(true), &line.replace(' ', "\t")), "=");
        let old = "UUID=1  /mnt/a\\040b/ xfs defaults 1 2\nz /z";
        assert_eq!(edited(&entry(true), old), "/dev/b /mnt/a\\040b ext4 ro,noatime 1 2\nz /z");
        assert_eq!(edited(&entry(false), old), "z /z");
        assert_eq!(edited(&entry(false), other), "=");
        let twice = edited(&entry(true), &format!("{line}\n{line}"));
        assert_eq!(twice, "/etc/fstab has several lines for /mnt/a b: 1, 3; leave one");
    }
}
