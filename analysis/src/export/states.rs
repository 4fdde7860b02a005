//! States of threads, page faults and reads as slices: for the formats that have tracks.

use super::machine::device;
use super::slices::{Arg, Slice};
use crate::cut::touches;
use crate::machine::place_of;
use crate::{Nanos, TimeRange, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::machine::{State, ThreadState, ThreadStates};
use llmtrace_format::meta::StrId;
use llmtrace_format::{ColumnSet, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Threads with states, by process and kernel thread: the order of their tracks.
pub(super) struct Threads(Vec<(u32, u32)>);

impl Threads {
    /// Those that have a row in a range; a block at a time.
    pub(super) fn of(trace: &Trace, range: TimeRange) -> Self {
        let mut found = BTreeSet::new();
        let columns = ColumnSet::only::<ThreadStates>(&["begin", "end", "tid", "process"]);
        for block in trace.file.blocks_of::<ThreadStates>() {
            let Ok(rows) = trace.file.read::<ThreadStates>(block, columns) else { continue };
            let times = rows.begin.iter().zip(&rows.end);
            let keys = rows.process.iter().zip(&rows.tid);
            let inside = times.zip(keys).filter(|((begin, end), _)| touches(**begin, **end, range));
            found.extend(inside.map(|(_, (process, tid))| (*process, *tid)));
        }
        Self(found.into_iter().collect())
    }

    /// Names of the tracks, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = (u32, String)> {
        (0..).zip(&self.0).map(|(index, (_, tid))| (index, format!("thread state (thread id {tid})")))
    }

    /// Hands out the rows that touch a range, with the number of their track; those of a track by
    /// begin, without overlap, as they are in the file.
    pub(super) fn each(
        &self,
        trace: &Trace,
        range: TimeRange,
        mut each: impl FnMut(u32, &Slice) -> Result<()>,
    ) -> Result<u64> {
        let mut count = 0;
        let mut ends: Vec<Nanos> = vec![0; self.0.len()];
        for block in trace.file.blocks_of::<ThreadStates>() {
            let Ok(rows) = trace.file.read::<ThreadStates>(block, ColumnSet::ALL) else { continue };
            for row in rows.rows().filter(|row| touches(row.begin, row.end, range)) {
                let Ok(track) = self.0.binary_search(&(row.process, row.tid)) else { continue };
                let Some(before) = ends.get_mut(track) else { continue };
                let mut slice = state(trace, &row);
                // Rows of a damaged file may overlap.
                slice.begin = slice.begin.max(*before);
                slice.end = slice.end.max(slice.begin);
                *before = slice.end;
                each(track as u32, &slice)?;
                count += 1;
            }
        }
        Ok(count)
    }
}

fn state(trace: &Trace, row: &ThreadState) -> Slice {
    let state = State::from_u8(row.state);
    let mut args = Vec::new();
    let numbers = [("cpu", row.cpu), ("other_tid", row.other_tid), ("other_pid", row.other_pid)];
    let known = numbers.into_iter().filter(|(_, number)| *number != NONE);
    args.extend(known.map(|(name, number)| (name, Arg::Number(number.into()))));
    if row.other != 0 {
        args.push(("other", Arg::Text(trace.file.string(StrId(row.other)).to_owned())));
    }
    lost(row.touched_by_loss, &mut args);
    Slice { begin: row.begin, end: row.end, name: state.name().to_owned(), args }
}

fn lost(touched: u8, args: &mut Vec<(&'static str, Arg)>) {
    if touched != 0 {
        args.push(("touched_by_loss", Arg::Number(1)));
    }
}

/// Hands out page faults of each thread.
pub(super) fn faults(trace: &Trace, add: &mut dyn FnMut(u32, Slice)) {
    for row in &trace.machine.faults {
        let (file, tensor) = place_of(trace, row);
        let mut args = vec![("count", Arg::Number(row.count.into()))];
        if row.major != NONE {
            args.push(("major", Arg::Number(row.major.into())));
        }
        if trace.machine.has_states {
            args.push(("wait_ns", Arg::Number(i64::try_from(row.wait).unwrap_or(i64::MAX))));
        }
        if row.unaddressed < row.count {
            args.push(("bytes", Arg::Number(i64::try_from(row.bytes).unwrap_or(i64::MAX))));
        }
        args.push(("file", Arg::Text(file.clone())));
        if !tensor.is_empty() {
            args.push(("tensor", Arg::Text(tensor.clone())));
        }
        lost(row.touched_by_loss, &mut args);
        let name = if tensor.is_empty() { file } else { tensor };
        add(row.tid, Slice { begin: row.begin, end: row.end.max(row.begin), name, args });
    }
}

/// Hands out reads with the number of a track of their thread: as many of them run at once, each
/// has the first one that is free.
pub(super) fn reads(trace: &Trace, add: &mut dyn FnMut(u32, u32, Slice)) {
    let mut busy: BTreeMap<u32, Vec<Nanos>> = BTreeMap::new();
    for row in &trace.machine.reads {
        let tracks = busy.entry(row.tid).or_default();
        let end = row.end.max(row.begin);
        let track = tracks.iter().position(|until| *until <= row.begin).unwrap_or(tracks.len());
        match tracks.get_mut(track) {
            Some(until) => *until = end,
            None => tracks.push(end),
        }
        let mut args =
            vec![("bytes", Arg::Number(row.bytes.into())), ("device", Arg::Text(device(row.device)))];
        lost(row.touched_by_loss, &mut args);
        let slice = Slice { begin: row.begin, end, name: "block read".to_owned(), args };
        add(track as u32, row.tid, slice);
    }
}
