//! `llmtrace report`: a trace as one page of HTML.

use super::text::{bytes, clean};
use super::whole::{Progress, Whole, same};
use super::{open, warn_of_new};
use anyhow::{Result, anyhow, bail};
use llmtrace_analysis::report::html;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

/// Arguments of `report`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Trace to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write here; an earlier report is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Writes the report of a trace.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let trace = open(&args.file)?;
    if same(&args.file, &args.output) {
        bail!("cannot write a report onto its trace; name another file with -o: {}", args.output.display());
    }
    let whole = Whole::other(&args.output)?;
    let progress = Mutex::new(Progress::new("looking at every op span"));
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let page = html(&trace, &name, &|done| progress.lock().map_or(true, |mut progress| progress.at(done)))
        .map_err(|error| anyhow!("cannot write a report: {error}: {}", args.file.display()))?;
    drop(progress);
    warn_of_new(&trace, &args.file);
    let mut file = whole.file()?;
    file.write_all(page.as_bytes())
        .map_err(|error| anyhow!("cannot write: {error}: {}", args.output.display()))?;
    let len = whole.keep_file(file)?;
    writeln!(out, "{}: {}", bytes(len), clean(&args.output.display().to_string()))?;
    Ok(())
}
