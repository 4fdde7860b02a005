//! One file: its rows, the dictionaries that they need, and its bounds.

use super::disk::{Disk, Medium};
use super::held::Held;
use super::live::{Live, Totals};
use crate::record::experts::Selected;
use anyhow::Result;
use llmtrace_format::constants::NONE;
use llmtrace_format::counters::{OpCounter, ProcessSample, SystemSample};
use llmtrace_format::inference::InferenceRow;
use llmtrace_format::machine::MachineRow;
use llmtrace_format::meta::{Ending, Recording};
use llmtrace_format::offload::OffloadRow;
use llmtrace_format::summary::MAX_SUMMARY_BYTES;
use llmtrace_format::tables::{Decode, GraphSpan, LevelChange, Loss, Mark, Thread, Ubatch};
use llmtrace_format::{Header, Nanos, OpSpan, RawBlock, Writer};
use std::collections::HashSet;
use std::path::PathBuf;

/// Most bytes of a row in the file: the columns of the widest, uncompressed.
const ROW_BYTES: u64 = 160;
/// Most bytes of an expert in the file.
const EXPERT_BYTES: u64 = 32;
/// Most bytes of a block but for its rows: headers, its entry in the index.
const BLOCK_BYTES: u64 = 512;
/// Blocks that a flush may write, lanes apart.
const TABLES: u64 = 25;
/// Most bytes of a description of the recording, or of its ending.
const DESCRIPTION_BYTES: u64 = 64 << 10;
/// With less room than this a limited file is full.
const MIN_ROOM: u64 = 16 << 10;

/// A file being written.
pub(super) struct Segment<M: Medium> {
    pub(super) writer: Writer<Disk<M>>,
    pub(super) path: PathBuf,
    pub(super) begun: Totals,
    /// How far the recording had come when it was last written whole.
    written: Nanos,
    now: Nanos,
    held: Held,
    graphs: HashSet<u32>,
    threads: HashSet<u32>,
    lanes: HashSet<u32>,
    last_thread: u32,
    last_lane: u32,
    /// Lanes with counters.
    counted: HashSet<u32>,
    limit: Option<u64>,
    /// Most bytes that rows since the last flush will take, and those they may.
    pending: u64,
    room: u64,
}

/// What is left of a file that could not be written to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) bytes: u64,
    pub(super) until: Nanos,
    /// Whether it has a footer.
    pub(super) closed: bool,
}

impl<M: Medium> Segment<M> {
    /// Begins a file with everything that its rows may refer to. `limit` is how
    /// many bytes it may have in the end.
    pub(super) fn begin(
        medium: M,
        path: PathBuf,
        header: Header,
        live: &Live,
        limit: Option<u64>,
        begun: Totals,
    ) -> Result<Self> {
        let mut segment = Self {
            writer: Writer::new(Disk::new(medium, DESCRIPTION_BYTES), header)?,
            path,
            begun,
            written: begun.now,
            now: begun.now,
            held: Held::default(),
            graphs: HashSet::new(),
            threads: HashSet::new(),
            lanes: HashSet::new(),
            last_thread: NONE,
            last_lane: NONE,
            counted: HashSet::new(),
            limit,
            pending: 0,
            room: 0,
        };
        if limit.is_some() {
            segment.writer.leave_out_sums();
        }
        live.strings().for_each(|text| segment.string(text));
        if !live.recording.recorder_version.is_empty() {
            segment.writer.write_recording(&live.recording)?;
        }
        segment.flush()?;
        Ok(segment)
    }

