//! The last seconds of a recording, in bounded memory, and files made of them.
//!
//! ```text
//!             seal, each second or less            token too slow, SIGUSR1
//!  rows ─► open chunk ─► chunk chunk chunk chunk ─────────► Waiting ─► Dump ─► NAME-1.llmtrace
//!                        └─ too old, or too many bytes: dropped   (tail)
//! ```

use super::Outputs;
use super::chunk::{Chunk, There};
use super::live::{Live, Totals};
use super::segment::{Saved, Segment};
use super::watch::Watch;
use anyhow::Result;
use llmtrace_format::meta::Ending;
use llmtrace_format::tables::{Decode, GraphSpan, LevelChange, Mark, Ubatch};
use llmtrace_format::{Header, Nanos, OpSpan};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;

/// Most bytes of sealed chunks.
pub(super) const MAX_BYTES: usize = 256_000_000;
/// Op spans not yet compressed, over all lanes: 12 MB.
const MAX_OPEN_ROWS: usize = 1 << 18;
/// What is saved after a trigger.
const TAIL: Nanos = 1_000_000_000;
/// Chunks whose small tables are written together.
const CHUNKS_PER_FLUSH: usize = 16;

pub(super) struct Ring {
    header: Header,
    outputs: Outputs,
    length: Nanos,
    max_bytes: usize,
    chunks: VecDeque<Rc<Chunk>>,
    bytes: usize,
    pub(super) open: Chunk,
    lanes: BTreeMap<u32, Vec<OpSpan>>,
    lane_ends: HashMap<u32, Nanos>,
    open_rows: usize,
    /// Up to when chunks were dropped although they were not too old.
    dropped: Nanos,
    /// Level of each process where the oldest chunk begins.
    levels: BTreeMap<u32, LevelChange>,
    totals: Totals,
    watch: Watch,
    /// The file that gets the last seconds when the recording ends.
    last: Option<Segment<File>>,
    waiting: Option<Waiting>,
    dump: Option<Dump>,
    saves: u32,
    max_saves: u32,
    notes: Vec<String>,
    saved: Option<PathBuf>,
}

/// A save whose tail is still being recorded.
struct Waiting {
    until: Nanos,
    reason: String,
    part: Part,
}

/// Part of the recording that becomes a file.
struct Part {
    chunks: VecDeque<Rc<Chunk>>,
    levels: BTreeMap<u32, LevelChange>,
    /// What was dropped for want of memory, in words.
    short: Option<String>,
}

/// A file being made, a chunk at a time, so that the kernel's ring is drained
/// meanwhile.
struct Dump {
    segment: Segment<File>,
    part: Part,
    there: There,
    ending: Ending,
    chunks: usize,
}

impl Ring {
    pub(super) fn begin(
        mut outputs: Outputs,
        length: Nanos,
        threshold: Option<Nanos>,
        max_saves: u32,
        header: Header,
        live: &Live,
    ) -> Result<Self> {
        let (path, file) = outputs.first()?;
        Ok(Self {
            header,
            outputs,
            length,
            max_bytes: MAX_BYTES,
            chunks: VecDeque::new(),
            bytes: 0,
            open: Chunk::default(),
            lanes: BTreeMap::new(),
            lane_ends: HashMap::new(),
            open_rows: 0,
            dropped: 0,
            levels: BTreeMap::new(),
            totals: Totals::default(),
            watch: Watch::new(threshold),
            last: Some(Segment::begin(file, path, header, live, None, Totals::default())?),
            waiting: None,
            dump: None,
            saves: 0,
            max_saves,
            notes: Vec::new(),
            saved: None,
        })
    }

    pub(super) fn decode(&mut self, row: Decode) {
        self.watch.decode(row);
        self.open.decodes.push(row);
    }

    pub(super) fn ubatch(&mut self, row: Ubatch) {
        self.watch.ubatch(row);
        self.open.ubatches.push(row);
    }

    pub(super) fn graph_span(&mut self, row: GraphSpan, live: &Live) -> Result<()> {
        if self.open_rows >= MAX_OPEN_ROWS {
            self.seal(live)?;
        }
        self.open.graph_spans.push(row);
        Ok(())
    }

