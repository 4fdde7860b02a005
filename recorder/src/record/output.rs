//! The file that is written: owned by the caller of sudo, with their rights.

use super::privileges::as_caller;
use super::target::Caller;
use anyhow::{Context as _, Result, bail};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Creates the output file as `caller` would: root opens nothing that the
/// caller could not, and the file is theirs. An earlier trace is replaced;
/// anything else is left alone.
///
/// The file is always a new one. What has the name already is not written to but
/// unlinked, so that neither a symbolic nor a hard link that somebody else laid
/// there leads the trace elsewhere.
///
/// # Errors
/// When the file cannot be created, or the name belongs to something that is no
/// trace.
pub(super) fn create(path: &Path, caller: Caller) -> Result<File> {
    let (file, pending) = create_pending(path, caller)?;
    pending.keep();
    Ok(file)
}

/// Like [`create`], but until the file is said to be kept, the earlier trace can come back.
///
/// # Errors
/// As [`create`].
pub(super) fn create_pending(path: &Path, caller: Caller) -> Result<(File, Pending)> {
    as_caller(caller, || {
        let Room { mode, earlier } = make_room(path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(O_NOFOLLOW | O_CLOEXEC)
            .open(path);
        let file = file.inspect_err(|_| {
            if let Some(earlier) = &earlier {
                // If that fails, too, it lies beside.
                let _ = fs::rename(earlier, path);
            }
        });
        let file = file.with_context(|| {
            format!("cannot write the output file, name another with -o: {}", path.display())
        })?;
        let pending = Pending { path: path.to_owned(), earlier, caller, settled: false };
        Ok((file, pending))
    })
}

/// A new file that may yet turn out not to be needed, as nothing can be recorded. Dropped, it
/// goes away and leaves its place to the earlier one.
#[derive(Debug)]
pub(super) struct Pending {
    path: PathBuf,
    /// Where the earlier trace lies meanwhile.
    earlier: Option<PathBuf>,
    caller: Caller,
    settled: bool,
}

impl Pending {
    /// Keeps the new file, and removes the earlier one.
    pub(super) fn keep(mut self) {
        self.settled = true;
        let Some(earlier) = self.earlier.take() else { return };
        if let Err(error) = remove(&earlier, self.caller) {
            log::warn!("{error:#}");
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let result = as_caller(self.caller, || match &self.earlier {
            Some(earlier) => Ok(fs::rename(earlier, &self.path)?),
            None => Ok(fs::remove_file(&self.path)?),
        });
        if let Err(error) = result {
            log::warn!("cannot undo what was written: {error:#}: {}", self.path.display());
        }
    }
}

/// Removes a file as `caller` would.
///
/// # Errors
/// When the caller could not remove it.
pub(super) fn remove(path: &Path, caller: Caller) -> Result<()> {
    as_caller(caller, || {
        fs::remove_file(path).with_context(|| format!("cannot remove an older file: {}", path.display()))
    })
}

/// For a new file.
struct Room {
    mode: u32,
    earlier: Option<PathBuf>,
}

/// Moves an earlier trace aside, and nothing else.
fn make_room(path: &Path) -> Result<Room> {
    let Ok(found) = path.symlink_metadata() else { return Ok(Room { mode: 0o666, earlier: None }) };
    let kind = found.file_type();
    let what = match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a symbolic link, which is not followed",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () if found.len() > 0 && !is_trace(path) => "a file that is not an .llmtrace file",
        () => "",
    };
    if !what.is_empty() {
        bail!("the output exists and is {what}; name another file with -o: {}", path.display());
    }
    // Whoever made it private meant the trace, too.
    let mode = found.mode() & 0o666;
    let aside = beside(path)?;
    match fs::rename(path, &aside) {
        Ok(()) => Ok(Room { mode, earlier: Some(aside) }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Room { mode, earlier: None }),
        Err(error) => Err(error).with_context(|| {
            format!("cannot replace the earlier output file, name another with -o: {}", path.display())
        }),
    }
}

/// A hidden name beside a file that no other file has.
fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let names = (0..1000u32).map(|number| path.with_file_name(format!(".{name}.earlier-{number}")));
    let mut free = names.filter(|path| path.symlink_metadata().is_err());
    free.next().with_context(|| format!("too many earlier files lie beside it: {}", path.display()))
}

