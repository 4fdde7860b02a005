//! What an unmodified llama.cpp binary can tell without being run.
//!
//! ```text
//!   ELF file ── elf::Object ──┬── prologue ── where a uprobe is cheap and arguments are intact
//!                             ├── frames + plt ── node_loop ── where a node's barriers are
//!                             └── affine ── target ── learn ── op names, types, field offsets
//!                                             ▲
//!            tables over Memory: FileImage (the file, relocated) or a running process
//! ```
//!
//! Everything here is read from untrusted bytes: no file may make us panic or allocate without
//! bound. Nothing is executed and nothing is guessed: an answer that cannot be validated is a
//! [`BinaryError`]. The module knows x86-64 only and refuses other machines.

mod affine;
mod elf;
#[cfg(test)]
mod fixtures;
mod frames;
mod fuzzing;
mod image;
mod learn;
mod node_loop;
mod plt;
mod prologue;
#[cfg(test)]
mod real_binaries;
mod returned;
mod symbols;
mod tables;
mod target;

pub(crate) use elf::Object;
pub use fuzzing::fuzz_binary;
pub(crate) use image::FileImage;
pub(crate) use learn::{BackendLayout, Learned, MemoryLayout, TensorLayout, learn};
pub(crate) use node_loop::{LoopSite, barrier_sites};
pub(crate) use prologue::{Arg, Site, probe_site, return_instructions, return_site};
pub(crate) use returned::{returned, returned_text};
pub(crate) use symbols::Symbol;
pub(crate) use tables::{Memory, TypeInfo};
pub(crate) use target::{Located, field_read};

/// Why a binary could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BinaryError {
    /// Reading failed.
    #[error("cannot read the file")]
    Io(#[from] std::io::Error),
    /// The magic number is another one.
    #[error("not an ELF file")]
    NotElf,
    /// A 32-bit or big-endian file.
    #[error("not a 64-bit little-endian ELF file")]
    NotElf64,
    /// Code for another machine.
    #[error("code for ELF machine {machine}, not for x86-64")]
    ForeignArchitecture {
        /// The `e_machine` field.
        machine: u16,
    },
    /// A header or a table contradicts itself or points outside the file.
    #[error("malformed ELF file: bad {what} at byte {offset}")]
    Malformed {
        /// The part that is wrong.
        what: &'static str,
        /// Where in the file it was expected.
        offset: u64,
    },
    /// A function that must be there is not.
    #[error("the target has no function {name}")]
    MissingFunction {
        /// Its symbol.
        name: &'static str,
    },
    /// The compiler produced code which the decoder does not understand.
    #[error("the code of {name} has an unknown shape")]
    UnknownCode {
        /// Symbol of the function.
        name: &'static str,
    },
    /// A field lies where it does in no version that we know.
    #[error("the layout of ggml_tensor is unknown: its name lies at offset {name_offset}")]
    UnknownLayout {
        /// Where the name lies.
        name_offset: u32,
    },
    /// `struct ggml_cgraph` is not the one that the kernel side reads.
    #[error("the layout of ggml_cgraph is unknown: n_nodes at offset {count}, nodes at {nodes}")]
    UnknownGraph {
        /// Where the number of nodes lies.
        count: u32,
        /// Where the list of nodes lies.
        nodes: u32,
    },
    /// A table was read, but its content is not what it has to be.
    #[error("the {table} table is implausible: {reason}")]
    ImplausibleTable {
        /// Which table.
        table: &'static str,
        /// What was wrong.
        reason: &'static str,
    },
}
