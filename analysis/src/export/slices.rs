//! What goes on around graphs, as slices: for the formats that have tracks.
//!
//! A track holds rows of one kind, of one backend and calling thread: so they nest, or follow
//! each other, which both formats ask of the slices of a track.

use super::states;
use crate::cut::touches;
use crate::offload::backend_name;
use crate::{Nanos, TimeRange, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::{CallKind, UNKNOWN_RESULT};
use llmtrace_format::meta::StrId;
use llmtrace_format::offload::{CopyCall, Direction};
use std::collections::BTreeMap;

/// A slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slice {
    pub(super) begin: Nanos,
    pub(super) end: Nanos,
    pub(super) name: String,
    pub(super) args: Vec<(&'static str, Arg)>,
}

/// A value of an argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Arg {
    Number(i64),
    Text(String),
}

/// Slices of one kind, backend and thread, by begin; of two with the same begin the longer first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Track {
    pub(super) name: String,
    pub(super) category: &'static str,
    pub(super) slices: Vec<Slice>,
}

/// Kind, backend (or 0, or a number among those of a kind), and thread: the order of tracks.
type Key = (u8, u32, u32);

/// Tracks with all rows that touch a range.
pub(super) fn tracks(trace: &Trace, range: TimeRange) -> Vec<Track> {
    let mut tracks: BTreeMap<Key, Track> = BTreeMap::new();
    let mut add = |key: Key, what: &str, category, slice: Slice| {
        if touches(slice.begin, slice.end, range) {
            let named =
                || Track { name: format!("{what} (thread id {})", key.2), category, slices: Vec::new() };
            tracks.entry(key).or_insert_with(named).slices.push(slice);
        }
    };
    calls(trace, &mut |tid, slice| add((0, 0, tid), "calls around graphs", "call", slice));
    for row in &trace.offload.runs {
        let mut args = ids(&[("run", row.id), ("ubatch", row.ubatch)]);
        lost(row.touched_by_loss, &mut args);
        let name = "scheduler run".to_owned();
        let slice = Slice { begin: row.begin, end: row.end, name, args };
        add((1, 0, row.tid), "scheduler runs", "scheduler", slice);
    }
    offload(trace, &mut |kind, backend, tid, slice| {
        let (number, what, category) = kind;
        add((number, backend, tid), &format!("{what} {}", backend_name(trace, backend)), category, slice);
    });
    states::faults(trace, &mut |tid, slice| add((5, 0, tid), "page faults", "fault", slice));
    states::reads(trace, &mut |number, tid, slice| {
        add((6, number, tid), "block reads", "read", slice);
    });
    let mut tracks: Vec<Track> = tracks.into_values().collect();
    for track in &mut tracks {
        track.slices.sort_by_key(|slice| (slice.begin, std::cmp::Reverse(slice.end)));
    }
    tracks
}

fn calls(trace: &Trace, add: &mut dyn FnMut(u32, Slice)) {
    for row in &trace.inference.calls {
        let kind = CallKind::from_u8(row.kind);
        let mut args = ids(&[("context", row.context)]);
        if row.argument != NONE {
            args.push(("argument", Arg::Number((row.argument as i32).into())));
        }
        if row.result != UNKNOWN_RESULT {
            args.push(("result", Arg::Number(row.result as i64)));
        }
        add(row.tid, Slice { begin: row.begin, end: row.end, name: kind.name().to_owned(), args });
    }
}

/// Number, name and category of a kind of tracks.
type Kind = (u8, &'static str, &'static str);
const SPLITS: Kind = (2, "splits on", "split");
const COPIES: Kind = (3, "copies for", "copy");
const WAITS: Kind = (4, "waits for", "wait");

fn offload(trace: &Trace, add: &mut dyn FnMut(Kind, u32, u32, Slice)) {
    let text = |id: u32| trace.file.string(StrId(id)).to_owned();
    let mut backends = BTreeMap::new();
    for row in &trace.offload.splits {
        backends.insert(row.id, row.backend);
        let mut args =
            ids(&[("split", row.id), ("run", row.run), ("graph", row.graph), ("graph_run", row.graph_span)]);
        args.extend(ids(&[("first_node", row.first_node), ("nodes", row.nodes)]));
        lost(row.touched_by_loss, &mut args);
        let name = format!("{} nodes", row.nodes);
        add(SPLITS, row.backend, row.tid, Slice { begin: row.begin, end: row.end, name, args });
    }
    for row in &trace.offload.copies {
        let of_split = backends.get(&row.split).copied();
        let ends = [row.target, row.source].into_iter().find(|backend| *backend != NONE);
        let mut args = vec![
            ("bytes", Arg::Number(i64::try_from(row.bytes).unwrap_or(i64::MAX))),
            ("call", Arg::Text(CopyCall::from_u8(row.call).name().to_owned())),
            ("direction", Arg::Text(Direction::from_u8(row.direction).name().to_owned())),
        ];
        let memory = [("from", text(row.source_memory)), ("to", text(row.target_memory))];
        args.extend(
            memory
                .map(|(name, text)| (name, Arg::Text(text)))
                .into_iter()
                .filter(|(_, text)| *text != Arg::Text(String::new())),
        );
        args.extend(ids(&[("split", row.split), ("run", row.run)]));
        lost(row.touched_by_loss, &mut args);
        let tensor = text(row.tensor);
        let name = if tensor.is_empty() { "a tensor without a name".to_owned() } else { tensor };
        let backend = of_split.or(ends).unwrap_or(NONE);
        add(COPIES, backend, row.tid, Slice { begin: row.begin, end: row.end, name, args });
    }
    for row in &trace.offload.syncs {
        let mut args = ids(&[("run", row.run)]);
        lost(row.touched_by_loss, &mut args);
        let name = "synchronize".to_owned();
        add(WAITS, row.backend, row.tid, Slice { begin: row.begin, end: row.end, name, args });
    }
}

/// Arguments of the numbers that are known.
fn ids(numbers: &[(&'static str, u32)]) -> Vec<(&'static str, Arg)> {
    let known = numbers.iter().filter(|(_, number)| *number != NONE);
    known.map(|(name, number)| (*name, Arg::Number((*number).into()))).collect()
}

fn lost(touched: u8, args: &mut Vec<(&'static str, Arg)>) {
    if touched != 0 {
        args.push(("touched_by_loss", Arg::Number(1)));
    }
}
