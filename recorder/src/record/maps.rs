//! `/proc/PID/maps`: which files a process has mapped as code.

use super::memory::ProcessMemory;
use crate::binary::Memory as _;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What the kernel appends to the name of a file that has none any more.
const DELETED: &str = " (deleted)";

/// One executable mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file_offset: u64,
    /// Device and inode: identity of the file, whatever its name.
    pub(super) file: (String, u64),
    pub(super) path: PathBuf,
}

impl Mapping {
    /// Opens the mapped file itself, whatever its name leads to by now.
    ///
    /// `/proc/PID/map_files` leads to it, but wants `CAP_CHECKPOINT_RESTORE`.
    /// Without, the executable has a link of its own, and other files are opened
    /// by name, as the process and as we see it, and taken only if they are the
    /// mapped one.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] when we lack a right, or the name leads
    /// to another file and only `map_files` could tell; else the process or the
    /// mapping is gone.
    pub(super) fn open(&self, pid: u32) -> io::Result<File> {
        let map_file = format!("/proc/{pid}/map_files/{:x}-{:x}", self.start, self.end);
        let refused = match open_regular(Path::new(&map_file)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
            other => return other,
        };
        let exe = PathBuf::from(format!("/proc/{pid}/exe"));
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        // After chroot, the name in maps begins with that of the new root, in whatever namespace.
        let chroot = fs::read_link(&root).unwrap_or_default();
        let rooted =
            root.join(self.path.strip_prefix(&chroot).or(self.path.strip_prefix("/")).unwrap_or(&self.path));
        for path in [exe, rooted, self.path.clone()] {
            if let Ok(file) = self.open_if_mapped(pid, &path) {
                return Ok(file);
            }
        }
        Err(refused)
    }

    /// Opens `path` if it is the mapped file; the process may have put another there.
    fn open_if_mapped(&self, pid: u32, path: &Path) -> io::Result<File> {
        let file = open_regular(path)?;
        let found = file.metadata()?;
        if found.ino() != self.file.1 {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Some file systems show one device in maps and another to stat; then the
        // content of the mapping decides.
        let device =
            format!("{:02x}:{:02x}", nix::sys::stat::major(found.dev()), nix::sys::stat::minor(found.dev()));
        if device != self.file.0 && !self.has_content_of(pid, &file) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(file)
    }

    /// Whether the mapping begins as it would if `file` were mapped.
    fn has_content_of(&self, pid: u32, file: &File) -> bool {
        let (mut here, mut there) = ([0; 4096], [0; 4096]);
        let Ok(read) = file.read_at(&mut here, self.file_offset) else { return false };
        let len = read.min((self.end - self.start) as usize);
        let (here, there) = (here.get(..len), there.get_mut(..len));
        here.zip(there).is_some_and(|(here, there)| {
            !here.is_empty() && ProcessMemory::new(pid).read(self.start, there) && here == there
        })
    }

    /// Whether the file has lost its name, as one that was replaced has.
    pub(super) fn deleted(&self) -> bool {
        self.path.as_os_str().as_bytes().ends_with(DELETED.as_bytes())
    }

    /// Its last path component.
    pub(super) fn base_name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().trim_end_matches(DELETED).to_owned()
    }
}

/// Opens a regular file and nothing else: opening a pipe may block, opening a
/// device may do anything.
fn open_regular(path: &Path) -> io::Result<File> {
    let handle = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(path)?;
    if !handle.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// The executable file mappings of a process.
pub(super) fn executable(pid: u32) -> io::Result<Vec<Mapping>> {
    let maps = fs::read(format!("/proc/{pid}/maps"))?;
    Ok(maps
        .split(is_newline)
        .filter_map(|line| parse(line, |permissions| permissions.contains('x')))
        .collect())
}

/// A range of addresses of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The file it is of; `None` for memory that is of none.
    pub(super) mapping: Option<Mapping>,
}

/// All that a process has mapped, by address.
pub(super) fn regions(pid: u32) -> io::Result<Vec<Region>> {
    let maps = fs::read(format!("/proc/{pid}/maps"))?;
    let region = |line: &[u8]| {
        let range = line.split(|byte| *byte == b' ').next()?;
        let (start, end) = std::str::from_utf8(range).ok()?.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        Some(Region { start: address(start)?, end: address(end)?, mapping: parse(line, |_| true) })
    };
    Ok(maps.split(is_newline).filter_map(region).collect())
}

