//! The kernel side of llmtrace: BPF programs, their skeleton, and the types of
//! the records that they send.
//!
//! ```text
//! target's thread ─ uprobe ─► program ─► ring of the CPU ─► recorder
//!                                └─ no room ─► counted in `lost`, by kind
//! ```
//!
//! The programs filter by process, take a timestamp and a few words, and
//! leave. Everything that needs thought happens in user space.

#[cfg(target_os = "linux")]
mod abi;
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/llmtrace.skel.rs"));
}

#[cfg(target_os = "linux")]
pub use abi::{Bulk, Event, Head, SLOT_WORDS, parse, parse_bulk, shard_word};
#[cfg(target_os = "linux")]
pub use skeleton::*;
