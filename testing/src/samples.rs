//! Files to begin with: real ones, cut short, and those that pin the format.

use llmtrace_analysis::{TimeRange, Trace, cut};
use llmtrace_format::{Result, Source};
use std::path::{Path, PathBuf};

/// Where the repository is.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Paths of the real recordings in the repository, in order.
///
/// # Errors
/// When the folder cannot be read.
pub fn recordings() -> std::io::Result<Vec<PathBuf>> {
    traces_in(&repository().join("sample-traces"))
}

/// Paths of a file of every version of the format.
///
/// # Errors
/// When the folder cannot be read.
pub fn fixtures() -> std::io::Result<Vec<PathBuf>> {
    traces_in(&repository().join("format/tests/fixtures"))
}

fn traces_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "llmtrace") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The fixtures, and of each recording `millis` milliseconds from its middle.
///
/// # Errors
/// When one of them cannot be read.
pub fn seeds(millis: u64) -> Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    for path in fixtures()? {
        seeds.push(std::fs::read(path)?);
    }
    for path in recordings()? {
        let trace = Trace::open(Source::Bytes(std::fs::read(path)?), &mut |_| true)?;
        let middle = trace.range().begin + trace.range().nanos() / 2;
        let range = TimeRange::new(middle, middle + millis * 1_000_000);
        seeds.push(cut::cut(&trace, range, Vec::new(), &mut |_| true)?.0);
    }
    Ok(seeds)
}
