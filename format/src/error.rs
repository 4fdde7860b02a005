//! Errors and warnings of this crate; each says at which byte.

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file, a block or a column could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file does not begin as an `.llmtrace` file does.
    #[error("not an .llmtrace file: it begins with {found:02x?}")]
    Foreign {
        /// The first bytes of the file.
        found: Vec<u8>,
    },
    /// The file ends before the header does.
    #[error("file is cut off at byte {len}, inside its header")]
    TooShort {
        /// Length of the file.
        len: u64,
    },
    /// A later version of llmtrace wrote the file.
    #[error(
        "file has format version {major}.{minor}; this build reads up to version {}.x: use a newer llmtrace",
        crate::constants::VERSION_MAJOR
    )]
    NewerVersion {
        /// Major version in the file.
        major: u16,
        /// Minor version in the file.
        minor: u16,
    },
    /// A checksum does not match its bytes.
    #[error("damaged {what} at byte {offset}: checksum does not match")]
    Checksum {
        /// What the checksum covers.
        what: &'static str,
        /// Where it begins in the file.
        offset: u64,
    },
    /// Bytes that no writer writes.
    #[error("damaged {what} at byte {offset}: {why}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// Where in the file.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A block lacks a column that was asked for.
    #[error("block at byte {offset} has no column `{column}`")]
    MissingColumn {
        /// Where the block begins.
        offset: u64,
        /// Name of the column.
        column: &'static str,
    },
    /// The reader's caller asked it to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Something that is wrong with a file that opens all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The recorder did not close the file.
    #[error("the file was not closed properly; its {blocks} blocks were found by scanning")]
    NoFooter {
        /// Number of whole blocks.
        blocks: usize,
    },
    /// The last bytes are not a whole block.
    #[error("the last {bytes} bytes, from byte {offset}, are not a whole block and were left out")]
    CutOff {
        /// Where the remainder begins.
        offset: u64,
        /// How many bytes were left out.
        bytes: u64,
    },
    /// Bytes between blocks that are no block.
    #[error("{bytes} damaged bytes at byte {offset} were skipped")]
    Skipped {
        /// Where the damage begins.
        offset: u64,
        /// How many bytes were skipped.
        bytes: u64,
    },
    /// A dictionary block that cannot be read.
    #[error("{what} at byte {offset} cannot be read and is missing")]
    Unreadable {
        /// What it would have held.
        what: &'static str,
        /// Where the block begins.
        offset: u64,
    },
    /// Dictionaries out of all proportion to the file.
    #[error(
        "descriptions from byte {offset} on are larger than a file of this length can need and were left out"
    )]
    TooLarge {
        /// Where the first block that was left out begins.
        offset: u64,
    },
    /// Rows out of all proportion to the file.
    #[error(
        "{blocks} blocks from byte {offset} on claim more rows than a file of this length can need and were left out"
    )]
    TooManyRows {
        /// Where the first block that was left out begins.
        offset: u64,
        /// How many were left out.
        blocks: u64,
    },
    /// The file has tables of a later minor version.
    #[error("the file has format version {major}.{minor}; what this build does not know was skipped")]
    NewerMinor {
        /// Major version in the file.
        major: u16,
        /// Minor version in the file.
        minor: u16,
    },
}
