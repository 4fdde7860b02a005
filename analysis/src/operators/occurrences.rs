//! The single executions behind a row: when, how long, of which token, over how much data.

use super::{Filter, Node, NodeId, Query, describe, unknown};
use crate::executions::{Contexts, LaneSpan, blocks_of, each_run, join};
use crate::rollup::{self, Location};
use crate::trace::LoadProgress;
use crate::{Nanos, Phase, TimeRange, Trace};
use llmtrace_format::Result;
use llmtrace_format::constants::NONE;
use std::collections::HashMap;

/// Most executions that are kept.
pub const MOST: u64 = 400_000;

/// One execution of a node, by all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// When the first thread began.
    pub begin: Nanos,
    /// Nanoseconds from there until the last one was done.
    pub wall: u64,
    /// Nanoseconds of computing, summed over threads.
    pub compute: u64,
    /// Nanoseconds of waiting, summed over threads.
    pub wait: u64,
    /// Index into [`Trace::tokens`]; [`NONE`] outside of them.
    pub token: u32,
    /// Place in [`Occurrences::kinds`].
    pub kind: u32,
    /// Lane that began it.
    pub lane: u32,
    /// Whether events were lost near it.
    pub touched_by_loss: bool,
}

impl Occurrence {
    /// From the first thread's begin until the last one was done.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.begin, self.begin.saturating_add(self.wall))
    }
}

/// Executions by begin.
#[derive(Clone, Debug, Default)]
pub struct Occurrences {
    /// The executions, or an even sample of them.
    pub all: Vec<Occurrence>,
    /// The nodes that they are of, without sums.
    pub kinds: Vec<Node>,
    /// How many there are beyond `all`: of every so many graph computations one was kept.
    pub left_out: u64,
    /// Tokens in the context of each token's sequence once it was computed, by index into
    /// [`Trace::tokens`]; `None` where the recording does not tell.
    pub context: Vec<Option<u32>>,
}

impl Occurrences {
    /// Exact durations at percentiles, of what is kept; `None` when there is nothing.
    pub fn sorted_walls(&self) -> Vec<u64> {
        let mut walls: Vec<u64> = self.all.iter().map(|occurrence| occurrence.wall).collect();
        walls.sort_unstable();
        walls
    }

    /// The executions whose wall time lies in a range, by begin.
    pub fn within(&self, walls: std::ops::Range<u64>) -> impl Iterator<Item = &Occurrence> {
        self.all.iter().filter(move |occurrence| walls.contains(&occurrence.wall))
    }

    /// Tokens in the context when an execution was done.
    pub fn context_of(&self, occurrence: &Occurrence) -> Option<u32> {
        *self.context.get(occurrence.token as usize)?
    }

    /// What it is an execution of.
    pub fn kind_of(&self, occurrence: &Occurrence) -> Option<&Node> {
        self.kinds.get(occurrence.kind as usize)
    }
}

#[derive(Default)]
struct State {
    all: Vec<Occurrence>,
    kinds: Vec<(NodeId, Node)>,
    known: HashMap<NodeId, Option<u32>>,
    locations: HashMap<u32, Vec<Location>>,
    seen: u64,
}

/// The executions of the nodes that `filter` takes; `count` of them are expected.
///
/// # Errors
/// [`llmtrace_format::Error::Cancelled`] when `progress` returned `false`.
pub fn occurrences(
    trace: &Trace,
    query: &Query,
    filter: &Filter,
    count: u64,
    progress: LoadProgress<'_>,
) -> Result<Occurrences> {
    let contexts = Contexts::new(trace);
    let blocks = blocks_of(trace, None, query.range);
    let every = u32::try_from(count.div_ceil(MOST)).unwrap_or(u32::MAX).max(1);
    let wanted = |id: u32, _: u32| query.phase.is_none_or(|phase| contexts.of(id).phase(trace) == phase);
    let each = |state: &mut State, id: u32, spans: &mut Vec<LaneSpan>| {
        let context = contexts.of(id);
        let graph = context.graph.unwrap_or(u32::MAX);
        let phase = context.phase(trace) as u8;
        let kept = id.is_multiple_of(every);
        join(spans, |execution| {
            let at = (phase, graph, execution.node, execution.fused);
            if query.range.is_some_and(|range| !range.contains(execution.begin)) {
                return;
            }
            let Some(kind) = state.kind(trace, filter, at) else { return };
            state.seen += 1;
            if kept {
                state.all.push(Occurrence {
                    begin: execution.begin,
                    wall: execution.wall(),
                    compute: execution.compute,
                    wait: execution.wait,
                    token: context.token.unwrap_or(NONE),
                    kind,
                    lane: trace.lanes().get(execution.lane as usize).map_or(0, |lane| lane.id),
                    touched_by_loss: execution.touched_by_loss,
                });
            }
        });
    };
    let states = each_run(trace, &blocks, progress, wanted, State::default, each)?;
    let mut found = Occurrences { context: contexts_of_tokens(trace), ..Occurrences::default() };
    let mut places: HashMap<NodeId, u32> = HashMap::new();
    let mut seen = 0;
    for state in states {
        seen += state.seen;
        let mut here = Vec::with_capacity(state.kinds.len());
        for (id, node) in state.kinds {
            let next = found.kinds.len() as u32;
            let place = *places.entry(id).or_insert(next);
            if place == next {
                found.kinds.push(node);
            }
            here.push(place);
        }
        found.all.extend(state.all.into_iter().filter_map(|occurrence| {
            Some(Occurrence { kind: *here.get(occurrence.kind as usize)?, ..occurrence })
        }));
    }
    found.all.sort_unstable_by_key(|occurrence| (occurrence.begin, occurrence.lane));
    found.left_out = seen.saturating_sub(found.all.len() as u64);
    Ok(found)
}

impl State {
    /// The place of a node among those that count, if it does.
    fn kind(&mut self, trace: &Trace, filter: &Filter, id: NodeId) -> Option<u32> {
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let (phase, graph, index, fused) = id;
        let phase = Phase::from_u8(phase);
        let described = trace.file.graphs.get(graph as usize);
        let described = described.filter(|of| of.tensors.get(index as usize).is_some());
        let node = match described {
            Some(of) => {
                let all = self.locations.entry(graph).or_insert_with(|| rollup::locations(&trace.file, of));
                describe(trace, of, all, (index, fused), phase)
            }
            None => unknown(phase),
        };
        let kind = filter.takes(&node).then(|| {
            self.kinds.push((id, node));
            self.kinds.len() as u32 - 1
        });
        self.known.insert(id, kind);
        kind
    }
}

/// Tokens in the context after each token.
fn contexts_of_tokens(trace: &Trace) -> Vec<Option<u32>> {
    let mut last: HashMap<u32, u32> = HashMap::new();
    for (_, steps) in &trace.around().sequences {
        for step in steps {
            let known = last.entry(step.ubatch).or_default();
            *known = (*known).max(step.last.saturating_add(1));
        }
    }
    let of = |token: &crate::Token| last.get(&token.ubatch).copied().filter(|_| token.ubatch != NONE);
    trace.tokens.iter().map(of).collect()
}
