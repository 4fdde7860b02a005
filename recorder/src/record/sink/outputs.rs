//! Names of the files of one recording, created with the caller's rights.

use super::super::output::{self, Pending};
use super::super::target::Caller;
use super::long::Long;
use anyhow::Result;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Creates files.
pub(in super::super) struct Outputs {
    base: PathBuf,
    caller: Caller,
    first: Option<(PathBuf, File)>,
    pending: Option<Pending>,
}

impl Outputs {
    /// Creates the first file, so that nothing starts that could not be written.
    pub(in super::super) fn create(long: &Long, base: PathBuf, caller: Caller) -> Result<Self> {
        let first = if long.rotate.is_some() { numbered(&base, 1, 4) } else { base.clone() };
        let (file, pending) = output::create_pending(&first, caller)?;
        Ok(Self { base, caller, first: Some((first, file)), pending: Some(pending) })
    }

    /// What undoes that, until it is said that the file is kept.
    pub(in super::super) fn take_pending(&mut self) -> Option<Pending> {
        self.pending.take()
    }

    /// The first file, which is handed out once.
    pub(super) fn first(&mut self) -> Result<(PathBuf, File)> {
        match self.first.take() {
            Some(first) => Ok(first),
            None => Ok((self.base.clone(), output::create(&self.base, self.caller)?)),
        }
    }

    /// A further file, `NAME-0002.llmtrace`.
    pub(super) fn numbered(&self, number: u32, digits: usize) -> Result<(PathBuf, File)> {
        let path = numbered(&self.base, number, digits);
        let file = output::create(&path, self.caller)?;
        Ok((path, file))
    }

    /// Removes a file that this recording wrote.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        output::remove(path, self.caller)
    }
}

/// `NAME.llmtrace` with a number: `NAME-0002.llmtrace`.
fn numbered(base: &Path, number: u32, digits: usize) -> PathBuf {
    let mut name = OsString::from(base.file_stem().unwrap_or_default());
    name.push(format!("-{number:0digits$}"));
    if let Some(extension) = base.extension() {
        name.push(".");
        name.push(extension);
    }
    base.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_before_the_extension() {
        let name = |base: &str, number, digits| numbered(Path::new(base), number, digits);
        assert_eq!(name("/tmp/slow.llmtrace", 2, 4), Path::new("/tmp/slow-0002.llmtrace"));
        assert_eq!(name("a.b.llmtrace", 12_345, 4), Path::new("a.b-12345.llmtrace"));
        assert_eq!(name("dir.d/run", 3, 1), Path::new("dir.d/run-3"));
    }
}
