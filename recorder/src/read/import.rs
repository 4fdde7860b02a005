//! `llmtrace import`: a trace from Chrome trace JSON, as ProfInfer, our own
//! export and many profilers write it. `docs/cli.md` defines what becomes what.
//!
//! The file is read once, as a stream. Op spans go to a nameless temporary file,
//! 36 bytes each, until the calls, graph runs, threads and names of operators
//! are known, which a trace has first. Memory holds the latter and, of each lane,
//! a window of spans that are put in order.

mod build;
mod event;
mod json;
mod slices;
mod split;

use super::text::{bytes, clean, os_error, plural};
use super::whole::{Progress, Whole, same};
use anyhow::{Context as _, Result, anyhow, bail};
use build::{Plan, Report, write};
use slices::Names;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, Write};
use std::path::{Path, PathBuf};

/// Arguments of `import`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Example:
  llmtrace import profinfer.json -o other.llmtrace")]
pub(crate) struct Args {
    /// Chrome trace JSON to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write here; an earlier trace is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Imports a trace.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let path = &args.file;
    let failed = || format!("cannot import {}", path.display());
    let file = File::open(path).map_err(|error| anyhow!("{}", os_error(&error))).with_context(failed)?;
    let metadata = file.metadata().with_context(failed)?;
    if metadata.is_dir() {
        bail!("cannot import: it is a folder; name a file: {}", path.display());
    }
    if same(path, &args.output) {
        bail!("cannot import a file onto itself; name another with -o: {}", args.output.display());
    }
    let len = metadata.len().max(1) as f32;
    let whole = Whole::trace(&args.output)?;
    let sink = whole.file()?;
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty());
    let spool = tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).with_context(failed)?;
    let mut spool = BufWriter::with_capacity(1 << 20, spool);
    let mut progress = Progress::new("importing");
    let mut names = Names::default();
    let plan = Plan::read(file, &mut names, &mut spool, &mut |at| progress.at(at as f32 / len))
        .with_context(failed)?;
    let mut spool = spool.into_inner().map_err(|error| error.into_error()).with_context(failed)?;
    spool.rewind().with_context(failed)?;
    let spool = BufReader::with_capacity(1 << 20, spool);
    let (sink, report) = write(spool, &plan, &names, sink, || progress.at(1.0)).with_context(failed)?;
    drop(progress);
    let len = whole.keep_file(sink)?;
    for warning in warnings(&report) {
        let _ = writeln!(std::io::stderr(), "warning: {warning}: {}", path.display());
    }
    let spans = plural(report.op_spans, "op span", "op spans");
    let calls = plural(report.calls, "call", "calls");
    writeln!(out, "{spans}, {calls}, {}: {}", bytes(len), clean(&args.output.display().to_string()))?;
    Ok(())
}

fn warnings(report: &Report) -> Vec<String> {
    let counts = &report.counts;
    let all = [
        (counts.malformed, "events cannot be read and were left out"),
        (counts.other, "slices are no operator, graph or decode and were left out"),
        (counts.unpaired, "slices have no begin or no end and were left out"),
        (report.nested, "operators lie inside another on their thread and were left out"),
    ];
    let met = all.into_iter().filter(|(count, _)| *count > 0);
    met.map(|(count, what)| format!("{} {what}", super::text::count(count))).collect()
}

/// Imports JSON of anybody; what is written opens and is whole.
pub fn fuzz_chrome_json(json: &[u8]) {
    let mut names = Names::default();
    let mut spool = Vec::new();
    let Ok(plan) = Plan::read(json, &mut names, &mut spool, &mut |_| true) else { return };
    let Ok((trace, _)) = write(spool.as_slice(), &plan, &names, Vec::new(), || true) else { return };
    match llmtrace_format::check::check(llmtrace_format::Source::Bytes(trace), &mut |_| true) {
        Ok(checked) => assert!(checked.is_whole(), "{:?}", checked.problems),
        Err(error) => panic!("what was imported does not open: {error}"),
    }
}
