//! The desktop app that opens `.llmtrace` files.
//!
//! ```text
//! loader (thread) ──messages──► ViewerApp::receive ─┐
//! keys, mouse, menus ──Command──► command::apply ───┴─► State ──► panels
//! ```
//!
//! Panels read [`state::State`] and own what only they need; they change the
//! world by sending a [`command::Command`]. Nothing blocks the interface: files
//! open, slow answers are computed ([`memo`]) and spans are found ([`seek`]) on
//! other threads, and op spans that come in sight are decoded on the rayon pool. What is
//! drawn is bounded by pixels, not by events: `llmtrace_analysis::fold` says
//! which bars. The crate has no opinion about what a trace means; numbers come
//! from `llmtrace_analysis`.

pub mod answers;
pub mod app;
mod bars;
mod clean;
pub mod command;
pub mod compare;
pub mod copy;
pub mod counters;
pub mod details;
mod dialog;
pub mod experts;
pub mod find;
pub mod graph;
pub mod history;
pub mod keys;
pub mod keys_window;
mod live;
pub mod loader;
pub mod memo;
mod menu;
pub mod operators;
pub mod overview;
mod pages;
pub mod palette;
pub mod panel;
mod plot;
pub mod raster;
pub mod recent;
pub mod roofline;
pub mod samples;
pub mod save;
pub mod screenshot;
pub mod seek;
pub mod session;
pub mod state;
pub mod text;
pub mod theme;
pub mod timeline;
