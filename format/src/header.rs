//! The fixed header at the start of a file.

use crate::constants::{HEADER_LEN, MAGIC, VERSION_MAJOR, VERSION_MINOR};
use crate::{Error, Result};

/// When the trace began, and in which version it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Format version: major.
    pub major: u16,
    /// Format version: minor.
    pub minor: u16,
    /// Wall-clock start, nanoseconds since 1970-01-01 UTC.
    pub start_unix_nanos: u64,
    /// `CLOCK_MONOTONIC` of the recording host at the start; all times in the
    /// file count from here.
    pub start_monotonic_nanos: u64,
}

impl Header {
    /// A header of the current version.
    pub fn new(start_unix_nanos: u64, start_monotonic_nanos: u64) -> Self {
        Self { major: VERSION_MAJOR, minor: VERSION_MINOR, start_unix_nanos, start_monotonic_nanos }
    }

    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.major.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.minor.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.start_unix_nanos.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.start_monotonic_nanos.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header; `bytes` are the first bytes of the file, as many as
    /// there are up to [`HEADER_LEN`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] || bytes.is_empty() {
            return Err(Error::Foreign { found: bytes[..known].to_vec() });
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(Error::TooShort { len: bytes.len() as u64 });
        };
        let mut fields = crate::block::Fields::new(&bytes[8..]);
        let (major, minor) = (fields.u16(), fields.u16());
        // The version is judged before the checksum: a later header may be
        // longer, and "too new" is the more helpful answer.
        if major > VERSION_MAJOR {
            return Err(Error::NewerVersion { major, minor });
        }
        fields.u32();
        let header =
            Self { major, minor, start_unix_nanos: fields.u64(), start_monotonic_nanos: fields.u64() };
        fields.u32();
        if fields.u32() != crc32fast::hash(&bytes[..36]) {
            return Err(Error::Checksum { what: "header", offset: 0 });
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let header = Header::new(1, 2);
        assert_eq!(Header::from_bytes(&header.to_bytes()).expect("valid"), header);
    }

    #[test]
    fn foreign_short_newer_and_damaged_headers_have_their_own_errors() {
        let good = Header::new(1, 2).to_bytes();
        assert!(matches!(Header::from_bytes(b"GGUF\0\0\0\0\0"), Err(Error::Foreign { .. })));
        assert!(matches!(Header::from_bytes(b""), Err(Error::Foreign { .. })));
        assert!(matches!(Header::from_bytes(&good[..20]), Err(Error::TooShort { len: 20 })));
        let mut newer = good;
        newer[8] = 9;
        assert!(matches!(Header::from_bytes(&newer), Err(Error::NewerVersion { major: 9, .. })));
        let mut flipped = good;
        flipped[17] ^= 1;
        assert!(matches!(Header::from_bytes(&flipped), Err(Error::Checksum { offset: 0, .. })));
    }
}
