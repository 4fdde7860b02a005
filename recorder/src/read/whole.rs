//! Output that is there whole or not at all: written beside its final name,
//! renamed once it is complete, removed when anything goes wrong.

use anyhow::{Result, anyhow, bail};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A path beside the final one, removed unless [`Whole::keep`] renames it.
pub(super) struct Whole {
    temporary: PathBuf,
    output: PathBuf,
    kept: bool,
}

impl Whole {
    /// For a trace: replaces an earlier one, and nothing else.
    pub(super) fn trace(output: &Path) -> Result<Self> {
        if output.metadata().is_ok_and(|it| it.is_file() && it.len() > 0) && !is_trace(output) {
            bail!("cannot write: it exists and is not an .llmtrace file; name another: {}", output.display());
        }
        Self::new(output)
    }

    /// For anything else: replaces what is there, unless it is a trace.
    pub(super) fn other(output: &Path) -> Result<Self> {
        if is_trace(output) {
            bail!("cannot write: it is a trace; name another file: {}", output.display());
        }
        Self::new(output)
    }

    /// For a folder of files with the given names: replaces an earlier one, and
    /// nothing else. Creates the folder to write.
    pub(super) fn folder(output: &Path, names: &[&str]) -> Result<Self> {
        if output.exists() && !output.is_dir() {
            bail!("cannot write: it is a file, and a folder is needed; name another: {}", output.display());
        }
        let whole = Self::new(output)?;
        if output.is_dir() {
            for entry in std::fs::read_dir(output).map_err(|error| whole.cannot(&error))? {
                let name = entry.map_err(|error| whole.cannot(&error))?.file_name();
                if !names.iter().any(|known| name == *known) {
                    let (name, output) = (name.to_string_lossy(), output.display());
                    bail!("cannot write: the folder holds something else (`{name}`); name another: {output}");
                }
            }
        }
        std::fs::create_dir(&whole.temporary).map_err(|error| whole.cannot(&error))?;
        Ok(whole)
    }

    /// Gives the finished folder its name, in place of an earlier one.
    pub(super) fn keep_folder(self) -> Result<()> {
        if !self.output.is_dir() {
            return self.keep();
        }
        let earlier = self.temporary.with_extension("earlier");
        std::fs::rename(&self.output, &earlier).map_err(|error| self.cannot(&error))?;
        let output = self.output.clone();
        let kept = self.keep();
        if kept.is_err() {
            // As it was before, or else under the name that it has now.
            let _ = std::fs::rename(&earlier, &output);
        } else {
            let _ = std::fs::remove_dir_all(&earlier);
        }
        kept
    }

    /// Chooses a temporary path in the folder of `output`.
    fn new(output: &Path) -> Result<Self> {
        let Some(name) = output.file_name() else {
            bail!("cannot write: not a name for a file: {}", output.display());
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.partial", std::process::id()));
        Ok(Self { temporary: output.with_file_name(hidden), output: output.to_owned(), kept: false })
    }

    /// Where to write meanwhile.
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Creates the file to write.
    pub(super) fn file(&self) -> Result<BufWriter<File>> {
        if self.output.is_dir() {
            bail!("cannot write: it is a folder; name a file: {}", self.output.display());
        }
        let file = File::create_new(&self.temporary).map_err(|error| self.cannot(&error))?;
        Ok(BufWriter::with_capacity(1 << 20, file))
    }

    /// Gives the finished output its name.
    pub(super) fn keep(mut self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.output).map_err(|error| self.cannot(&error))?;
        self.kept = true;
        Ok(())
    }

    /// Finishes a file: everything written, on disk, under its name.
    pub(super) fn keep_file(self, file: BufWriter<File>) -> Result<u64> {
        let file = file.into_inner().map_err(|error| self.cannot(error.error()))?;
        file.sync_all().map_err(|error| self.cannot(&error))?;
        let len = file.metadata().map_err(|error| self.cannot(&error))?.len();
        drop(file);
        self.keep()?;
        Ok(len)
    }

    /// An error of the operating system, with the name that the user gave.
    pub(super) fn cannot(&self, error: &std::io::Error) -> anyhow::Error {
        let reason = match error.kind() {
            ErrorKind::NotFound => "no such folder".to_owned(),
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        anyhow!("cannot write: {reason}: {}", self.output.display())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.kept {
            // Whichever it is; nothing can be done if it cannot be removed.
            let _ = std::fs::remove_file(&self.temporary);
            let _ = std::fs::remove_dir_all(&self.temporary);
        }
    }
}

fn is_trace(path: &Path) -> bool {
    let mut magic = [0; 8];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == llmtrace_format::constants::MAGIC
}

/// Whether two paths are the same file.
pub(super) fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Shows how far a command has come, if stderr is a terminal, and ends it when
/// the user interrupts, so that [`Whole`] can clean up.
pub(super) struct Progress {
    what: &'static str,
    interrupted: Arc<AtomicBool>,
    #[cfg(target_os = "linux")]
    signal: Option<signal_hook::SigId>,
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    /// Progress of a command, such as `cutting`.
    pub(super) fn new(what: &'static str) -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        Self {
            what,
            #[cfg(target_os = "linux")]
            signal: signal_hook::flag::register(signal_hook::consts::SIGINT, interrupted.clone()).ok(),
            interrupted,
            terminal: std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    /// `done` is from 0 to 1; whether to go on.
    pub(super) fn at(&mut self, done: f32) -> bool {
        let due = self.shown.is_none_or(|shown| shown.elapsed() > Duration::from_millis(100));
        if self.terminal && due {
            self.shown = Some(Instant::now());
            let _ = write!(std::io::stderr(), "\r{} {:3.0} %", self.what, done.clamp(0.0, 1.0) * 100.0);
        }
        !self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(signal) = self.signal {
            signal_hook::low_level::unregister(signal);
        }
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
