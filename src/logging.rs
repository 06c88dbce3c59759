//! The log: lines on standard error, for people or as JSON, below whatever progress is shown.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};

use mgmt_engine::Clock;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use crate::cli::args::{LogFormat, When};
use crate::diagnostic::Escaped;
use crate::events::rfc3339;
use crate::progress::Progress;

/// How much is said, and how.
#[derive(Debug, Clone, Copy)]
pub struct Loudness {
    /// Lines of this level and more urgent ones.
    pub level: Level,
    /// Text or JSON.
    pub format: LogFormat,
    /// Colour on standard error.
    pub colour: bool,
}

impl Loudness {
    /// From the counts of `-v` and `-q`.
    pub fn of(verbose: u8, quiet: u8, format: LogFormat, color: When) -> Self {
        let level = match i16::from(verbose) - i16::from(quiet) {
            ..=-2 => Level::ERROR,
            -1 => Level::WARN,
            0 => Level::INFO,
            1 => Level::DEBUG,
            2.. => Level::TRACE,
        };
        Self { level, format, colour: colour(color, io::stderr().is_terminal()) }
    }
}

/// Whether to use colour. `NO_COLOR` is honoured: <https://no-color.org>.
pub fn colour(when: When, terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    }
}

/// Starts the log of this process. Only the first call has an effect.
pub fn start(loudness: Loudness, progress: &Progress) {
    let progress = progress.clone();
    let writer = move || Above(progress.clone());
    let filter = filter(loudness.level);
    let base = tracing_subscriber::registry().with(filter);
    let started = match loudness.format {
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_timer(Utc).with_writer(writer);
            tracing::subscriber::set_global_default(base.with(layer))
        }
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(loudness.colour)
                .event_format(Line { colour: loudness.colour })
                .with_writer(writer);
            tracing::subscriber::set_global_default(base.with(layer))
        }
    };
    // A second start in one process (tests) keeps the first log.
    drop(started);
}

/// What is heard of whom: of this program, of the commands it runs, of messages that no journal takes. The libraries
/// below the mesh speak of their insides at every turn: they are heard by who asks for everything, and what they have to
/// complain of is said by those who use them.
fn filter(level: Level) -> Targets {
    let theirs = if level >= Level::TRACE { LevelFilter::DEBUG } else { LevelFilter::OFF };
    Targets::new().with_default(theirs).with_target("mgmt", level).with_target("exec", level).with_target("msg", level)
}

struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(&rfc3339(Clock::wall()))
    }
}

/// `2026-11-22T14:00:00.123Z  warn  text`
struct Line {
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &tracing::Event<'_>) -> fmt::Result {
        let (word, code) = match *event.metadata().level() {
            Level::ERROR => ("error ", "31"),
            Level::WARN => ("warn  ", "33"),
            Level::INFO => ("", ""),
            Level::DEBUG => ("debug ", "2"),
            Level::TRACE => ("trace ", "2"),
        };
        w.write_str(&rfc3339(Clock::wall()))?;
        w.write_char(' ')?;
        if self.colour && !code.is_empty() {
            write!(w, "\x1b[{code}m{word}\x1b[0m")?;
        } else {
            w.write_str(word)?;
        }
        let mut said = Said::default();
        event.record(&mut said);
        match said.by {
            Some(by) => writeln!(w, "{by}: {}", said.message),
            None if said.facts.is_empty() => writeln!(w, "{}", said.message),
            None => writeln!(w, "{} ({})", said.message, said.facts),
        }
    }
}

/// What a line says, and of whom. A resource says all of it in words, and its fields are for JSON; what else is known is
/// put behind the words.
#[derive(Default)]
struct Said {
    by: Option<String>,
    message: String,
    facts: String,
}

impl tracing::field::Visit for Said {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "id" {
            self.by = Some(value.to_owned());
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            let comma = if self.facts.is_empty() { "" } else { ", " };
            self.facts.push_str(&format!("{comma}{}: {}", field.name(), Escaped(&format!("{value:?}"))));
        }
    }
}

/// Writes whole lines above the progress line.
struct Above(Progress);

impl Write for Above {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.above(|| io::stderr().lock().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
