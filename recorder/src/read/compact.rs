//! `llmtrace compact`: the same trace as a smaller file.

use super::open;
use super::text::{bytes, clean, plural};
use super::whole::{Progress, Whole, same};
use anyhow::{Result, anyhow, bail};
use llmtrace_analysis::cut::compact;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `compact`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Trace to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write here; an earlier trace is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Writes a trace anew.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let trace = open(&args.file)?;
    if same(&args.file, &args.output) {
        bail!("cannot write a trace onto itself; name another file with -o: {}", args.output.display());
    }
    let whole = Whole::trace(&args.output)?;
    let mut progress = Progress::new("compacting");
    let (file, report) = compact(&trace, whole.file()?, &mut |done| progress.at(done))
        .map_err(|error| anyhow!("cannot compact: {error}: {}", args.output.display()))?;
    drop(progress);
    let len = whole.keep_file(file)?;
    for warning in &report.warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}: {}", args.file.display());
    }
    let share = len as f64 * 100.0 / trace.file.len().max(1) as f64;
    let spans = plural(report.op_spans, "op span", "op spans");
    let name = clean(&args.output.display().to_string());
    writeln!(out, "{spans}, {} instead of {} ({share:.0} %): {name}", bytes(len), bytes(trace.file.len()))?;
    Ok(())
}