/// Base names of mapped model files.
pub(super) fn models(pid: u32) -> Vec<String> {
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut names: Vec<String> = maps
        .split(is_newline)
        .filter_map(|line| parse(line, |_| true))
        .filter(|mapping| mapping.path.extension().is_some_and(|extension| extension == "gguf"))
        .map(|mapping| mapping.base_name())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn is_newline(byte: &u8) -> bool {
    *byte == b'\n'
}

/// A line such as `7f00-7f10 r-xp 00001000 08:01 1234  /usr/lib/libx.so`.
pub(super) fn parse(line: &[u8], wanted: impl Fn(&str) -> bool) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest
            .trim_ascii_start()
            .split_at_checked(rest.trim_ascii_start().iter().position(|byte| *byte == b' ')?)?;
        rest = after;
        std::str::from_utf8(field).ok()
    };
    let range = field()?;
    if !wanted(field()?) {
        return None;
    }
    let (offset, device, inode) = (field()?, field()?, field()?);
    let (start, end) = range.split_once('-')?;
    let inode: u64 = inode.parse().ok()?;
    let path = rest.trim_ascii_start();
    if inode == 0 || !path.starts_with(b"/") {
        return None;
    }
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        file_offset: u64::from_str_radix(offset, 16).ok()?,
        file: (device.to_owned(), inode),
        // A file name need not be UTF-8.
        path: unescaped(path),
    })
}

/// The kernel writes a newline in a name as `\012`.
fn unescaped(path: &[u8]) -> PathBuf {
    let mut rest = path;
    let mut name = Vec::with_capacity(path.len());
    while let Some((byte, after)) = rest.split_first() {
        let newline = rest.strip_prefix(b"\\012");
        name.push(if newline.is_some() { b'\n' } else { *byte });
        rest = newline.unwrap_or(after);
    }
    PathBuf::from(OsStr::from_bytes(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_files_are_parsed() {
        let line = b"7f5a-7f5b r-xp 00002000 fe:00 4711      /opt/my libs/libggml-cpu.so (deleted)";
        let mapping = parse(line, |_| true).expect("parses");
        assert_eq!((mapping.start, mapping.end, mapping.file_offset), (0x7f5a, 0x7f5b, 0x2000));
        assert_eq!(mapping.file, ("fe:00".to_owned(), 4711));
        assert_eq!(mapping.base_name(), "libggml-cpu.so");
        assert!(mapping.deleted());
    }

    #[test]
    fn names_are_bytes_and_may_hold_a_newline() {
        let line = b"7f5a-7f5b r-xp 00002000 fe:00 4711 /opt/\xff\\012.so";
        let mapping = parse(line, |_| true).expect("parses");
        assert_eq!(mapping.path.as_os_str().as_bytes(), b"/opt/\xff\n.so");
        assert!(!mapping.deleted());
    }

    #[test]
    fn only_the_mapped_file_is_opened_by_name() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let ours = std::process::id();
        let mapped = executable(ours)?;
        let own = mapped.iter().find(|mapping| Some(&mapping.path) == std::env::current_exe().ok().as_ref());
        let own = own.expect("a test is mapped");
        assert!(own.open_if_mapped(ours, &own.path).is_ok());
        let copy = folder.path().join("copy");
        fs::copy(&own.path, &copy)?;
        assert!(own.open_if_mapped(ours, &copy).is_err());
        // Opening a pipe that nobody writes to would never return.
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
        assert!(own.open_if_mapped(ours, &pipe).is_err());
        // The same number on another device, as on Btrfs: the content decides.
        let moved = Mapping { file: ("ff:ff".to_owned(), own.file.1), ..own.clone() };
        assert!(moved.open_if_mapped(ours, &own.path).is_ok());
        let elsewhere = Mapping { file_offset: own.file_offset + 4096, ..moved };
        assert!(elsewhere.open_if_mapped(ours, &own.path).is_err());
        Ok(())
    }

    #[test]
    fn anonymous_and_special_lines_are_left_out() {
        assert_eq!(parse(b"7f5a-7f5b rw-p 00000000 00:00 0 ", |_| true), None);
        assert_eq!(parse(b"7ffd-7ffe r-xp 00000000 00:00 0                  [vdso]", |_| true), None);
        assert_eq!(parse(b"", |_| true), None);
    }
}
