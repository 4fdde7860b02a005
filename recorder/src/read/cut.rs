//! `llmtrace cut`: a time range as a trace of its own.

use super::open;
use super::text::{bytes, clean, plural};
use super::whole::{Progress, Whole, same};
use anyhow::{Result, anyhow, bail};
use llmtrace_analysis::cut::{cut, parse_range};
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `cut`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  llmtrace cut long.llmtrace --range 1.5s..3s -o slow.llmtrace
  llmtrace cut long.llmtrace --range token:5..token:9 -o tokens.llmtrace")]
pub(crate) struct Args {
    /// Trace to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to keep: 1.5s..3s, 200ms.., ..2s, token:5..token:9, token:5 or all
    #[arg(short, long, value_name = "A..B", allow_hyphen_values = true)]
    range: String,
    /// Write here; an earlier trace is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Cuts a trace.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let trace = open(&args.file)?;
    let range = parse_range(&args.range, &trace)?;
    if same(&args.file, &args.output) {
        bail!("cannot cut a trace onto itself; name another file with -o: {}", args.output.display());
    }
    let whole = Whole::trace(&args.output)?;
    let mut progress = Progress::new("cutting");
    let (file, report) = cut(&trace, range, whole.file()?, &mut |done| progress.at(done))
        .map_err(|error| anyhow!("cannot cut: {error}: {}", args.output.display()))?;
    drop(progress);
    let len = whole.keep_file(file)?;
    for warning in &report.warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}: {}", args.file.display());
    }
    let spans = plural(report.op_spans, "op span", "op spans");
    writeln!(out, "{spans}, {}: {}", bytes(len), clean(&args.output.display().to_string()))?;
    Ok(())
}