    pub(super) fn op_span(&mut self, lane: u32, span: OpSpan) {
        let end = self.lane_ends.entry(lane).or_default();
        let span = OpSpan { begin: span.begin.max(*end), ..span };
        *end = span.end();
        self.lanes.entry(lane).or_default().push(span);
        self.open_rows += 1;
    }

    /// Compresses what came since, and drops what is too old or too much.
    pub(super) fn seal(&mut self, live: &Live) -> Result<()> {
        let mut chunk = std::mem::replace(&mut self.open, Chunk::new(self.totals));
        chunk.seal(&mut self.lanes, self.totals, live)?;
        self.open_rows = 0;
        let chunk = Rc::new(chunk);
        if let Some(waiting) = &mut self.waiting {
            waiting.part.chunks.push_back(chunk.clone());
        }
        self.bytes += chunk.bytes();
        self.chunks.push_back(chunk);
        while let Some(oldest) = self.chunks.front() {
            let is_old = oldest.sealed.now.saturating_add(self.length) < self.totals.now;
            if !is_old {
                if self.bytes <= self.max_bytes || self.chunks.len() == 1 {
                    break;
                }
                self.dropped = oldest.sealed.now;
            }
            self.bytes -= oldest.bytes();
            self.levels.extend(oldest.level_changes.iter().map(|row| (row.process, *row)));
            self.chunks.pop_front();
        }
        Ok(())
    }

    /// Looks for slow tokens, and writes a piece of what is being saved.
    pub(super) fn tick(&mut self, totals: Totals, live: &mut Live) -> Result<()> {
        self.totals = totals;
        for slow in self.watch.slow() {
            let label = live.string(&slow.label).0.0;
            self.open.marks.push(Mark { time: slow.begin, label });
            self.trigger(slow.end, slow.label);
        }
        if self.waiting.as_ref().is_some_and(|waiting| totals.now >= waiting.until) {
            self.seal(live)?;
            self.begin_save(live)?;
        }
        self.step(live)
    }

    /// Saves what is kept, and what comes within a second, unless that is being
    /// done already.
    pub(super) fn trigger(&mut self, time: Nanos, reason: String) {
        if self.waiting.is_none() && self.saves < self.max_saves {
            let part = self.part(time);
            self.waiting = Some(Waiting { until: time.saturating_add(TAIL), reason, part });
        }
    }

    /// Saves because somebody asked.
    pub(super) fn trigger_now(&mut self, reason: &str, live: &mut Live) {
        let (time, label) = (self.totals.now, live.string(reason).0.0);
        self.open.marks.push(Mark { time, label });
        self.trigger(time, reason.to_owned());
    }

    /// What is kept now, to be saved as the seconds before `end`.
    fn part(&self, end: Nanos) -> Part {
        let from = end.saturating_sub(self.length);
        let mut levels = self.levels.clone();
        let old = self.chunks.iter().take_while(|chunk| chunk.sealed.now < from);
        levels.extend(old.flat_map(|chunk| &chunk.level_changes).map(|row| (row.process, *row)));
        let chunks: VecDeque<_> =
            self.chunks.iter().skip_while(|chunk| chunk.sealed.now < from).cloned().collect();
        let oldest = chunks.front().map_or(self.totals.now, |chunk| chunk.begun.now);
        let held = end.saturating_sub(oldest) as f64 / 1e9;
        let is_short = self.dropped > from;
        let short = is_short.then(|| format!("of which {} MB held {held:.1} s", self.max_bytes / 1_000_000));
        Part { chunks, levels, short }
    }

    fn reason(&self, why: &str, part: &Part) -> String {
        let short = part.short.as_ref().map_or_else(String::new, |short| format!(", {short}"));
        format!("{why}; ring of {} s{short}", self.length as f64 / 1e9)
    }

    fn begin_save(&mut self, live: &mut Live) -> Result<()> {
        let Some(Waiting { reason, part, .. }) = self.waiting.take() else { return Ok(()) };
        while self.dump.is_some() {
            self.step(live)?;
        }
        self.saves += 1;
        let (path, file) = self.outputs.numbered(self.saves, 1)?;
        let begun = part.chunks.front().map_or(self.totals, |chunk| chunk.begun);
        let ending = self.totals.ending(&begun, self.reason(&reason, &part));
        self.notes.push(format!("saving {}: {reason}", path.display()));
        let segment = Segment::begin(file, path, self.header, live, None, begun)?;
        self.dump = Some(Dump::new(segment, part, ending, live));
        Ok(())
    }

