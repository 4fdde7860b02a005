//! The trace model, level of detail and statistics over `.llmtrace` files.
//!
//! ```text
//! llmtrace_format::TraceFile ─► Trace ─┬─► fold     (timeline: a list bounded by pixels)
//!                                      ├─► totals   (of a range, from sums in the file)
//!                                      ├─► stats    (by operator, name, layer, thread, token)
//!                                      ├─► summary  (the run on one page)
//!                                      ├─► operators (grouped, drilled into, each execution)
//!                                      ├─► dag      (the compute graph in parts, laid out)
//!                                      ├─► diff     (two runs: what got slower, how sure)
//!                                      ├─► search   (find by name)
//!                                      ├─► flow     (what a span reads, who reads it)
//!                                      ├─► experts  (of a mixture: which, how evenly)
//!                                      ├─► inference (requests, KV cache, calls)
//!                                      ├─► cut      (a time range as a trace of its own)
//!                                      ├─► report   (a page of HTML)
//!                                      └─► export   (Chrome JSON, Perfetto, CSV)
//! ```
//!
//! Opening reads dictionaries, index and small tables. Op spans are decoded block
//! by block when somebody looks at them, into a cache of bounded size ([`fetch`]
//! does that in the background), or once through by who needs them all.
//!
//! Everything here is a function from a [`Trace`] to values that both the
//! command line and the app show. The crate does no I/O beyond the format
//! crate and knows neither egui nor libbpf.

pub mod align;
pub mod attribution;
mod cache;
pub mod ceilings;
pub mod counters;
pub mod cut;
pub mod dag;
pub mod diff;
mod executions;
pub mod experts;
pub mod explain;
pub mod export;
pub mod fetch;
pub mod findings;
pub mod flow;
pub mod fold;
pub mod glossary;
mod growing;
pub mod inference;
mod known;
mod lane;
mod levels;
pub mod machine;
pub mod node;
pub mod offload;
pub mod operators;
mod picture;
pub mod price;
pub mod profile;
pub mod report;
pub mod rollup;
pub mod roofline;
mod rows;
pub mod search;
pub mod shares;
pub mod stats;
pub mod summary;
#[doc(hidden)]
pub mod synth;
pub mod text;
pub mod totals;
mod trace;
pub mod traffic;
pub mod verdict;
pub mod work;

pub use cache::{DEFAULT_CACHE_BYTES, Part};
pub use executions::NodeKey;
pub use lane::{Found, Lane, Place};
pub use levels::{LevelRange, lane_name, level_ranges};
pub use llmtrace_format as format;
pub use llmtrace_format::tables::Phase;
pub use llmtrace_format::{Nanos, OpSpan, TimeRange};
pub use trace::{LoadProgress, Token, Trace};
