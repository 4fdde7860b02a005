//! The file that is written: owned by the caller of sudo, with their rights.

use super::target::Caller;
use anyhow::{Context as _, Result, bail};
use nix::unistd::{setfsgid, setfsuid};
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::Path;

/// Creates the output file as `caller` would: root opens nothing that the
/// caller could not, and the file is theirs. An earlier trace is replaced;
/// anything else is left alone.
///
/// # Errors
/// When the file cannot be created, or is no trace.
pub(super) fn create(path: &Path, caller: Caller) -> Result<File> {
    as_caller(caller, || open(path))
}

/// Removes a file as `caller` would.
///
/// # Errors
/// When the caller could not remove it.
pub(super) fn remove(path: &Path, caller: Caller) -> std::io::Result<()> {
    as_caller(caller, || std::fs::remove_file(path))
}

fn as_caller<T>(caller: Caller, act: impl FnOnce() -> T) -> T {
    let before = (caller.is_other()).then(|| (setfsgid(caller.gid), setfsuid(caller.uid)));
    let done = act();
    if let Some((gid, uid)) = before {
        setfsuid(uid);
        setfsgid(gid);
    }
    done
}

fn open(path: &Path) -> Result<File> {
    if let Ok(metadata) = path.metadata() {
        if metadata.is_dir() {
            bail!("cannot write to a directory, name a file with -o: {}", path.display());
        }
        if metadata.is_file() && metadata.len() > 0 && !is_trace(path) {
            bail!(
                "the output file exists and is not an .llmtrace file, name another with -o: {}",
                path.display()
            );
        }
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
    file.with_context(|| format!("cannot write the output file, name another with -o: {}", path.display()))
}

fn is_trace(path: &Path) -> bool {
    let mut magic = [0; 8];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == llmtrace_format::constants::MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_replaced_and_other_files_are_not() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let caller = Caller::from_env();
        let (trace, other) = (folder.path().join("a.llmtrace"), folder.path().join("notes.txt"));
        std::fs::write(&trace, b"LLMTRACE and more")?;
        std::fs::write(&other, b"precious")?;
        create(&trace, caller)?;
        assert_eq!(std::fs::read(&trace)?, b"");
        assert!(create(&other, caller).is_err());
        assert_eq!(std::fs::read(&other)?, b"precious");
        assert!(create(folder.path(), caller).is_err());
        assert!(create(&folder.path().join("no/such/folder.llmtrace"), caller).is_err());
        Ok(())
    }
}
