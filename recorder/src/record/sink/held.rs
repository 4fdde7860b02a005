//! Rows that refer to a call which has not returned: held until it has, so that
//! no file has a reference to a row that it lacks.
//!
//! A graph span refers to its micro-batch and that to its decode call, whose
//! rows come when these return. A file that ends before leaves the reference
//! out instead.

use llmtrace_format::constants::NONE;
use llmtrace_format::tables::{GraphSpan, Ubatch};
use std::collections::VecDeque;

/// Ids remembered, and how much newer calls may be before an older one counts as
/// lost: more than there are contexts that compute at once.
const RECENT: usize = 1024;

#[derive(Default)]
pub(super) struct Held {
    graph_spans: Vec<GraphSpan>,
    ubatches: Vec<Ubatch>,
    /// Calls that have returned, of which rows may still come.
    seen_ubatches: Recent,
    seen_decodes: Recent,
}

/// Rows that may be written.
#[derive(Default)]
pub(super) struct Released {
    pub(super) graph_spans: Vec<GraphSpan>,
    pub(super) ubatches: Vec<Ubatch>,
}

#[derive(Default)]
struct Recent(VecDeque<u32>);

impl Recent {
    fn add(&mut self, id: u32) {
        if self.0.len() >= RECENT {
            self.0.pop_front();
        }
        self.0.push_back(id);
    }

    fn has(&self, id: u32) -> bool {
        // The newest first: rows follow their calls closely.
        self.0.iter().rev().any(|&known| known == id)
    }
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.graph_spans.len() + self.ubatches.len()
    }

    /// Whether a file may end here without leaving out a reference.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn graph_span(&mut self, row: GraphSpan) -> Option<GraphSpan> {
        if row.ubatch == NONE || self.seen_ubatches.has(row.ubatch) {
            return Some(row);
        }
        self.graph_spans.push(row);
        None
    }

    pub(super) fn ubatch(&mut self, row: Ubatch) -> Released {
        self.seen_ubatches.add(row.id);
        let lost = |held: &GraphSpan| held.ubatch.saturating_add(RECENT as u32) < row.id;
        let mut graph_spans = Vec::new();
        self.graph_spans.retain(|held| {
            if held.ubatch == row.id {
                graph_spans.push(*held);
            } else if lost(held) {
                graph_spans.push(GraphSpan { ubatch: NONE, ..*held });
            }
            held.ubatch != row.id && !lost(held)
        });
        let waits = row.decode != NONE && !self.seen_decodes.has(row.decode);
        if waits {
            self.ubatches.push(row);
        }
        Released { graph_spans, ubatches: if waits { Vec::new() } else { vec![row] } }
    }

    pub(super) fn decode(&mut self, id: u32) -> Vec<Ubatch> {
        self.seen_decodes.add(id);
        let lost = |held: &Ubatch| held.decode.saturating_add(RECENT as u32) < id;
        let mut released = Vec::new();
        self.ubatches.retain(|held| {
            if held.decode == id {
                released.push(*held);
            } else if lost(held) {
                released.push(Ubatch { decode: NONE, ..*held });
            }
            held.decode != id && !lost(held)
        });
        released
    }

    /// The file ends: everything, without what it cannot refer to.
    pub(super) fn release_all(&mut self) -> Released {
        let graph_spans = std::mem::take(&mut self.graph_spans);
        let ubatches = std::mem::take(&mut self.ubatches);
        Released {
            graph_spans: graph_spans.into_iter().map(|row| GraphSpan { ubatch: NONE, ..row }).collect(),
            ubatches: ubatches.into_iter().map(|row| Ubatch { decode: NONE, ..row }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(id: u32, ubatch: u32) -> GraphSpan {
        GraphSpan { id, ubatch, ..GraphSpan::default() }
    }

    fn ubatch(id: u32, decode: u32) -> Ubatch {
        Ubatch { id, decode, ..Ubatch::default() }
    }

    #[test]
    fn rows_wait_for_the_call_that_they_refer_to_in_whatever_order_rows_come() {
        let mut held = Held::default();
        assert_eq!(held.graph_span(graph(0, NONE)), Some(graph(0, NONE)));
        assert_eq!(held.graph_span(graph(1, 7)), None);
        let released = held.ubatch(ubatch(7, 3));
        assert_eq!((released.graph_spans, released.ubatches), (vec![graph(1, 7)], vec![]));
        assert!(!held.is_empty());
        assert_eq!(held.decode(3), [ubatch(7, 3)]);
        assert!(held.is_empty());
        // All within one look at the kernel's ring: calls come first.
        assert_eq!(held.decode(4), []);
        assert_eq!(held.ubatch(ubatch(8, 4)).ubatches, [ubatch(8, 4)]);
        assert_eq!(held.graph_span(graph(2, 8)), Some(graph(2, 8)));
    }

    #[test]
    fn what_never_returns_is_left_out() {
        let mut held = Held::default();
        held.graph_span(graph(1, 7));
        held.ubatch(ubatch(6, 3));
        let released = held.release_all();
        assert_eq!((released.graph_spans, released.ubatches), (vec![graph(1, NONE)], vec![ubatch(6, NONE)]));
        // Its return was lost: much later ones say so.
        held.graph_span(graph(2, 7));
        assert_eq!(held.ubatch(ubatch(5000, NONE)).graph_spans, [graph(2, NONE)]);
        held.ubatch(ubatch(5001, 1));
        assert_eq!(held.decode(9000), [ubatch(5001, NONE)]);
    }
}
