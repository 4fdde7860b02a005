//! What reads bytes of others, as functions for the fuzzer and for `tests/short.rs`. They panic
//! when something does not hold.

pub use crate::read::fuzz_chrome_json as chrome_json;

/// Events of the kernel side, 32 bytes each, to rows.
#[cfg(target_os = "linux")]
pub use crate::record::fuzz_kernel_records as kernel_records;

/// The header of a model file.
#[cfg(target_os = "linux")]
pub use crate::record::fuzz_model_header as model_header;

/// A binary that a target maps.
#[cfg(target_os = "linux")]
pub use crate::binary::fuzz_binary as binary;

/// A line of a process's mappings.
#[cfg(target_os = "linux")]
pub use crate::record::fuzz_mappings as mappings;
