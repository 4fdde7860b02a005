//! Writing so that the end of a file always fits: room for it is set aside
//! before anything else is written.
//!
//! ```text
//! ┌────────────── written ──────────────┬──── reserve ────┬─ ahead ─┐
//! └─────────────────────────────────────┴─────────────────┴─────────┘
//!                                       len                         aside
//! ```
//!
//! A block is written only if the reserve behind it can be had, too. So a disk
//! that is full is noticed between two blocks, with room left for the footer.

use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write};

/// Room is asked for in steps of this.
const AHEAD: u64 = 1 << 20;

/// What a trace is written to.
pub(super) trait Medium: Write {
    /// Cuts what is written to its first `len` bytes, and lets go of room beyond.
    fn cut(&mut self, len: u64) -> io::Result<()>;

    /// Sets room aside for bytes that come; `false` when this kind of file cannot.
    fn set_aside(&mut self, from: u64, len: u64) -> io::Result<bool>;
}

impl Medium for File {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.seek(SeekFrom::Start(len))?;
        Ok(())
    }

    fn set_aside(&mut self, from: u64, len: u64) -> io::Result<bool> {
        let (Ok(from), Ok(len)) = (i64::try_from(from), i64::try_from(len)) else { return Ok(false) };
        match fallocate(&*self, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, len).map_err(io::Error::from) {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => Err(error),
            // Not a file, or a file system that cannot: then there is no reserve.
            Err(_) => Ok(false),
        }
    }
}

/// Whether there is no room, as opposed to anything else that may be wrong.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// A medium with a reserve.
pub(super) struct Disk<M: Medium> {
    medium: M,
    len: u64,
    /// Up to where room is set aside; 0 when it cannot be.
    aside: u64,
    can_set_aside: bool,
    /// Bytes to have left after each write.
    pub(super) reserve: u64,
}

impl<M: Medium> Disk<M> {
    pub(super) fn new(medium: M, reserve: u64) -> Self {
        Self { medium, len: 0, aside: 0, can_set_aside: true, reserve }
    }

    /// Opens the reserve, for the last bytes.
    pub(super) fn open_reserve(&mut self) {
        self.reserve = 0;
        self.can_set_aside = false;
    }

    /// Cuts what is written, and lets go of all room that was set aside.
    pub(super) fn cut(&mut self, len: u64) -> io::Result<()> {
        self.len = len;
        self.aside = 0;
        self.medium.cut(len)
    }

    /// Cuts off a part of a block behind the first `len` bytes, if there is one.
    pub(super) fn cut_part(&mut self, len: u64) -> io::Result<()> {
        if self.len > len { self.cut(len) } else { Ok(()) }
    }

    /// Lets go of the room that was set aside.
    pub(super) fn trim(&mut self) {
        if self.aside > self.len {
            // What is written is complete; at worst some room stays taken.
            let _ = self.cut(self.len);
        }
    }

    #[cfg(test)]
    pub(super) fn medium(&self) -> &M {
        &self.medium
    }

    #[cfg(test)]
    pub(super) fn medium_mut(&mut self) -> &mut M {
        &mut self.medium
    }

    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let need = self.len + bytes + self.reserve;
        if !self.can_set_aside || need <= self.aside {
            return Ok(());
        }
        let from = self.aside.max(self.len);
        let got = match self.medium.set_aside(from, need + AHEAD - from) {
            Err(_) => self.medium.set_aside(from, need - from).map(|can| (can, need)),
            Ok(can) => Ok((can, need + AHEAD)),
        };
        let (can, aside) = got?;
        self.can_set_aside = can;
        self.aside = if can { aside } else { 0 };
        Ok(())
    }
}

impl<M: Medium> Write for Disk<M> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.make_room(bytes.len() as u64)?;
        let written = self.medium.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.medium.flush()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A disk of so many bytes; with `reserves` one that sets room aside.
    pub(in super::super) struct Small {
        pub(in super::super) bytes: Vec<u8>,
        pub(in super::super) room: usize,
        pub(in super::super) reserves: bool,
        /// Fails every write from now on, as a broken disk does.
        pub(in super::super) broken: bool,
        aside: usize,
    }

    impl Small {
        pub(in super::super) fn new(room: usize, reserves: bool) -> Self {
            Self { bytes: Vec::new(), room, reserves, broken: false, aside: 0 }
        }
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.broken {
                return Err(io::Error::from_raw_os_error(5));
            }
            // As a real disk: a part may fit.
            let room = self.room.max(self.aside) - self.bytes.len();
            let taken = bytes.len().min(room);
            self.bytes.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Medium for Small {
        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.bytes.truncate(len as usize);
            Ok(())
        }

        fn set_aside(&mut self, from: u64, len: u64) -> io::Result<bool> {
            let end = (from + len) as usize;
            if self.reserves && end > self.room {
                return Err(ErrorKind::StorageFull.into());
            }
            self.aside = if self.reserves { end } else { 0 };
            Ok(self.reserves)
        }
    }

    #[test]
    fn the_reserve_is_there_when_the_disk_is_full() {
        let mut disk = Disk::new(Small::new(10_000, true), 1000);
        while disk.write_all(&[7; 300]).is_ok() {}
        let full = disk.len;
        assert!((8700..=9000).contains(&full), "{full}");
        assert_eq!(disk.medium().bytes.len() as u64, full, "no part of a write that does not fit");
        disk.open_reserve();
        disk.write_all(&[8; 1000]).expect("the reserve");
    }

    #[test]
    fn without_a_reserve_everything_is_written() {
        let mut disk = Disk::new(Small::new(10_000, false), 1000);
        while disk.write_all(&[7; 300]).is_ok() {}
        assert_eq!(disk.medium().bytes.len(), 10_000);
        disk.cut(9900).expect("cuts");
        assert_eq!(disk.medium().bytes.len(), 9900);
    }

    #[test]
    fn a_real_file_lets_go_of_what_was_set_aside() -> io::Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("file");
        let mut disk = Disk::new(File::create(&path)?, 100_000);
        disk.write_all(&[7; 5000])?;
        assert_eq!(path.metadata()?.len(), 5000, "what is set aside does not show");
        disk.trim();
        assert_eq!(path.metadata()?.len(), 5000);
        assert!(path.metadata()?.blocks() * 512 <= 64 << 10, "{}", path.metadata()?.blocks());
        Ok(())
    }
}
