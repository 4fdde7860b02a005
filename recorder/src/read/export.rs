//! `llmtrace export`: a trace for other tools.

use super::open;
use super::text::{bytes, clean, plural};
use super::whole::{Progress, Whole};
use anyhow::{Result, anyhow, bail};
use llmtrace_analysis::cut::parse_range;
use llmtrace_analysis::export::{CSV_FILES, ExportReport, PARQUET_FILES, chrome, csv, parquet, perfetto};
use llmtrace_analysis::{TimeRange, Trace};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Arguments of `export`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  llmtrace export a.llmtrace --format perfetto -o a.pftrace
  llmtrace export a.llmtrace --format csv -o tables --range token:5..token:9
  llmtrace export a.llmtrace --format parquet -o tables")]
pub(crate) struct Args {
    /// Trace to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to write
    #[arg(short, long, value_enum)]
    format: Format,
    /// File to write; for csv and parquet a folder
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// What to write: 1.5s..3s, 200ms.., ..2s, token:5..token:9, token:5 or all
    #[arg(short, long, value_name = "A..B", default_value = "all", allow_hyphen_values = true)]
    range: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// Chrome trace JSON: chrome://tracing, Perfetto, Speedscope, scripts
    Chrome,
    /// Perfetto protobuf: ui.perfetto.dev and its SQL engine
    Perfetto,
    /// One file a table: spreadsheets, data frames
    Csv,
    /// The same with types, compressed: DuckDB, pandas, Polars
    Parquet,
}

/// Exports a trace.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let trace = open(&args.file)?;
    let range = parse_range(&args.range, &trace)?;
    let mut progress = Progress::new("exporting");
    let mut at = |done: f32| progress.at(done);
    let cannot = |error: &dyn std::fmt::Display| anyhow!("cannot export: {error}: {}", args.output.display());
    let (len, report) = match args.format {
        Format::Csv => tables(&trace, range, &args.output, &mut at)?,
        Format::Parquet => typed_tables(&trace, range, &args.output, &mut at)?,
        Format::Chrome => {
            let whole = Whole::other(&args.output)?;
            let (file, report) = chrome(&trace, range, whole.file()?, &mut at).map_err(|it| cannot(&it))?;
            (whole.keep_file(file)?, report)
        }
        Format::Perfetto => {
            let whole = Whole::other(&args.output)?;
            let (file, report) = perfetto(&trace, range, whole.file()?, &mut at).map_err(|it| cannot(&it))?;
            (whole.keep_file(file)?, report)
        }
    };
    drop(progress);
    for warning in &report.warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}: {}", args.file.display());
    }
    let spans = plural(report.op_spans, "op span", "op spans");
    writeln!(out, "{spans}, {}: {}", bytes(len), clean(&args.output.display().to_string()))?;
    Ok(())
}

/// A folder of tables; files of an earlier export are replaced, others stay.
fn tables(
    trace: &Trace,
    range: TimeRange,
    output: &Path,
    at: &mut dyn FnMut(f32) -> bool,
) -> Result<(u64, ExportReport)> {
    if output.exists() && !output.is_dir() {
        bail!("cannot export: csv needs a folder, and this is a file: {}", output.display());
    }
    let whole = Whole::other(output)?;
    let cannot = |error: std::io::Error| whole.cannot(&error);
    std::fs::create_dir(whole.path()).map_err(cannot)?;
    let mut len = 0;
    let mut open =
        |name: &str| Ok(BufWriter::with_capacity(1 << 18, File::create_new(whole.path().join(name))?));
    let mut close = |sink: BufWriter<File>| {
        len += sink.get_ref().metadata()?.len();
        Ok(())
    };
    let report = csv(trace, range, &mut open, &mut close, at)
        .map_err(|error| anyhow!("cannot export: {error}: {}", output.display()))?;
    if output.is_dir() {
        for name in CSV_FILES {
            std::fs::rename(whole.path().join(name), output.join(name)).map_err(cannot)?;
        }
    } else {
        whole.keep()?;
    }
    Ok((len, report))
}

/// A folder of Parquet files; an earlier one is replaced as a whole.
fn typed_tables(
    trace: &Trace,
    range: TimeRange,
    output: &Path,
    at: &mut dyn FnMut(f32) -> bool,
) -> Result<(u64, ExportReport)> {
    let whole = Whole::folder(output, &PARQUET_FILES)?;
    let mut len = 0;
    let mut open = |name: &str| Ok(File::create_new(whole.path().join(name))?);
    let mut close = |file: File| {
        file.sync_all()?;
        len += file.metadata()?.len();
        Ok(())
    };
    let report = parquet(trace, range, &mut open, &mut close, at)
        .map_err(|error| anyhow!("cannot export: {error}: {}", output.display()))?;
    whole.keep_folder()?;
    Ok((len, report))
}
