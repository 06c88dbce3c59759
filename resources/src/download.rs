//! `download`: a file that is fetched from a server, and known by its checksum.
//!
//! What stands at the path, and how a new version comes to stand there, is as for every file; only where the contents
//! come from is different, and that is all that is here: `url` says what is asked for, `client` speaks to servers, and
//! `Fetch` judges and makes contents.

mod client;
#[cfg(test)]
mod tests;
mod url;

use std::fs::File as Open;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::resource::{Applied, Check, Fault, Look, Resource, Signal, Stop, Urgency, Watch, Work};
use tokio::sync::Semaphore;

use crate::checksum::{Checksum, Known};
use crate::file::{self, File, Maker};
use crate::host::HostRef;
use crate::kind::{Built, Context, Field, KindInfo, Params, Problem, Shape};
use client::{Client, Request};
use url::Url;

/// Downloads that run at the same time; more wait for their turn. Each holds a thread and a connection.
const AT_ONCE_MAX: usize = 8;
/// What a download may have at most, if nobody says otherwise.
const BYTES_MAX: u64 = 16 << 30;
/// What is remembered is filed under this.
const KIND: &str = "download";

/// Turns to download.
static TURNS: Semaphore = Semaphore::const_new(AT_ONCE_MAX);

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "download",
    summary: "a file that is fetched from a server, and known by its checksum",
    notes: "\
Keeps a file as a server has it. It is as wanted while a file of that checksum stands at its path; the server is not asked \
then. If the file is missing or another, it is fetched: into a temporary file beside it, with a checksum made on the way, \
and renamed with its final owner and mode only when all of it is there and right. What was fetched in part is thrown away.

Without encryption anybody on the way could give another file, so http takes sha256. With https it may be left out: then \
what came at the first time is remembered and kept, and is not fetched again when the server has something newer.

Certificates are checked against those that this machine trusts. Redirects are followed, up to ten, but not from https to \
http. Proxies are taken from the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY). A name and password in the URL \
are sent to that server alone; they, and what follows a question mark, are shown nowhere.

A server that says nothing for a minute has failed, and so has one that sends more than bytes_max, or answers with anything \
but success. `retry` in `meta` says how often it is tried again. Watches the file; a re-check reads it only if it was \
touched. A refresh does nothing.",
    example: "\
resources:
  download:
  - name: tool
    url: https://releases.example.com/tool-1.4.tar.gz
    sha256: 7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730
    path: /var/cache/tool-1.4.tar.gz
    mode: '0644'
    meta: {retry: 3, delay: 2000}
",
    fields: FIELDS,
    build,
};

static FIELDS: &[Field] = &[
    field("url", Shape::Text, "", "Where it is: http or https."),
    field(
        "sha256",
        Shape::Text,
        "with https: whatever came first",
        "The checksum it has to have, as sha256sum prints it.",
    ),
    field(
        "path",
        Shape::Path,
        "the name, if that is absolute",
        "Where the file shall stand. Its directory has to exist.",
    ),
    field("mode", Shape::Text, "0644 for what is new; else kept", "Permission bits, as of a `file`."),
    field("owner", Shape::Text, "kept", "A user's name, or a number."),
    field("group", Shape::Text, "kept", "A group's name, or a number."),
    field("timeout", Shape::Seconds, "0 (none)", "How long the whole of it may take."),
    field("bytes_max", Shape::Count, "17179869184", "What is longer is refused."),
];