    /// Writes one chunk of what is being saved.
    fn step(&mut self, live: &Live) -> Result<()> {
        let Some(dump) = &mut self.dump else { return Ok(()) };
        if dump.step(live)? {
            self.saved = Some(dump.segment.path.clone());
            self.dump = None;
        }
        Ok(())
    }

    /// Whether as much was saved as was asked for.
    pub(super) fn is_done(&self) -> bool {
        self.saves >= self.max_saves && self.dump.is_none()
    }

    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    pub(super) fn status(&self) -> String {
        let oldest = self.chunks.front().map_or(self.totals.now, |chunk| chunk.begun.now);
        let secs = self.totals.now.saturating_sub(oldest) as f64 / 1e9;
        format!("ring {secs:.0} s, {:.1} MB, {} saved", self.bytes as f64 / 1e6, self.saves)
    }

    /// Finishes what is being saved, and writes the last seconds, unless the
    /// recording ended because enough was saved. Returns the file to look at.
    pub(super) fn close(&mut self, ending: &Ending, live: &mut Live) -> Result<Option<PathBuf>> {
        self.seal(live)?;
        self.begin_save(live)?;
        while self.dump.is_some() {
            self.step(live)?;
        }
        let Some(segment) = self.last.take() else { return Ok(self.saved.clone()) };
        if self.is_done() && ending.reason == super::TRIGGERS {
            let path = segment.path.clone();
            drop(segment);
            self.outputs.remove(&path)?;
            return Ok(self.saved.clone());
        }
        let part = self.part(self.totals.now);
        let begun = part.chunks.front().map_or(self.totals, |chunk| chunk.begun);
        let ending = Ending {
            reason: self.reason(&ending.reason, &part),
            events: ending.events.saturating_sub(begun.events),
            lost: ending.lost.saturating_sub(begun.lost),
            orphans: ending.orphans.saturating_sub(begun.orphans),
            ..ending.clone()
        };
        if let Some(short) = &part.short {
            self.notes.push(format!("warning: ring of {} s, {short}", self.length as f64 / 1e9));
        }
        self.dump = Some(Dump::new(segment, part, ending, live));
        while self.dump.is_some() {
            self.step(live)?;
        }
        Ok(self.saved.clone())
    }

    /// Keeps what was written of the file that could not be.
    pub(super) fn rescue(&mut self, ending: &Ending) -> Option<(PathBuf, Saved)> {
        let saved = self.dump.take().map(|mut dump| {
            let reason = format!("{}; {}", dump.ending.reason, ending.reason);
            let saved = dump.segment.rescue(&Ending { reason, ..dump.ending });
            (dump.segment.path, saved)
        });
        if let Some(last) = self.last.take() {
            // It has no rows; a name without a recording would puzzle.
            let _ = self.outputs.remove(&last.path);
        }
        saved
    }
}

impl Dump {
    fn new(mut segment: Segment<File>, part: Part, ending: Ending, live: &mut Live) -> Self {
        let short = part.short.as_ref().map(|short| live.string(&format!("begins late: {short}")).0);
        live.strings().for_each(|text| segment.string(text));
        segment.writer.remember_graph_spans();
        let begun = part.chunks.front().map_or(0, |chunk| chunk.begun.now);
        if let Some(label) = short {
            segment.writer.push_mark(Mark { time: begun, label: label.0 });
        }
        for row in part.levels.values() {
            segment.writer.push_level_change(LevelChange { time: row.time.max(begun), ..*row });
        }
        let there = There::new(part.chunks.iter());
        Self { segment, part, there, ending, chunks: 0 }
    }

    /// Writes one chunk, or the end; returns whether it is done.
    fn step(&mut self, live: &Live) -> Result<bool> {
        let Some(chunk) = self.part.chunks.pop_front() else {
            self.segment.recording(&live.recording)?;
            self.segment.close(&self.ending)?;
            return Ok(true);
        };
        self.segment.advance(chunk.sealed.now);
        chunk.write(&mut self.segment, &self.there)?;
        self.chunks += 1;
        if self.chunks.is_multiple_of(CHUNKS_PER_FLUSH) {
            self.segment.flush()?;
        }
        Ok(false)
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
