//! From parameters to an [`Exec`](super::Exec): what is required, what goes together, and what others may know of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Exec;
use super::command::{Line, Unclear};
use super::scope::Isolation;
use super::setting::{Setting, Tuning};
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Params, Problem, normal};

pub(super) fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut said = Said::default();
    let exec = exec(params, context, &mut said);
    match exec {
        Some(exec) if said.problems.is_empty() => {
            let facets = facets(&exec);
            Ok(Built { resource: Arc::new(exec), facets, warnings: said.warnings })
        }
        _ => Err(said.problems),
    }
}

#[derive(Default)]
struct Said {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// `None` only with a problem said.
fn exec(params: &mut Params, context: &Context<'_>, said: &mut Said) -> Option<Exec> {
    let args = params.texts("args");
    let args = if args == [""] { Vec::new() } else { args };
    let command = line(params, "cmd", "shell", args, said);
    if command.is_none() && said.problems.is_empty() {
        said.problems.push(Problem::new("cmd", "is required"));
    }
    let path = |text: Option<String>| text.map(PathBuf::from);
    let paths = |texts: Vec<String>| texts.into_iter().filter(|text| !text.is_empty()).map(PathBuf::from).collect();
    let setting = Setting {
        id: format!("exec[{}]", context.name),
        cwd: path(params.filled("cwd")),
        env: environment(params, said),
        user: params.filled("user"),
        group: params.filled("group"),
        sensitive: context.sensitive,
        isolation: isolation(params, said),
        host: HostRef(Arc::clone(context.host)),
        tuning: Tuning::default(),
    };
    Some(Exec {
        name: context.name.to_owned(),
        watchcmd: line(params, "watchcmd", "watchshell", Vec::new(), said),
        ifcmd: line(params, "ifcmd", "ifshell", Vec::new(), said),
        nifcmd: line(params, "nifcmd", "nifshell", Vec::new(), said),
        donecmd: line(params, "donecmd", "doneshell", Vec::new(), said),
        timeout: timeout(params, said),
        refreshonly: params.bool("refreshonly").unwrap_or(false),
        watchfiles: paths(params.texts("watchfiles")),
        creates: path(params.filled("creates")),
        mtimes: paths(params.texts("mtimes")),
        setting: Arc::new(setting),
        command: command?,
    })
}

fn line(
    params: &mut Params,
    field: &'static str,
    shell_field: &'static str,
    args: Vec<String>,
    said: &mut Said,
) -> Option<Line> {
    let (text, shell) = (params.filled(field), params.filled(shell_field));
    let Some(text) = text else {
        if shell.is_some() {
            said.warnings.push(Problem::new(shell_field, format!("has no effect without {field}")));
        }
        return None;
    };
    let (line, unclear, of) = match shell {
        Some(_) if !args.is_empty() => {
            said.problems.push(Problem::new("args", "cannot go with shell: put the arguments into cmd"));
            return None;
        }
        Some(shell) => {
            let (line, unclear) = Line::shell(&shell, &text);
            (line, unclear, shell_field)
        }
        None => {
            let (line, unclear) = Line::words(&text, args);
            (line, unclear, field)
        }
    };
    match unclear {
        None => {}
        Some(Unclear::Empty) => said.problems.push(Problem::new(of, "names no program")),
        Some(Unclear::Quote) => {
            said.warnings.push(Problem::new(of, "has a quote that is not closed, and is split at white space instead"));
        }
    }
    zero_free(of, line.iter().flat_map(|line| line.args.iter().chain([&line.program])), said);
    line
}

/// The kernel takes no zero byte in arguments and environment, and says so only when a command is started.
fn zero_free<'a>(field: &'static str, mut texts: impl Iterator<Item = &'a String>, said: &mut Said) {
    if texts.any(|text| text.contains('\0')) {
        said.problems.push(Problem::new(field, "holds a zero byte, which no command can be given"));
    }
}

fn environment(params: &mut Params, said: &mut Said) -> std::collections::BTreeMap<String, String> {
    let env = params.map("env");
    if let Some(key) = env.keys().find(|key| key.is_empty() || key.contains('=')) {
        said.problems.push(Problem::new("env", format!("'{key}' cannot name a variable")));
    }
    zero_free("env", env.iter().flat_map(|(key, value)| [key, value]), said);
    env
}

fn isolation(params: &mut Params, said: &mut Said) -> Option<Isolation> {
    let (isolate, unit) = (params.bool("isolate").unwrap_or(false), params.map("unit"));
    if !isolate {
        if !unit.is_empty() {
            said.problems.push(Problem::new("unit", "is of a scope, which the command has with `isolate: true`"));
        }
        return None;
    }
    match Isolation::of(&unit) {
        Ok(isolation) => Some(isolation),
        Err(wrong) => {
            said.problems.extend(wrong.into_iter().map(|why| Problem::new("unit", why)));
            None
        }
    }
}

fn timeout(params: &mut Params, said: &mut Said) -> Option<Duration> {
    let seconds = params.seconds("timeout").filter(|seconds| *seconds > 0.0)?;
    let limit = Duration::try_from_secs_f64(seconds);
    if limit.is_err() {
        said.problems.push(Problem::new("timeout", "is too long"));
    }
    limit.ok()
}

fn facets(exec: &Exec) -> Facets {
    let setting = &exec.setting;
    let mut wants = Vec::new();
    for line in exec.lines() {
        let program = Path::new(&line.program);
        let relative = line.program.contains('/').then(|| setting.cwd.as_ref().map(|cwd| cwd.join(program))).flatten();
        let programs = [program.is_absolute().then(|| program.to_path_buf()), relative, line.script.clone()];
        for program in programs.into_iter().flatten().map(|program| normal(&program)) {
            wants.push(Anchor::Shipped(program.clone()));
            wants.push(Anchor::Path(program));
        }
        if !line.program.contains('/') {
            // Where packages put programs; `/usr/bin` is the same place to whoever looks.
            let places = ["/bin", "/sbin"].map(|directory| Anchor::Shipped(Path::new(directory).join(program)));
            wants.extend(places);
        }
    }
    if let Some(cwd) = &setting.cwd {
        wants.push(Anchor::Path(normal(cwd)));
        wants.push(Anchor::Parent(normal(cwd)));
    }
    wants.extend(setting.user.clone().map(Anchor::User));
    wants.extend(setting.group.clone().map(Anchor::Group));
    wants.sort();
    wants.dedup();
    Facets { wants, ..Facets::default() }
}