const fn field(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Field {
    Field { name, shape, default, doc }
}

/// A file, and where it comes from.
#[derive(Debug, PartialEq)]
struct Download {
    file: File,
    fetch: Arc<Fetch>,
}

/// What is asked for, and what is known of it.
#[derive(Debug)]
struct Fetch {
    /// Under which what came is remembered.
    name: String,
    url: Url,
    sha256: Option<Checksum>,
    timeout: Option<Duration>,
    bytes_max: u64,
    /// Nothing of the URL is shown.
    sensitive: bool,
    client: &'static Client,
    host: HostRef,
    known: Known,
}

impl PartialEq for Fetch {
    fn eq(&self, other: &Self) -> bool {
        let of = |fetch: &Self| (fetch.sha256, fetch.timeout, fetch.bytes_max, fetch.sensitive);
        self.url == other.url && of(self) == of(other)
    }
}

impl Fetch {
    /// The checksum that contents have to have; `None` if anything would do, and nothing has come yet.
    fn wanted(&self) -> Result<Option<Checksum>, Fault> {
        if self.sha256.is_some() {
            return Ok(self.sha256);
        }
        let record = self.host.memory.get(KIND, &self.name);
        let record = record.map_err(|error| Fault::new(format!("cannot remember what was fetched: {error}")))?;
        Ok(record.as_deref().and_then(|record| self.remembered(record)))
    }

    /// What a record says of this URL: its checksum, then that of what came.
    fn remembered(&self, record: &[u8]) -> Option<Checksum> {
        let (url, came) = std::str::from_utf8(record).ok()?.split_once(' ')?;
        (Checksum::parse(url).ok()? == self.url.checksum()).then(|| Checksum::parse(came).ok())?
    }

    fn remember(&self, came: Checksum) -> Result<(), Fault> {
        let record = format!("{} {came}", self.url.checksum());
        let kept = self.host.memory.put(KIND, &self.name, record.as_bytes());
        kept.map_err(|error| Fault::new(format!("cannot keep the checksum of what was fetched: {error}")))
    }

    fn shown(&self) -> String {
        if self.sensitive { "its URL, which is hidden".to_owned() } else { self.url.to_string() }
    }
}

impl Maker for Fetch {
    fn holds(&self, file: &Open, path: &Path, patient: bool) -> Result<Option<bool>, Fault> {
        let Some(wanted) = self.wanted()? else { return Ok(Some(false)) };
        let fault = |error| Fault::path("read", path, error);
        let known = self.known.quickly(file).map_err(fault)?;
        match (known, patient) {
            (None, false) => Ok(None),
            (Some(known), _) => Ok(Some(known == wanted)),
            (None, true) => Ok(Some(self.known.of(file).map_err(fault)? == wanted)),
        }
    }

    fn make(&self, file: &Open, _: &Path, stop: &Stop) -> Result<u64, Fault> {
        let request = Request { url: &self.url, within: self.timeout, bytes_max: self.bytes_max };
        let fetched = self
            .client
            .fetch(&request, file, stop)
            .map_err(|why| Fault::new(format!("cannot fetch {}: {why}", self.shown())))?;
        match self.sha256 {
            None => self.remember(fetched.checksum)?,
            Some(wanted) if wanted == fetched.checksum => {}
            Some(wanted) => {
                let Fetched { bytes, checksum } = fetched;
                let why = format!("the {bytes} bytes that came have the checksum {checksum}, not {wanted}");
                return Err(Fault::new(format!("cannot fetch {}: {why}", self.shown())));
            }
        }
        Ok(fetched.bytes)
    }
}

/// What has come.
#[derive(Debug, Clone, Copy)]
struct Fetched {
    bytes: u64,
    checksum: Checksum,
}

impl Resource for Download {
    type Drift = file::Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        self.file.watch(signal)
    }

    async fn check(&self, look: &Look) -> Result<Check<file::Drift>, Fault> {
        self.file.check(look).await
    }

    async fn apply(&self, drift: file::Drift, work: &Work) -> Result<Applied, Fault> {
        let _turn = tokio::select! {
            biased;
            () = work.stop.reached(Urgency::Cancel) => return Err(Fault::new("cancelled before it started")),
            turn = TURNS.acquire() => turn.expect("nobody closes it"),
        };
        self.file.apply(drift, work).await
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    build_with(params, context, client::shared())
}

fn build_with(params: &mut Params, context: &Context<'_>, client: &'static Client) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut wrong = |field, message: &dyn ToString| problems.push(Problem::new(field, message.to_string()));
    let url = match params.filled("url").as_deref().map(Url::parse) {
        Some(Ok(url)) => Some(url),
        Some(Err(why)) => {
            wrong("url", &why);
            None
        }
        None => {
            wrong("url", &"is required");
            None
        }
    };
    let sha256 = match params.filled("sha256").as_deref().map(Checksum::parse) {
        Some(Err(why)) => {
            wrong("sha256", &why);
            None
        }
        Some(Ok(sum)) => Some(sum),
        None if url.as_ref().is_some_and(|url| !url.is_secure()) => {
            wrong("sha256", &"is required with http, where anybody on the way could give another file");
            None
        }
        None => None,
    };
    let seconds = params.seconds("timeout").filter(|seconds| *seconds > 0.0);
    let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    if seconds.is_some() && timeout.is_none() {
        wrong("timeout", &"is too long");
    }
    let bytes_max = params.count("bytes_max").unwrap_or(BYTES_MAX);
    let fetch = url.map(|url| Fetch {
        name: context.name.to_owned(),
        url,
        sha256,
        timeout,
        bytes_max,
        sensitive: context.sensitive,
        client,
        host: HostRef(Arc::clone(context.host)),
        known: Known::default(),
    });
    let (Some(fetch), []) = (fetch.map(Arc::new), problems.as_slice()) else {
        // What is wrong with the path is worth being said at the same time.
        let others = file::File::made(params, context, Arc::new(Nothing)).err().unwrap_or_default();
        return Err(problems.into_iter().chain(others).collect());
    };
    let (file, facets) = File::made(params, context, Arc::clone(&fetch) as Arc<dyn Maker>)?;
    Ok(Built { resource: Arc::new(Download { file, fetch }), facets, warnings: Vec::new() })
}

/// Makes nothing, for a resource that will not be.
#[derive(Debug)]
struct Nothing;

impl Maker for Nothing {
    fn holds(&self, _: &Open, _: &Path, _: bool) -> Result<Option<bool>, Fault> {
        Ok(Some(true))
    }

    fn make(&self, _: &Open, _: &Path, _: &Stop) -> Result<u64, Fault> {
        Ok(0)
    }
}
