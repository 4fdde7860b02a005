//! `llmtrace check`: what is wrong with a file, and a whole file of what is left.

use super::text::{Columns, clean, count, os_error, plural};
use super::whole::{Progress, Whole};
use super::{Input, print_json};
use anyhow::{Result, anyhow};
use llmtrace_format::check::{Checked, check};
use llmtrace_format::{Problem, Source};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Arguments of `check`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit code: 0 for a whole file, 1 when something is wrong with it, 2 for an error.")]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// Write a whole file of all blocks that can be read, with a fresh footer
    #[arg(long)]
    repair: bool,
    /// Write the repaired file here [default: FILE.repaired.llmtrace]
    #[arg(short, long, value_name = "FILE", requires = "repair")]
    output: Option<PathBuf>,
}

/// What `check --json` prints; `docs/cli.md` defines the fields.
#[derive(Serialize)]
struct Report {
    whole: bool,
    file_bytes: u64,
    blocks: usize,
    blocks_readable: usize,
    problems: Vec<ProblemJson>,
    repaired: Option<String>,
    repaired_bytes: Option<u64>,
}

#[derive(Serialize)]
struct ProblemJson {
    kind: &'static str,
    offset: u64,
    count: u64,
    table: &'static str,
    lane: Option<u32>,
    message: &'static str,
}

impl ProblemJson {
    fn of(problem: &Problem) -> Self {
        let (kind, message) = problem.kind.text();
        let Problem { offset, count, table, lane, .. } = *problem;
        Self { kind, offset, count, table, lane, message }
    }
}

/// Checks a file; returns the exit code.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<i32> {
    let path = &args.input.file;
    let cannot = |error: &dyn std::fmt::Display| anyhow!("cannot check: {error}: {}", path.display());
    let file = File::open(path).map_err(|error| cannot(&os_error(&error)))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(cannot(&"it is a folder; name an .llmtrace file"));
    }
    let mut progress = Progress::new("checking");
    let checked =
        check(Source::from_file(file), &mut |done| progress.at(done)).map_err(|error| cannot(&error))?;
    drop(progress);
    let mut report = Report {
        whole: checked.is_whole(),
        file_bytes: checked.file.len(),
        blocks: checked.file.blocks.len(),
        blocks_readable: checked.readable.len(),
        problems: checked.problems.iter().map(ProblemJson::of).collect(),
        repaired: None,
        repaired_bytes: None,
    };
    if args.repair {
        let output = args.output.clone().unwrap_or_else(|| beside(path));
        report.repaired_bytes = Some(repair(&checked, &output)?);
        report.repaired = Some(output.display().to_string());
    }
    if args.input.json {
        print_json(&report, out)?;
    } else {
        report.print(out)?;
    }
    Ok(i32::from(!report.whole))
}

fn repair(checked: &Checked, output: &Path) -> Result<u64> {
    let whole = Whole::trace(output)?;
    let mut progress = Progress::new("repairing");
    let file = checked
        .repair(whole.file()?, &mut |done| progress.at(done))
        .map_err(|error| anyhow!("cannot repair: {error}: {}", output.display()))?;
    whole.keep_file(file)
}

/// `a.llmtrace` becomes `a.repaired.llmtrace`.
fn beside(path: &Path) -> PathBuf {
    let stem = path.with_extension("");
    let base = if path.extension().is_some_and(|extension| extension == "llmtrace") { &stem } else { path };
    let mut name = base.as_os_str().to_owned();
    name.push(".repaired.llmtrace");
    PathBuf::from(name)
}

impl Report {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        if self.whole {
            writeln!(out, "whole: {} read", plural(self.blocks as u64, "block", "blocks"))?;
        } else {
            let mut columns = Columns::new(&["at byte", "count", "table", "lane", "problem"], 5);
            for problem in &self.problems {
                columns.row([
                    problem.offset.to_string(),
                    count(problem.count),
                    problem.table.to_owned(),
                    problem.lane.map_or_else(String::new, |lane| lane.to_string()),
                    format!("{}: {}", problem.kind, problem.message),
                ]);
            }
            columns.print(out)?;
            let problems = plural(self.problems.len() as u64, "problem", "problems");
            let (readable, blocks) = (count(self.blocks_readable as u64), count(self.blocks as u64));
            writeln!(out, "{problems}; {readable} of {blocks} blocks can be read")?;
        }
        if let Some(repaired) = &self.repaired {
            writeln!(out, "repaired: {}", clean(repaired))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repaired_file_lies_beside_the_damaged_one() {
        assert_eq!(beside(Path::new("x/a.llmtrace")), Path::new("x/a.repaired.llmtrace"));
        assert_eq!(beside(Path::new("x/a")), Path::new("x/a.repaired.llmtrace"));
    }
}
