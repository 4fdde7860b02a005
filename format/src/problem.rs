//! What can be wrong with a file that [`crate::check`] reads.

/// What is wrong. Names are stable: scripts read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The file was not closed, or its footer cannot be read.
    NoFooter,
    /// The file ends inside a block; counts bytes.
    CutOff,
    /// Bytes between blocks that are no block; counts bytes.
    NoBlock,
    /// A block with a damaged column.
    Damaged,
    /// Descriptions or rows out of all proportion to the file, which are not read.
    TooLarge,
    /// Blocks that the footer's index lacks, or that are not what it says.
    Index,
    /// A summary that its rows contradict.
    Summary,
    /// Rows whose end comes before their begin, or outside their block's range.
    Range,
    /// Blocks of a lane that begin before the one before ended.
    Overlap,
    /// Ids that occur more than once.
    DuplicateId,
    /// Strings that do not exist.
    NoString,
    /// Tensors, or types of tensors, that do not exist.
    NoTensor,
    /// Graphs that do not exist.
    NoGraph,
    /// Nodes that do not exist.
    NoNode,
    /// Threads that do not exist.
    NoThread,
    /// Graph spans that do not exist.
    NoGraphSpan,
    /// Micro-batches that do not exist.
    NoUbatch,
    /// Decode calls that do not exist.
    NoDecode,
    /// Processes that are not listed.
    NoProcess,
    /// Mapped files that are not listed.
    NoFile,
}

impl ProblemKind {
    /// Stable name, and what it means.
    pub fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::NoFooter => ("no_footer", "the file was not closed: no footer that can be read"),
            Self::CutOff => ("cut_off", "bytes at the end are not a whole block"),
            Self::NoBlock => ("no_block", "bytes between blocks are no block"),
            Self::Damaged => ("damaged", "block cannot be read"),
            Self::TooLarge => ("too_large", "larger than a file of this length can need, and not read"),
            Self::Index => ("index", "blocks are not as the footer's index says"),
            Self::Summary => ("summary", "summary contradicts its rows"),
            Self::Range => ("range", "rows run backwards, or lie outside their block's time range"),
            Self::Overlap => ("overlap", "block begins before the one before in its lane ended"),
            Self::DuplicateId => ("duplicate_id", "ids were given before"),
            Self::NoString => ("no_string", "references to strings that do not exist"),
            Self::NoTensor => ("no_tensor", "references to tensors or types that do not exist"),
            Self::NoGraph => ("no_graph", "references to graphs that do not exist"),
            Self::NoNode => ("no_node", "references to nodes that do not exist"),
            Self::NoThread => ("no_thread", "references to threads that do not exist"),
            Self::NoGraphSpan => ("no_graph_span", "references to graph spans that do not exist"),
            Self::NoUbatch => ("no_ubatch", "references to micro-batches that do not exist"),
            Self::NoDecode => ("no_decode", "references to decode calls that do not exist"),
            Self::NoProcess => ("no_process", "references to processes that are not listed"),
            Self::NoFile => ("no_file", "references to mapped files that are not listed"),
        }
    }
}

/// Something wrong at one place of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemKind,
    /// Where: the damaged column, else the block, else the bytes.
    pub offset: u64,
    /// How many bytes, blocks or rows, as the kind says.
    pub count: u64,
    /// The table; for problems of the file as a whole `file`.
    pub table: &'static str,
    /// The lane, for op spans and summaries.
    pub lane: Option<u32>,
}
