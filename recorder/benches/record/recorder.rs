//! The recorder, by its command line.

use crate::process::terminate;
use anyhow::{Context as _, Result, bail};
use llmtrace_analysis::Trace;
use llmtrace_format::Source;
use llmtrace_format::meta::{Ending, Recording};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const LLMTRACE: &str = env!("CARGO_BIN_EXE_llmtrace");

/// A file of this size has rows.
const FIRST_ROWS_BYTES: u64 = 4096;

/// What it says on stderr goes to a file of this name.
const ERRORS: &str = "errors";

/// A running recorder, or another program that records into a file.
pub(crate) struct Recorder {
    child: Child,
    path: PathBuf,
    folder: TempDir,
}

impl Recorder {
    /// `llmtrace record -p PID` with these options; returns at once.
    pub(crate) fn start(pid: u32, options: &[&str]) -> Result<Self> {
        Self::spawn(|path| {
            let mut command = Command::new(LLMTRACE);
            // Whatever it costs: that is what is measured.
            command.args(["record", "-q", "--max-overhead", "100", "-p", &pid.to_string(), "-o"]);
            command.arg(path).args(options);
            command
        })
    }

    /// Any program that writes to the path that it is given until it is told to end.
    pub(crate) fn spawn(command: impl FnOnce(&Path) -> Command) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("bench.llmtrace");
        let errors = File::create(folder.path().join(ERRORS))?;
        let child = command(&path).stdout(Stdio::null()).stderr(errors).spawn().context("cannot run it")?;
        Ok(Self { child, path, folder })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Until its file has rows.
    pub(crate) fn wait_for_rows(&mut self) -> Result<()> {
        while self.path.metadata().map_or(0, |metadata| metadata.len()) < FIRST_ROWS_BYTES {
            if self.child.try_wait()?.is_some() {
                let said = std::fs::read_to_string(self.folder.path().join(ERRORS))?;
                bail!("it ended by itself: {}", said.trim_end().lines().next_back().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it; where its file is, and for how long.
    pub(crate) fn stop(mut self) -> Result<Recorded> {
        terminate(&mut self.child)?;
        Ok(Recorded { path: std::mem::take(&mut self.path), _folder: self.folder })
    }
}

/// What was recorded; its file goes with it.
pub(crate) struct Recorded {
    pub(crate) path: PathBuf,
    _folder: TempDir,
}

impl Recorded {
    pub(crate) fn trace(&self) -> Result<Trace> {
        Ok(Trace::open(Source::from_file(File::open(&self.path)?), &mut |_| true)?)
    }
}

pub(crate) fn ending(trace: &Trace) -> Result<&Ending> {
    trace.file.ending.as_ref().context("the trace has no ending")
}

pub(crate) fn recording(trace: &Trace) -> Result<&Recording> {
    trace.file.recording.as_ref().context("the trace does not say how it was recorded")
}
