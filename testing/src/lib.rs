//! Broken and hostile `.llmtrace` files, and what must hold for any of them.
//!
//! ```text
//! bytes ─► File (blocks, columns, decompressed) ─► mutate ─► bytes with right checksums
//!                                                              │
//!                             targets: open, tables, …  ◄──────┘
//! ```
//!
//! [`mod@file`] knows the layout on its own, by `docs/format.md` and not by the code of the format
//! crate, so that it can write what no writer writes. [`targets`] are plain functions from bytes,
//! which `fuzz/` runs under libFuzzer for hours and the tests here for seconds. Nothing that is
//! shipped depends on this crate.

pub mod file;
pub mod hostile;
pub mod mutate;
pub mod random;
pub mod rounds;
pub mod samples;
pub mod tables;
pub mod targets;

pub use file::{Block, Column, File};
pub use mutate::mutate;
pub use random::Random;
