//! When a command runs: the five fields of a crontab, turned into what systemd calls a calendar event. Pure.
//!
//! Promises: what a crontab's line would run at, the calendar events run at, and at nothing else; what is no such line is
//! left to systemd as it is.

use std::fmt::Write as _;

/// Longer ones are mistakes.
const SCHEDULE_CHARS_MAX: usize = 1000;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// As systemd names them, in the order of [`DAYS`].
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// What crontabs call some schedules.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "*-01-01 00:00:00"),
    ("@annually", "*-01-01 00:00:00"),
    ("@monthly", "*-*-01 00:00:00"),
    ("@weekly", "Sun *-*-* 00:00:00"),
    ("@daily", "*-*-* 00:00:00"),
    ("@midnight", "*-*-* 00:00:00"),
    ("@hourly", "*-*-* *:00:00"),
];

/// One field of a crontab's line.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// Words for its values, from the first on.
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", first: 0, last: 59, words: &[] },
    Field { name: "hour", first: 0, last: 23, words: &[] },
    Field { name: "day of the month", first: 1, last: 31, words: &[] },
    Field { name: "month", first: 1, last: 12, words: &MONTHS },
    // Sunday has two numbers.
    Field { name: "day of the week", first: 0, last: 7, words: &DAYS },
];

/// What a field allows.
struct Allowed {
    values: Vec<u32>,
    /// It was written with a star: then it does not restrict what another field of days allows.
    starred: bool,
}

/// The calendar events of a schedule.
pub(super) fn events(schedule: &str) -> Result<Vec<String>, String> {
    let schedule = schedule.trim();
    if schedule.is_empty() {
        return Err("is required".to_owned());
    }
    if schedule.chars().count() > SCHEDULE_CHARS_MAX || schedule.chars().any(char::is_control) {
        return Err("is one line, and not a long one".to_owned());
    }
    if schedule.starts_with('@') {
        let known = WORDS.iter().find(|(word, _)| schedule.eq_ignore_ascii_case(word));
        return match known {
            Some((_, event)) => Ok(vec![(*event).to_owned()]),
            None if schedule.eq_ignore_ascii_case("@reboot") => {
                Err("@reboot is no time: write a unit with WantedBy=multi-user.target, and an svc for it".to_owned())
            }
            None => Err(format!("'{schedule}' is not known; there are: {}", WORDS.map(|(word, _)| word).join(", "))),
        };
    }
    let fields: Vec<&str> = schedule.split_ascii_whitespace().collect();
    let is_crontab = fields.len() == 5 && fields[..2].iter().all(|field| !field.contains([':', '~', '.']));
    if is_crontab { crontab(&fields) } else { Ok(vec![schedule.to_owned()]) }
}

fn crontab(fields: &[&str]) -> Result<Vec<String>, String> {
    let allowed: Result<Vec<Allowed>, String> =
        FIELDS.iter().zip(fields).map(|(field, text)| field.read(text)).collect();
    let [minute, hour, day, month, mut weekday] =
        <[Allowed; 5]>::try_from(allowed?).map_err(|_| "has no five fields")?;
    for value in &mut weekday.values {
        *value %= 7;
    }
    weekday.values.sort_unstable();
    weekday.values.dedup();
    let time = format!("{}:{}:00", FIELDS[1].written(&hour), FIELDS[0].written(&minute));
    let month = FIELDS[3].written(&month);
    let (every_day, days) = (day.values.len() == 31, FIELDS[2].written(&day));
    let weekdays: Vec<&str> = weekday.values.iter().map(|value| WEEKDAYS[*value as usize]).collect();
    let weekdays = if weekdays.len() == 7 { String::new() } else { format!("{} ", weekdays.join(",")) };
    // A crontab runs on either, if both are said; on both, if one of them has a star.
    if day.starred || weekday.starred || every_day || weekdays.is_empty() {
        return Ok(vec![format!("{weekdays}*-{month}-{days} {time}")]);
    }
    Ok(vec![format!("*-{month}-{days} {time}"), format!("{weekdays}*-{month}-* {time}")])
}

