//! Recording into one file, or into one after the other.

use super::Outputs;
use super::live::{Live, Totals};
use super::long::{Long, Rotate};
use super::segment::{Saved, Segment};
use anyhow::Result;
use llmtrace_format::counters::OpCounter;
use llmtrace_format::meta::Ending;
use llmtrace_format::tables::{GraphSpan, LevelChange};
use llmtrace_format::{Header, Nanos, OpSpan};
use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;

/// How long a file may go on for a moment in which no call is open.
const PATIENCE: Nanos = 2_000_000_000;

pub(super) struct Files {
    header: Header,
    outputs: Outputs,
    pub(super) segment: Segment<File>,
    rotate: Option<Rotate>,
    keep: Option<u32>,
    limit: Option<u64>,
    number: u32,
    /// Whole files before the current one, oldest first.
    earlier: VecDeque<PathBuf>,
    removed: u32,
    /// Since when a new file is due.
    due: Option<Nanos>,
    pub(super) totals: Totals,
    /// The graph span that op spans come for.
    current: Option<GraphSpan>,
    /// Whether the only file has reached its limit.
    pub(super) full: bool,
}

impl Files {
    pub(super) fn begin(mut outputs: Outputs, long: &Long, header: Header, live: &Live) -> Result<Self> {
        let (path, file) = outputs.first()?;
        let limit = match long.rotate {
            Some(Rotate::Bytes(bytes)) => Some(bytes),
            _ => long.max_size,
        };
        Ok(Self {
            header,
            outputs,
            segment: Segment::begin(file, path, header, live, limit, Totals::default())?,
            rotate: long.rotate,
            keep: long.keep,
            limit,
            number: 1,
            earlier: VecDeque::new(),
            removed: 0,
            due: None,
            totals: Totals::default(),
            current: None,
            full: false,
        })
    }

    /// Whether dictionaries are needed again.
    pub(super) fn rotates(&self) -> bool {
        self.rotate.is_some()
    }

    /// Adds rows to the current file; when they do not fit, to the next.
    pub(super) fn put(
        &mut self,
        live: &Live,
        mut push: impl FnMut(&mut Segment<File>) -> Result<bool>,
    ) -> Result<()> {
        if self.full || push(&mut self.segment)? {
            return Ok(());
        }
        if self.rotates() {
            self.next(live)?;
            push(&mut self.segment)?;
        } else {
            self.full = true;
        }
        Ok(())
    }

    pub(super) fn graph_span(&mut self, row: GraphSpan, live: &mut Live) -> Result<()> {
        self.put(live, |segment| segment.graph_span(row, live))?;
        self.current = Some(row);
        if !self.rotates() {
            live.forget_graph(row.graph);
        }
        Ok(())
    }

    pub(super) fn op_span(&mut self, lane: u32, span: OpSpan, live: &Live) -> Result<()> {
        if self.full || self.segment.op_span(lane, span, live)? {
            return Ok(());
        }
        if !self.rotates() {
            self.full = true;
            return Ok(());
        }
        // In the middle of a graph: its row goes to both files.
        self.next(live)?;
        if let Some(row) = self.current.filter(|row| row.id == span.graph_span) {
            self.segment.graph_span(row, live)?;
        }
        self.segment.op_span(lane, span, live)?;
        Ok(())
    }

    /// Adds what was counted for the op span before.
    pub(super) fn op_counter(&mut self, lane: u32, row: OpCounter, live: &Live) -> Result<()> {
        if self.full || self.segment.op_counter(lane, row)? {
            return Ok(());
        }
        if !self.rotates() {
            self.full = true;
            return Ok(());
        }
        self.next(live)?;
        if let Some(of) = self.current.filter(|of| of.id == row.graph_span) {
            self.segment.graph_span(of, live)?;
        }
        self.segment.op_counter(lane, row)?;
        Ok(())
    }

    /// Begins a new file when it is time and no call is open, or none has been
    /// closed for too long.
    pub(super) fn tick(&mut self, totals: Totals, live: &Live) -> Result<()> {
        self.totals = totals;
        self.segment.advance(totals.now);
        let due = match self.rotate {
            Some(Rotate::Every(every)) => {
                u128::from(totals.now.saturating_sub(self.segment.begun.now)) >= every.as_nanos()
            }
            Some(Rotate::Bytes(_)) => self.segment.is_nearly_full(),
            None => false,
        };
        if !due {
            return Ok(());
        }
        let since = *self.due.get_or_insert(totals.now);
        if self.segment.is_quiet() || totals.now.saturating_sub(since) > PATIENCE {
            self.next(live)?;
        }
        Ok(())
    }

    fn next(&mut self, live: &Live) -> Result<()> {
        self.due = None;
        let (path, file) = self.outputs.numbered(self.number + 1, 4)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.segment.close(&self.totals.ending(&self.segment.begun, format!("continued in {name}")))?;
        let mut next = Segment::begin(file, path, self.header, live, self.limit, self.totals)?;
        for row in live.levels.values() {
            // It holds from before this file; the file begins where it begins.
            next.level_change(LevelChange { time: row.time.max(self.totals.now), ..*row })?;
        }
        self.number += 1;
        self.earlier.push_back(std::mem::replace(&mut self.segment, next).path);
        while self.keep.is_some_and(|keep| self.earlier.len() as u32 >= keep) {
            let Some(oldest) = self.earlier.pop_front() else { break };
            self.removed += 1;
            if let Err(error) = self.outputs.remove(&oldest) {
                log::warn!("cannot remove an old file: {error}: {}", oldest.display());
            }
        }
        Ok(())
    }

    pub(super) fn status(&self) -> String {
        let size = format!("{:.1} MB", self.segment.writer.bytes() as f64 / 1e6);
        if self.rotates() { format!("file {}, {size}", self.number) } else { size }
    }

    pub(super) fn close(&mut self, ending: &Ending) -> Result<()> {
        let begun = self.segment.begun;
        self.segment.close(&Ending {
            events: ending.events.saturating_sub(begun.events),
            lost: ending.lost.saturating_sub(begun.lost),
            orphans: ending.orphans.saturating_sub(begun.orphans),
            ..ending.clone()
        })
    }

    pub(super) fn rescue(&mut self, ending: &Ending) -> Saved {
        self.segment.rescue(ending)
    }

    /// What there is to say at the end.
    pub(super) fn notes(&self) -> Vec<String> {
        if !self.rotates() {
            return Vec::new();
        }
        let first = self.earlier.front().unwrap_or(&self.segment.path);
        let removed = match self.removed {
            0 => String::new(),
            removed => format!("; {removed} older removed"),
        };
        let files = self.earlier.len() + 1;
        let last = self.segment.path.display();
        vec![format!("{files} files, {} to {last}{removed}; the last:", first.display())]
    }
}