fn is_trace(path: &Path) -> bool {
    let mut magic = [0; 8];
    // It may have become a pipe since we looked.
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    file.and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == llmtrace_format::constants::MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    const TRACE: &[u8] = b"LLMTRACE and more";

    fn refused(path: &Path) -> String {
        format!("{:#}", create(path, Caller::from_env()).expect_err("refused"))
    }

    #[test]
    fn traces_are_replaced_and_other_files_are_not() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (trace, other) = (folder.path().join("a.llmtrace"), folder.path().join("notes.txt"));
        fs::write(&trace, TRACE)?;
        fs::write(&other, b"precious")?;
        create(&trace, Caller::from_env())?;
        assert_eq!(fs::read(&trace)?, b"");
        assert!(refused(&other).contains("is not an .llmtrace file"));
        assert_eq!(fs::read(&other)?, b"precious");
        assert!(refused(folder.path()).contains("a directory"));
        assert!(refused(&folder.path().join("no/such/folder.llmtrace")).contains("name another with -o"));
        Ok(())
    }

    #[test]
    fn an_earlier_trace_comes_back_when_nothing_is_recorded() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let trace = folder.path().join("a.llmtrace");
        fs::write(&trace, TRACE)?;
        drop(create_pending(&trace, Caller::from_env())?);
        assert_eq!(fs::read(&trace)?, TRACE);
        let (_, pending) = create_pending(&trace, Caller::from_env())?;
        pending.keep();
        assert_eq!(fs::read(&trace)?, b"");
        let other = folder.path().join("b.llmtrace");
        drop(create_pending(&other, Caller::from_env())?);
        assert!(!other.exists());
        assert_eq!(fs::read_dir(folder.path())?.count(), 1, "nothing is left aside");
        Ok(())
    }

    #[test]
    fn links_lead_nowhere() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (precious, link) = (folder.path().join("precious.llmtrace"), folder.path().join("link"));
        fs::write(&precious, TRACE)?;
        symlink(&precious, &link)?;
        assert!(refused(&link).contains("symbolic link"));
        let dangling = folder.path().join("dangling");
        symlink(folder.path().join("new"), &dangling)?;
        assert!(refused(&dangling).contains("symbolic link"));
        assert!(!folder.path().join("new").exists());
        // A second name of a file: the name is ours to take, the file is not.
        let second = folder.path().join("second");
        fs::hard_link(&precious, &second)?;
        create(&second, Caller::from_env())?;
        assert_eq!((fs::read(&precious)?, fs::read(&second)?), (TRACE.to_vec(), Vec::new()));
        Ok(())
    }

    #[test]
    fn pipes_devices_and_the_files_of_proc_are_refused() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
        assert!(refused(&pipe).contains("a pipe"));
        assert!(refused(Path::new("/dev/null")).contains("a device"));
        for path in ["/dev/stdout", "/proc/self/fd/1", "/proc/self/exe"] {
            assert!(refused(Path::new(path)).contains("symbolic link"), "{path}");
        }
        // It has length 0, as an empty file has.
        assert!(refused(Path::new("/proc/self/mem")).contains("cannot write"));
        assert!(refused(Path::new("/proc/self/new")).contains("cannot write"));
        Ok(())
    }

    #[test]
    fn a_file_made_private_beforehand_stays_private() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.llmtrace");
        fs::write(&path, b"")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let file = create(&path, Caller::from_env())?;
        assert_eq!(file.metadata()?.mode() & 0o777, 0o600);
        Ok(())
    }
}
