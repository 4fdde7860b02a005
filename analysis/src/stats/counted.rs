//! Counts of the same groups: sums over the op spans of which they are known.

use super::{By, Grouper, Key, Query, group_id};
use crate::Trace;
use crate::executions::Contexts;
use llmtrace_format::ColumnSet;
use llmtrace_format::counters::OpCounters;
use serde::Serialize;
use std::collections::HashMap;

/// What a group counted of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Sum over the op spans of which it is known; `None` when it is of none.
    pub sum: Option<u64>,
    /// Op spans of which it is known, and of which it is not.
    pub known: u64,
    /// The same of those that are unknown.
    pub unknown: u64,
    /// Op spans whose count is scaled up, as the event took turns with others.
    pub scaled: u64,
}

impl Counted {
    /// Adds a count.
    pub fn add(&mut self, count: Option<u64>, scaled: bool) {
        match count {
            Some(count) => {
                self.sum = Some(self.sum.unwrap_or(0).saturating_add(count));
                self.known += 1;
                self.scaled += u64::from(scaled);
            }
            None => self.unknown += 1,
        }
    }

    /// Adds another group's.
    pub fn merge(&mut self, other: &Self) {
        self.sum = match (self.sum, other.sum) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        self.known += other.known;
        self.unknown += other.unknown;
        self.scaled += other.scaled;
    }
}

/// Counts by group, in the order of the counters; empty when nothing was counted. Damaged
/// blocks are left out.
pub(super) fn counted(trace: &Trace, query: &Query, contexts: &Contexts) -> HashMap<Key, Vec<Counted>> {
    let counters = trace.counters().len();
    if counters == 0 {
        return HashMap::new();
    }
    let mut grouper = Grouper::new(trace, *query);
    let mut sums: Vec<Vec<Counted>> = Vec::new();
    let wanted = |begin| query.range.is_none_or(|range| range.contains(begin));
    for block in trace.file.blocks_of::<OpCounters>() {
        let Ok(table) = trace.file.read::<OpCounters>(block, ColumnSet::ALL) else { continue };
        let thread = (query.by == By::Thread)
            .then(|| group_id(&mut grouper.index, &mut grouper.groups, Key::Thread(block.lane)));
        for row in table.rows().filter(|row| wanted(row.begin)) {
            let context = contexts.of(row.graph_span);
            if query.phase.is_some_and(|phase| context.phase(trace) != phase) {
                continue;
            }
            let id = match query.by {
                By::Thread => thread,
                By::Token => {
                    let key = context.token.map_or(Key::NoToken, Key::Token);
                    Some(group_id(&mut grouper.index, &mut grouper.groups, key))
                }
                _ => None,
            };
            let id = id.unwrap_or_else(|| grouper.group_of(context, row.node, row.fused)) as usize;
            if sums.len() <= id {
                sums.resize(id + 1, vec![Counted::default(); counters]);
            }
            for (counter, sum) in sums.get_mut(id).into_iter().flatten().enumerate() {
                sum.add(row.count(counter), row.scaled >> counter & 1 != 0);
            }
        }
    }
    let of = |(key, id): (Key, u32)| Some((key, sums.get_mut(id as usize).map(std::mem::take)?));
    grouper.index.into_iter().filter_map(of).collect()
}

/// What operators counted, those fused into one kernel together, in no order. Goes through all
/// counts, but no op spans.
pub fn counts_by_operator(trace: &Trace) -> Vec<(String, Vec<Counted>)> {
    let all = counted(trace, &Query::by(By::Op), &Contexts::new(trace));
    all.into_iter().map(|(key, counted)| (key.text(trace), counted)).collect()
}