impl Field {
    /// `1,5-9/2,mon`.
    fn read(&self, text: &str) -> Result<Allowed, String> {
        let mut values = Vec::new();
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                None => (item, 1),
                Some((range, step)) => {
                    let step = step.parse().ok().filter(|step| *step > 0);
                    (range, step.ok_or_else(|| self.wrong(item))?)
                }
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (self.first, self.last.min(self.last_of_star())),
                Some((first, last)) => (self.value(first, item)?, self.value(last, item)?),
                // `5/10` goes on to the end.
                None if item.contains('/') => (self.value(range, item)?, self.last),
                None => (self.value(range, item)?, self.value(range, item)?),
            };
            if first > last {
                return Err(self.wrong(item));
            }
            values.extend((first..=last).step_by(step));
        }
        values.sort_unstable();
        values.dedup();
        Ok(Allowed { values, starred: text.starts_with('*') })
    }

    /// A star means each value once.
    const fn last_of_star(&self) -> u32 {
        if self.last == 7 { 6 } else { self.last }
    }

    fn value(&self, text: &str, item: &str) -> Result<u32, String> {
        let word = self.words.iter().position(|word| text.eq_ignore_ascii_case(word));
        let value = match word {
            Some(at) => u32::try_from(at).ok().map(|at| at + self.first),
            None => text.parse().ok(),
        };
        value.filter(|value| (self.first..=self.last).contains(value)).ok_or_else(|| self.wrong(item))
    }

    fn wrong(&self, item: &str) -> String {
        format!("'{item}' is no {}: that is from {} to {}", self.name, self.first, self.last)
    }

    /// As a calendar event has it.
    fn written(&self, allowed: &Allowed) -> String {
        let all = (self.first..=self.last_of_star()).count();
        if allowed.values.len() == all {
            return "*".to_owned();
        }
        let mut out = String::new();
        for value in &allowed.values {
            let comma = if out.is_empty() { "" } else { "," };
            // Writing to a text does not fail.
            write!(out, "{comma}{value:02}").ok();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_crontab_becomes_calendar_events() {
        for (schedule, wanted) in [
            ("* * * * *", "*-*-* *:*:00"),
            ("0 3 * * *", "*-*-* 03:00:00"),
            ("*/15 * * * *", "*-*-* *:00,15,30,45:00"),
            ("5/20 8-18/5 * * *", "*-*-* 08,13,18:05,25,45:00"),
            ("30 2 1,15 * *", "*-*-01,15 02:30:00"),
            ("0 0 * jan,JUL-sep *", "*-01,07,08,09-* 00:00:00"),
            ("0 6 * * mon-fri", "Mon,Tue,Wed,Thu,Fri *-*-* 06:00:00"),
            ("0 6 * * 0", "Sun *-*-* 06:00:00"),
            ("0 6 * * 5-7", "Sun,Fri,Sat *-*-* 06:00:00"),
            ("0 6 * * 0-7", "*-*-* 06:00:00"),
            ("0 6 */2 * 1", "Mon *-*-01,03,05,07,09,11,13,15,17,19,21,23,25,27,29,31 06:00:00"),
            ("0 6 13 * 5", "*-*-13 06:00:00 | Fri *-*-* 06:00:00"),
            ("0-59 0-23 1-31 1-12 0-6", "*-*-* *:*:00"),
            ("@Daily", "*-*-* 00:00:00"),
            ("Mon..Fri 22:30", "Mon..Fri 22:30"),
            ("hourly", "hourly"),
            ("*-*-* 4:00:00 Europe/Berlin x y", "*-*-* 4:00:00 Europe/Berlin x y"),
        ] {
            assert_eq!(events(schedule).map(|events| events.join(" | ")).as_deref(), Ok(wanted), "{schedule}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_field() {
        for (schedule, wanted) in [
            ("", "is required"),
            ("60 * * * *", "'60' is no minute: that is from 0 to 59"),
            ("* 24 * * *", "'24' is no hour: that is from 0 to 23"),
            ("* * 0 * *", "'0' is no day of the month: that is from 1 to 31"),
            ("* * * foo *", "'foo' is no month: that is from 1 to 12"),
            ("* * * * 8", "'8' is no day of the week: that is from 0 to 7"),
            ("5-1 * * * *", "'5-1' is no minute: that is from 0 to 59"),
            ("*/0 * * * *", "'*/0' is no minute: that is from 0 to 59"),
            ("1,, * * * *", "'' is no minute: that is from 0 to 59"),
            ("a\nb", "is one line, and not a long one"),
        ] {
            assert_eq!(events(schedule), Err(wanted.to_owned()), "{schedule}");
        }
        assert!(events("@reboot").unwrap_err().contains("WantedBy=multi-user.target"));
        assert!(events("@often").unwrap_err().contains("there are: @yearly"));
    }
}
