//! A second or less of a recording, in memory, ready to be written into a file.

use super::disk::Medium;
use super::live::{Live, Totals};
use super::segment::Segment;
use crate::record::experts::Selected;
use anyhow::Result;
use llmtrace_format::constants::NONE;
use llmtrace_format::counters::{OpCounter, ProcessSample, SystemSample};
use llmtrace_format::inference::InferenceRow;
use llmtrace_format::machine::MachineRow;
use llmtrace_format::offload::OffloadRow;
use llmtrace_format::tables::{
    Decode, Expert, GraphSpan, LevelChange, Loss, Mark, Selection, Thread, Ubatch,
};
use llmtrace_format::{OpSpan, RawBlock};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

/// Rows as they come; op spans are compressed when the chunk is sealed. A graph
/// span and its op spans are in the same chunk.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) begun: Totals,
    pub(super) sealed: Totals,
    pub(super) decodes: Vec<Decode>,
    pub(super) ubatches: Vec<Ubatch>,
    pub(super) graph_spans: Vec<GraphSpan>,
    pub(super) losses: Vec<Loss>,
    pub(super) level_changes: Vec<LevelChange>,
    pub(super) marks: Vec<Mark>,
    selections: Vec<Selection>,
    /// Those of the selections, in their order.
    experts: Vec<Expert>,
    pub(super) inference: Vec<InferenceRow>,
    pub(super) offload: Vec<OffloadRow>,
    pub(super) op_counters: Vec<(u32, OpCounter)>,
    pub(super) process_samples: Vec<ProcessSample>,
    pub(super) system_samples: Vec<SystemSample>,
    pub(super) machine: Vec<MachineRow>,
    threads: Vec<Thread>,
    graphs: BTreeMap<u32, Rc<RawBlock>>,
    blocks: Vec<RawBlock>,
}

impl Chunk {
    pub(super) fn new(begun: Totals) -> Self {
        Self { begun, ..Self::default() }
    }

    pub(super) fn selected(&mut self, selected: &Selected) {
        self.selections.push(selected.selection);
        self.experts.extend(&selected.experts);
    }

    /// Compresses the op spans, and remembers what the rows refer to.
    pub(super) fn seal(
        &mut self,
        lanes: &mut BTreeMap<u32, Vec<OpSpan>>,
        sealed: Totals,
        live: &Live,
    ) -> Result<()> {
        self.sealed = sealed;
        let mut threads = BTreeSet::new();
        for (&lane, spans) in lanes.iter_mut().filter(|(_, spans)| !spans.is_empty()) {
            threads.extend(spans.iter().map(|span| span.thread));
            self.blocks.push(RawBlock::op_spans(lane, spans)?);
            spans.clear();
        }
        self.threads = threads.into_iter().filter_map(|id| live.thread(id)).collect();
        let of_splits = self.offload.iter().filter_map(|row| match row {
            OffloadRow::Split(split) => Some(split.graph),
            _ => None,
        });
        let graphs = self.graph_spans.iter().map(|row| row.graph).chain(of_splits);
        self.graphs = graphs.filter_map(|id| Some((id, live.graph(id)?))).collect();
        Ok(())
    }

    /// Bytes that it takes; graphs are shared with other chunks.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().map(RawBlock::len).sum::<usize>()
            + size_of_val(&self.decodes[..])
            + size_of_val(&self.ubatches[..])
            + size_of_val(&self.graph_spans[..])
            + size_of_val(&self.losses[..])
            + size_of_val(&self.level_changes[..])
            + size_of_val(&self.marks[..])
            + size_of_val(&self.selections[..])
            + size_of_val(&self.experts[..])
            + size_of_val(&self.inference[..])
            + size_of_val(&self.offload[..])
            + size_of_val(&self.op_counters[..])
            + size_of_val(&self.process_samples[..])
            + size_of_val(&self.system_samples[..])
            + size_of_val(&self.machine[..])
            + size_of_val(&self.threads[..])
    }

    /// Writes it. A reference to a row that is in no chunk is left out.
    pub(super) fn write<M: Medium>(&self, segment: &mut Segment<M>, there: &There) -> Result<()> {
        let writer = &mut segment.writer;
        self.decodes.iter().for_each(|row| writer.push_decode(*row));
        for row in &self.ubatches {
            let decode = if there.decodes.contains(&row.decode) { row.decode } else { NONE };
            writer.push_ubatch(Ubatch { decode, ..*row });
        }
        self.losses.iter().for_each(|row| writer.push_loss(*row));
        self.level_changes.iter().for_each(|row| writer.push_level_change(*row));
        self.marks.iter().for_each(|row| writer.push_mark(*row));
        let mut experts = self.experts.iter().peekable();
        for row in &self.selections {
            writer.push_selection(*row);
            while let Some(expert) = experts.next_if(|expert| expert.selection == row.id) {
                writer.push_expert(row.time, *expert)?;
            }
        }
        self.inference.iter().for_each(|row| writer.push_inference(*row));
        self.offload.iter().for_each(|row| writer.push_offload(*row));
        self.process_samples.iter().for_each(|row| writer.push_process_sample(*row));
        self.system_samples.iter().for_each(|row| writer.push_system_sample(*row));
        self.machine.iter().for_each(|row| writer.push_machine(*row));
        for (&id, graph) in &self.graphs {
            segment.graph(id, graph)?;
        }
        for row in &self.graph_spans {
            let ubatch = if there.ubatches.contains(&row.ubatch) { row.ubatch } else { NONE };
            segment.writer.push_graph_span(GraphSpan { ubatch, ..*row });
        }
        for row in &self.threads {
            segment.thread(*row)?;
        }
        for block in &self.blocks {
            segment.writer.write_raw(block)?;
        }
        for (lane, row) in &self.op_counters {
            segment.writer.push_op_counter(*lane, *row)?;
        }
        Ok(())
    }
}

/// Rows that are in some chunk.
#[derive(Default)]
pub(super) struct There {
    decodes: HashSet<u32>,
    ubatches: HashSet<u32>,
}

impl There {
    pub(super) fn new<'a>(chunks: impl Iterator<Item = &'a Rc<Chunk>>) -> Self {
        let mut there = Self::default();
        for chunk in chunks {
            there.decodes.extend(chunk.decodes.iter().map(|row| row.id));
            there.ubatches.extend(chunk.ubatches.iter().map(|row| row.id));
        }
        there
    }
}
