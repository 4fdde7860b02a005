//! The trace model, level of detail and statistics over `.llmtrace` files.
//!
//! ```text
//! llmtrace_format::TraceFile ─► Trace ─┬─► fold     (timeline: a list bounded by pixels)
//!                                      ├─► stats    (by operator, name, layer, thread, token)
//!                                      ├─► summary  (the run on one page)
//!                                      ├─► search   (find by name)
//!                                      ├─► cut      (a time range as a trace of its own)
//!                                      └─► export   (Chrome JSON, Perfetto, CSV)
//! ```
//!
//! Everything here is a function from a [`Trace`] to values that both the
//! command line and the app show. The crate does no I/O beyond the format
//! crate and knows neither egui nor libbpf.

pub mod cut;
mod executions;
pub mod export;
pub mod fold;
mod levels;
pub mod node;
pub mod price;
pub mod search;
pub mod stats;
pub mod summary;
#[doc(hidden)]
pub mod synth;
mod trace;

pub use executions::NodeKey;
pub use levels::{LevelRange, lane_name, level_ranges};
pub use llmtrace_format as format;
pub use llmtrace_format::tables::Phase;
pub use llmtrace_format::{Nanos, OpSpan, TimeRange};
pub use trace::{Lane, LoadProgress, Token, Trace};
