//! `/proc/PID/maps`: which files a process has mapped as code.

use std::fs;
use std::io;
use std::path::PathBuf;

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
    /// The mapped file itself, even when its name now leads elsewhere or lies
    /// in another mount namespace.
    pub(super) fn exact_path(&self, pid: u32) -> PathBuf {
        PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", self.start, self.end))
    }

    /// Its last path component.
    pub(super) fn base_name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().trim_end_matches(" (deleted)").to_owned()
    }
}

/// The executable file mappings of a process.
pub(super) fn executable(pid: u32) -> io::Result<Vec<Mapping>> {
    let maps = read(pid)?;
    Ok(maps.lines().filter_map(|line| parse(line, |permissions| permissions.contains('x'))).collect())
}

/// A file name need not be UTF-8.
fn read(pid: u32) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/maps"))?).into_owned())
}

/// Base names of mapped model files.
pub(super) fn models(pid: u32) -> Vec<String> {
    let maps = read(pid).unwrap_or_default();
    let mut names: Vec<String> = maps
        .lines()
        .filter_map(|line| parse(line, |_| true))
        .filter(|mapping| mapping.path.extension().is_some_and(|extension| extension == "gguf"))
        .map(|mapping| mapping.base_name())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// A line such as `7f00-7f10 r-xp 00001000 08:01 1234  /usr/lib/libx.so`.
fn parse(line: &str, wanted: impl Fn(&str) -> bool) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.trim_start().split_once(' ')?;
        rest = after;
        Some(field)
    };
    let range = field()?;
    if !wanted(field()?) {
        return None;
    }
    let (offset, device, inode) = (field()?, field()?, field()?);
    let (start, end) = range.split_once('-')?;
    let path = rest.trim_start();
    let inode: u64 = inode.parse().ok()?;
    if inode == 0 || !path.starts_with('/') {
        return None;
    }
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        file_offset: u64::from_str_radix(offset, 16).ok()?,
        file: (device.to_owned(), inode),
        path: PathBuf::from(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_files_are_parsed() {
        let line = "7f5a-7f5b r-xp 00002000 fe:00 4711      /opt/my libs/libggml-cpu.so (deleted)";
        let mapping = parse(line, |_| true).expect("parses");
        assert_eq!((mapping.start, mapping.end, mapping.file_offset), (0x7f5a, 0x7f5b, 0x2000));
        assert_eq!(mapping.file, ("fe:00".to_owned(), 4711));
        assert_eq!(mapping.base_name(), "libggml-cpu.so");
    }

    #[test]
    fn anonymous_and_special_lines_are_left_out() {
        assert_eq!(parse("7f5a-7f5b rw-p 00000000 00:00 0 ", |_| true), None);
        assert_eq!(parse("7ffd-7ffe r-xp 00000000 00:00 0                  [vdso]", |_| true), None);
        assert_eq!(parse("", |_| true), None);
    }
}
