//! The commands that read a trace: `info`, `summary` and `stats`; `check`, which
//! tells what is wrong with one; and `cut`, `compact`, `export` and `import`,
//! which write.
//!
//! Each prints text for people, or JSON with `--json`. The JSON is a promise:
//! `docs/cli.md` defines every field. Warnings of the file go to stderr, so
//! that stdout stays what was asked for. Runs on any operating system.

mod advise;
mod around;
mod backends;
mod check;
mod compact;
mod cut;
mod diff;
mod experts;
mod explain;
mod export;
mod import;
mod info;
mod machine;
mod report;
mod requests;
mod stats;
mod summary;
mod text;
mod whole;

use anyhow::{Context, Result, anyhow};
use llmtrace_analysis::Trace;
use llmtrace_format::{Source, Warning};
use serde::Serialize;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

pub use import::fuzz_chrome_json;
pub(crate) use summary::print_short_summary;
pub(crate) use text::{clean, pairs as print_pairs};

/// Commands that read a trace.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Read {
    /// Show what was recorded, where, when and how
    Info(info::Args),
    /// Show the run on one page: speed, top operators, losses
    Summary(summary::Args),
    /// Show where the time went, by operator, name, layer, thread or token
    Stats(stats::Args),
    /// Show which experts of a mixture tokens were sent to, layer by layer
    Experts(experts::Args),
    /// Show what limits the run, where each token's time goes, and what to try
    Explain(explain::Args),
    /// Compare two runs, or several a side: what got slower, and how sure that is
    Diff(diff::Args),
    /// Say how many threads to use, from runs with different numbers of them
    Advise(advise::Args),
    /// Write what matters as a page of HTML, to send around
    Report(report::Args),
    /// Say what is wrong with a file, and rescue what can be read
    Check(check::Args),
    /// Write a time range as a trace of its own
    Cut(cut::Args),
    /// Write the same trace as a smaller file
    Compact(compact::Args),
    /// Write for other tools: Chrome trace JSON, Perfetto, CSV, Parquet
    Export(export::Args),
    /// Make a trace of what another tool recorded
    Import(import::Args),
}

impl Read {
    /// Runs the command; prints to stdout and returns the exit code.
    pub(crate) fn run(self) -> Result<i32> {
        let mut out = Vec::new();
        let mut code = 0;
        match self {
            Self::Info(args) => info::run(&args, &mut out)?,
            Self::Summary(args) => summary::run(&args, &mut out)?,
            Self::Stats(args) => stats::run(&args, &mut out)?,
            Self::Experts(args) => experts::run(&args, &mut out)?,
            Self::Explain(args) => explain::run(&args, &mut out)?,
            Self::Diff(args) => code = diff::run(&args, &mut out)?,
            Self::Advise(args) => advise::run(&args, &mut out)?,
            Self::Report(args) => report::run(&args, &mut out)?,
            Self::Check(args) => code = check::run(&args, &mut out)?,
            Self::Cut(args) => cut::run(&args, &mut out)?,
            Self::Compact(args) => compact::run(&args, &mut out)?,
            Self::Export(args) => export::run(&args, &mut out)?,
            Self::Import(args) => import::run(&args, &mut out)?,
        }
        match std::io::stdout().lock().write_all(&out) {
            // `llmtrace stats … | head` is no error.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(code),
            written => written.map(|()| code).context("cannot write to standard output"),
        }
    }
}

/// What every reading command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Input {
    /// Trace to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON (documented in docs/cli.md) instead of text
    #[arg(long)]
    json: bool,
}

/// Opens a trace.
fn open(path: &Path) -> Result<Trace> {
    let trace = open_quietly(path)?;
    warn(&trace.warnings, path);
    Ok(trace)
}

/// Warnings go to stderr.
fn warn(warnings: &[Warning], path: &Path) {
    for warning in warnings {
        // Nothing can be done when stderr is closed.
        let _ = writeln!(std::io::stderr(), "warning: {warning}: {}", path.display());
    }
}

/// What was found unreadable since the trace was opened.
fn warn_of_new(trace: &Trace, path: &Path) {
    warn(trace.all_warnings().get(trace.warnings.len()..).unwrap_or_default(), path);
}

fn open_quietly(path: &Path) -> Result<Trace> {
    let cannot = |error: &dyn std::fmt::Display| anyhow!("cannot open: {error}: {}", path.display());
    let file = File::open(path).map_err(|error| cannot(&text::os_error(&error)))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(cannot(&"it is a folder; name an .llmtrace file"));
    }
    Trace::open(Source::from_file(file), &mut |_| true).map_err(|error| cannot(&error))
}

fn print_json(value: &impl Serialize, out: &mut dyn Write) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests;