    /// Whether it may end here without leaving out a reference.
    pub(super) fn is_quiet(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether a twentieth or less of its limit is left.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.room.saturating_sub(self.pending) < limit / 20)
    }

    /// Says how far the recording has come.
    pub(super) fn advance(&mut self, now: Nanos) {
        self.now = now;
    }

    /// Whether so many bytes more can be written; makes room by compressing what
    /// is pending.
    fn fits(&mut self, bytes: u64) -> Result<bool> {
        if self.limit.is_none() {
            return Ok(true);
        }
        if self.pending + bytes > self.room {
            self.flush()?;
            if self.room < MIN_ROOM || self.pending + bytes > self.room {
                return Ok(false);
            }
        }
        self.pending += bytes;
        Ok(true)
    }

    /// Whether a row of a small table fits; it would be written even after an
    /// error, since others may refer to it.
    fn row_fits(&mut self) -> Result<bool> {
        self.writer.sink_mut().reserve += ROW_BYTES;
        self.fits(ROW_BYTES)
    }

    /// Writes everything that is complete.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.writer.flush()?;
        self.written = self.now;
        let held = self.held.len() as u64 * ROW_BYTES;
        let closing = self.writer.closing_bytes() + DESCRIPTION_BYTES + held + TABLES * BLOCK_BYTES;
        self.writer.sink_mut().reserve = closing;
        let lanes = self.lanes.len() + self.counted.len();
        self.pending = (TABLES + lanes as u64) * BLOCK_BYTES;
        if let Some(limit) = self.limit {
            self.room = limit.saturating_sub(self.writer.bytes() + closing);
        }
        Ok(())
    }

    pub(super) fn string(&mut self, text: &str) {
        self.writer.string(text);
        self.pending += text.len() as u64 + 8;
    }

    pub(super) fn recording(&mut self, recording: &Recording) -> Result<bool> {
        Ok(self.fits(DESCRIPTION_BYTES)? && {
            self.writer.write_recording(recording)?;
            true
        })
    }

    pub(super) fn decode(&mut self, row: Decode) -> Result<bool> {
        Ok(self.row_fits()? && {
            self.held.decode(row.id).into_iter().for_each(|row| self.writer.push_ubatch(row));
            self.writer.push_decode(row);
            true
        })
    }

    pub(super) fn ubatch(&mut self, row: Ubatch) -> Result<bool> {
        Ok(self.row_fits()? && {
            let released = self.held.ubatch(row);
            released.ubatches.into_iter().for_each(|row| self.writer.push_ubatch(row));
            released.graph_spans.into_iter().for_each(|row| self.writer.push_graph_span(row));
            true
        })
    }

    /// Adds a graph span, and its graph when it is the first of it in this file.
    pub(super) fn graph_span(&mut self, row: GraphSpan, live: &Live) -> Result<bool> {
        if row.graph != NONE
            && let Some(graph) = live.graph(row.graph)
            && !self.graph(row.graph, &graph)?
        {
            return Ok(false);
        }
        Ok(self.row_fits()? && {
            self.writer.announce_graph_span(&row);
            if let Some(row) = self.held.graph_span(row) {
                self.writer.push_graph_span(row);
            }
            true
        })
    }

    /// Adds a graph unless it is there.
    pub(super) fn graph(&mut self, id: u32, graph: &RawBlock) -> Result<bool> {
        if self.graphs.contains(&id) {
            return Ok(true);
        }
        Ok(self.fits(graph.len() as u64 + BLOCK_BYTES)? && {
            self.writer.write_raw(graph)?;
            self.graphs.insert(id)
        })
    }

    /// Adds an op span, and its thread when it is the first of it in this file.
    pub(super) fn op_span(&mut self, lane: u32, span: OpSpan, live: &Live) -> Result<bool> {
        if !self.fits(ROW_BYTES)? || !self.knows_lane(lane)? || !self.knows_thread(span.thread, live)? {
            return Ok(false);
        }
        self.writer.push_op_span(lane, span)?;
        Ok(true)
    }

    fn knows_lane(&mut self, lane: u32) -> Result<bool> {
        if lane == self.last_lane || self.lanes.contains(&lane) {
            self.last_lane = lane;
            return Ok(true);
        }
        Ok(self.fits(MAX_SUMMARY_BYTES + BLOCK_BYTES)? && {
            self.writer.sink_mut().reserve += MAX_SUMMARY_BYTES + BLOCK_BYTES;
            self.lanes.insert(lane)
        })
    }

    fn knows_thread(&mut self, id: u32, live: &Live) -> Result<bool> {
        if id == self.last_thread {
            return Ok(true);
        }
        self.last_thread = id;
        match live.thread(id) {
            Some(row) => self.thread(row),
            None => Ok(true),
        }
    }

    /// Adds a thread unless it is there.
    pub(super) fn thread(&mut self, row: Thread) -> Result<bool> {
        if self.threads.contains(&row.id) {
            return Ok(true);
        }
        Ok(self.fits(ROW_BYTES)? && {
            self.writer.push_thread(row);
            self.threads.insert(row.id)
        })
    }

    /// Adds what was counted for an op span.
    pub(super) fn op_counter(&mut self, lane: u32, row: OpCounter) -> Result<bool> {
        let new = if self.counted.contains(&lane) { 0 } else { BLOCK_BYTES };
        Ok(self.fits(ROW_BYTES + new)? && {
            self.counted.insert(lane);
            self.writer.push_op_counter(lane, row)?;
            true
        })
    }

    pub(super) fn process_sample(&mut self, row: ProcessSample) -> Result<bool> {
        Ok(self.fits(ROW_BYTES)? && {
            self.writer.push_process_sample(row);
            true
        })
    }

    pub(super) fn system_sample(&mut self, row: SystemSample) -> Result<bool> {
        Ok(self.fits(ROW_BYTES)? && {
            self.writer.push_system_sample(row);
            true
        })
    }

    pub(super) fn selected(&mut self, selected: &Selected) -> Result<bool> {
        Ok(self.fits(ROW_BYTES + EXPERT_BYTES * selected.experts.len() as u64)? && {
            let Selected { selection, experts } = selected;
            self.writer.push_selection(*selection);
            experts.iter().try_for_each(|row| self.writer.push_expert(selection.time, *row))?;
            true
        })
    }

    /// Adds a row of what the scheduler gives to backends, and a split's graph.
    pub(super) fn offload(&mut self, row: OffloadRow, live: &Live) -> Result<bool> {
        if let OffloadRow::Split(split) = &row
            && split.graph != NONE
            && let Some(graph) = live.graph(split.graph)
            && !self.graph(split.graph, &graph)?
        {
            return Ok(false);
        }
        Ok(self.fits(ROW_BYTES)? && {
            self.writer.push_offload(row);
            true
        })
    }

    pub(super) fn machine(&mut self, row: MachineRow) -> Result<bool> {
        Ok(self.fits(ROW_BYTES)? && {
            self.writer.push_machine(row);
            true
        })
    }

    pub(super) fn loss(&mut self, row: Loss) -> Result<bool> {
        Ok(self.fits(ROW_BYTES)? && {
            self.writer.push_loss(row);
            true
        })
    }

    pub(super) fn inference(&mut self, row: InferenceRow) -> Result<bool> {
        Ok(self.row_fits()? && {
            self.writer.push_inference(row);
            true
        })
    }

    pub(super) fn level_change(&mut self, row: LevelChange) -> Result<bool> {
        Ok(self.fits(ROW_BYTES)? && {
            self.writer.push_level_change(row);
            true
        })
    }

    pub(super) fn mark(&mut self, row: Mark) -> Result<bool> {
        Ok(self.fits(ROW_BYTES)? && {
            self.writer.push_mark(row);
            true
        })
    }

    /// Ends the file.
    pub(super) fn close(&mut self, ending: &Ending) -> Result<()> {
        // Rows first, as long as room for the footer is kept.
        self.release();
        self.flush()?;
        self.writer.sink_mut().open_reserve();
        self.writer.close(ending)?;
        self.writer.sink_mut().trim();
        Ok(())
    }

    fn release(&mut self) {
        let released = self.held.release_all();
        released.ubatches.into_iter().for_each(|row| self.writer.push_ubatch(row));
        released.graph_spans.into_iter().for_each(|row| self.writer.push_graph_span(row));
    }

    /// Ends a file that could not be written: keeps all whole blocks, and closes
    /// it in the room that was set aside, if that is possible.
    pub(super) fn rescue(&mut self, ending: &Ending) -> Saved {
        let whole = self.writer.bytes();
        self.writer.discard();
        self.writer.leave_out_sums();
        // Nobody else takes the room that was set aside, as long as nothing is cut.
        let _ = self.writer.sink_mut().cut_part(whole);
        self.writer.sink_mut().open_reserve();
        self.release();
        let closed = self.writer.close(ending).is_ok();
        if closed {
            self.writer.sink_mut().trim();
        } else {
            let _ = self.writer.sink_mut().cut(whole);
        }
        Saved { bytes: if closed { self.writer.bytes() } else { whole }, until: self.written, closed }
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
