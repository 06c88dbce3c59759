//! `mgmt graph`: a graph file as a picture.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use mgmt_engine::graph::Graph;
use mgmt_resources::{Host, KindInfo};

use super::args::{self, Picture};
use super::exit::{Exit, Failure};
use super::print;
use crate::assemble::{self, Assembled, Options};
use crate::{facts, picture};

/// Draws a graph file. Its problems go to `problems`, which is standard error.
///
/// # Errors
/// There is no graph in it, it is too big for this form, or output cannot be written.
pub fn run(
    args: &args::Draw,
    kinds: &[&'static KindInfo],
    host: &Arc<Host>,
    out: &mut dyn Write,
    problems: &mut dyn Write,
) -> Result<Exit, Failure> {
    let path = Path::new(&args.file);
    let mut options = Options::of(path).map_err(|error| {
        Failure::new(Exit::Graph, format!("cannot tell the directory of {}: {error}", path.display()))
    })?;
    options.no_autoedge = args.no_autoedges;
    options.hostname = args.hostname.clone().unwrap_or_else(facts::hostname);
    draw(args, &assemble::load(path, &options, kinds, host), out, problems)
}

fn draw(
    args: &args::Draw,
    assembled: &Assembled,
    out: &mut dyn Write,
    problems: &mut dyn Write,
) -> Result<Exit, Failure> {
    write!(problems, "{}", assembled.problems).map_err(|error| Failure::output(&error))?;
    let Some(graph) = &assembled.graph else {
        let errors = assembled.problems.errors();
        let errors = if errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") };
        let message = format!("{}: {errors}, so there is nothing to draw", assembled.problems.file());
        return Err(Failure::new(Exit::Graph, message));
    };
    let drawn = form(graph, args.format)?;
    match &args.output {
        None => print::text(&drawn, out)?,
        Some(path) => fs::write(path, drawn).map_err(|error: io::Error| {
            Failure::new(Exit::CannotCreate, format!("cannot write {}: {error}", path.display()))
        })?,
    }
    Ok(Exit::Done)
}

fn form(graph: &Graph, format: Picture) -> Result<String, Failure> {
    match format {
        Picture::Dot => Ok(picture::dot(graph, None)),
        Picture::Mermaid => Ok(picture::mermaid(graph, None)),
        Picture::Svg => picture::svg(graph, None).map_err(|error| Failure::new(Exit::Usage, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Place, Problem};

    fn args(format: Picture, output: Option<&Path>) -> args::Draw {
        let output = output.map(Path::to_owned);
        args::Draw { file: "g.yaml".into(), format, output, no_autoedges: false, hostname: None }
    }

    fn assembled(graph: Option<Graph>, problem: Problem) -> Assembled {
        let failed = Assembled::failed(&Options { file: "g.yaml".into(), ..Options::default() }, problem);
        Assembled { graph, ..failed }
    }

    #[test]
    fn without_a_graph_all_is_said_and_nothing_is_drawn() {
        let broken = assembled(None, Problem::error(Place { line: 3, column: 1 }, "", "bad"));
        let (mut out, mut problems) = (Vec::new(), Vec::new());
        let failure = draw(&args(Picture::Dot, None), &broken, &mut out, &mut problems).expect_err("it is broken");
        assert_eq!(failure, Failure::new(Exit::Graph, "g.yaml: 1 error, so there is nothing to draw"));
        assert_eq!(String::from_utf8_lossy(&problems), "g.yaml:3:1: bad\n");
        assert!(out.is_empty());
    }

    #[test]
    fn warnings_do_not_keep_it_from_being_drawn() {
        let odd = assembled(Some(Graph::new("g")), Problem::warning(None, "", "odd"));
        for (format, start) in
            [(Picture::Dot, "digraph \"g\""), (Picture::Mermaid, "flowchart"), (Picture::Svg, "<svg")]
        {
            let (mut out, mut problems) = (Vec::new(), Vec::new());
            assert_eq!(draw(&args(format, None), &odd, &mut out, &mut problems), Ok(Exit::Done));
            assert!(String::from_utf8_lossy(&out).starts_with(start));
            assert_eq!(String::from_utf8_lossy(&problems), "g.yaml: odd\n");
        }
    }

    #[test]
    fn it_is_written_where_asked() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("g.svg");
        let fine = assembled(Some(Graph::new("g")), Problem::warning(None, "", "odd"));
        let mut out = Vec::new();
        draw(&args(Picture::Svg, Some(&path)), &fine, &mut out, &mut io::sink()).expect("it is writable");
        assert!(out.is_empty() && fs::read_to_string(&path).expect("it is there").starts_with("<svg"));
        let nowhere = root.path().join("no/g.svg");
        let failure = draw(&args(Picture::Svg, Some(&nowhere)), &fine, &mut out, &mut io::sink());
        assert_eq!(failure.expect_err("no such directory").exit, Exit::CannotCreate);
    }
}
