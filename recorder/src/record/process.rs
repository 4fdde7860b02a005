//! One recorded process: its objects, probes, tables and assembler.

mod adapt;
mod describe;

pub(super) use adapt::NAP;
use adapt::{BEGINS, GRAPHS, OPS};

use super::assemble::Assembler;
use super::backends::Backends;
use super::budget::{Budget, Window};
use super::counters::Watch;
use super::graphs::{GraphReader, MUL_MAT_ID, RawGraph, RawTensor};
use super::kernel::{Attachment, Kernel};
use super::machine::MachineEvents;
use super::maps::{self, Mapping};
use super::memory::ProcessMemory;
use super::objects::{Loaded, Objects};
use super::offload::Unnamed;
use super::plan::{self, Moe, Point, Program, Sources};
use super::rows::{FinishedGraph, Ids};
use super::sink::Sink;
use crate::binary::Learned;
use anyhow::Result;
use llmtrace_bpf::Event;
use llmtrace_format::Nanos;
use llmtrace_format::meta::{Graph, Level, Recording, StrId, Tensor, TensorType};
use llmtrace_format::offload::{Direction, OffloadRow};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Until code that computes graphs is found, objects are looked for often: a
/// library is loaded shortly before its first use.
const SCAN_OFTEN: Duration = Duration::from_millis(20);
const SCAN_SELDOM: Duration = Duration::from_millis(500);
/// How often an object is tried again that could not be attached to.
const ATTEMPTS: u32 = 3;

/// Graphs after which begins that are still seen are taken to stay.
const WARM_UP: u64 = 64;

const COPIES: &[Program] = &[Program::CopyBegin, Program::CopyEnd];

/// What all processes of a recording share.
pub(super) struct Common {
    /// `CLOCK_MONOTONIC` from which rows count.
    pub(super) start: u64,
    pub(super) level: Level,
    pub(super) exact_begins: bool,
    pub(super) moe: Moe,
    pub(super) sources: Sources,
    pub(super) offload: bool,
    pub(super) ids: Rc<Ids>,
}

impl Common {
    /// Trace time.
    pub(super) fn now(&self) -> Nanos {
        monotonic_nanos().saturating_sub(self.start)
    }
}

/// `CLOCK_MONOTONIC`, which the kernel side uses, too.
pub(super) fn monotonic_nanos() -> u64 {
    // It fails for clocks that do not exist.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_nanos() as u64)
}

pub(super) struct Process {
    pub(super) to: Attachment,
    pub(super) exe: String,
    /// The recorded process that started it; 0 when the user named it.
    pub(super) parent: u32,
    pub(super) gone: bool,
    /// Whether it became another program.
    pub(super) replaced: bool,
    pub(super) assembler: Assembler,
    /// How well counters were counted.
    pub(super) counted: Watch,
    pub(super) machine: MachineEvents,
    pub(super) graphs: GraphReader,
    pub(super) level: Level,
    pub(super) level_reason: String,
    /// How experts are recorded, or why they are not.
    pub(super) experts_given: &'static str,
    objects: Objects,
    backends: Backends,
    /// Of each object: the points that are not attached to, and how often that
    /// failed.
    missing: Vec<(Vec<Point>, u32)>,
    /// Each with its object's place in `objects`.
    points: Vec<(Point, usize)>,
    /// Why something could not be attached to.
    refusal: Option<String>,
    learn_failure: Option<String>,
    op_names: Vec<(StrId, Vec<StrId>)>,
    /// Where our types are in [`Recording::types`].
    types: Vec<u32>,
    versions: (String, String),
    models: Vec<String>,
    budget: Budget,
    window: Window,
    ops_attached: bool,
    begins_attached: bool,
    graphs_attached: bool,
    described_models: bool,
    graphs_done: u64,
    /// About how long the shorter graphs take, and when one ended.
    graph_nanos: u64,
    graph_ended: Instant,
    scanned: Instant,
}

impl Process {
    /// A process with objects that are worth probing, as far as they are loaded.
    pub(super) fn new(
        to: Attachment,
        parent: u32,
        exe: String,
        objects: Objects,
        budget: Budget,
        common: &Common,
    ) -> Self {
        Self {
            to,
            exe,
            parent,
            gone: false,
            replaced: false,
            assembler: Assembler::new(common.start, to.pid, to.index, common.ids.clone()),
            counted: Watch::default(),
            machine: MachineEvents::new(common.start, to.pid, to.index),
            graphs: GraphReader::new(ProcessMemory::new(to.pid), common.ids.clone()),
            level: common.level,
            level_reason: String::new(),
            experts_given: "",
            objects,
            backends: Backends::new(ProcessMemory::new(to.pid), to.index),
            missing: Vec::new(),
            points: Vec::new(),
            refusal: None,
            learn_failure: None,
            op_names: Vec::new(),
            types: Vec::new(),
            versions: Default::default(),
            models: Vec::new(),
            budget,
            window: Window::new(),
            ops_attached: true,
            begins_attached: true,
            graphs_attached: true,
            described_models: false,
            graphs_done: 0,
            graph_nanos: 0,
            graph_ended: Instant::now(),
            scanned: Instant::now(),
        }
    }

    /// Attaches to what is not attached to yet. Returns whether anything changed.
    ///
    /// # Errors
    /// When something cannot be attached to; the rest is, all the same.
    pub(super) fn attach(&mut self, kernel: &mut Kernel, common: &Common) -> Result<bool> {
        for loaded in self.objects.loaded.iter().skip(self.missing.len()) {
            let mut points = plan::points(&loaded.object, common.level, common.sources);
            if common.level >= Level::Graph {
                points.extend(plan::expert_points(&loaded.object, common.moe));
            }
            points.retain(|point| common.offload || !plan::is_offload(point.program));
            self.missing.push((points, 0));
        }
        let (mut changed, mut result) = (false, Ok(()));
        for (index, (loaded, (missing, failures))) in
            self.objects.loaded.iter().zip(&mut self.missing).enumerate()
        {
            if missing.is_empty() || *failures >= ATTEMPTS {
                continue;
            }
            // What is switched off now is attached when it is switched on.
            let off = |point: &Point| {
                OPS.contains(&point.program) && !self.ops_attached
                    || BEGINS.contains(&point.program) && !self.begins_attached
                    || GRAPHS.contains(&point.program) && !self.graphs_attached
            };
            let (later, wanted): (Vec<Point>, Vec<Point>) =
                std::mem::take(missing).into_iter().partition(off);
            changed |= !later.is_empty();
            self.points.extend(later.into_iter().map(|point| (point, index)));
            let (refused, attached) = kernel.attach(self.to, &loaded.object.path(), &wanted);
            changed |= refused.len() < wanted.len();
            let is_refused = |point: &Point| refused.iter().any(|other| other.program == point.program);
            let points = wanted.into_iter().filter(|point| !is_refused(point));
            self.points.extend(points.map(|point| (point, index)));
            *missing = refused;
            if let Err(error) = attached {
                *failures += 1;
                self.refusal = Some(format!("{error:#}"));
                // Once it was said, it need not be said again.
                if *failures == 1 {
                    result = Err(error);
                }
            }
        }
        result.map(|()| changed)
    }

    /// Takes one event. Events of a thread come in order.
    pub(super) fn handle(&mut self, event: &Event) {
        if self.machine.handle(event) {
            self.assembler.count(event.head().kind);
        } else {
            self.assembler.handle(event, &mut self.graphs);
        }
    }

    /// Mapped files that we may not open.
    pub(super) fn refused(&self) -> &[Mapping] {
        &self.objects.refused
    }

    /// Whether any probe is in place.
    pub(super) fn has_points(&self) -> bool {
        !self.points.is_empty()
    }

    /// Whether it did anything that was recorded.
    pub(super) fn computed(&self) -> bool {
        self.assembler.counts.events > 0
    }

    /// Looks for objects loaded since, from time to time. Returns whether the
    /// description of the recording changed, and what could not be attached to.
    pub(super) fn rescan(
        &mut self,
        kernel: &mut Kernel,
        writer: &mut Sink,
        recording: &mut Recording,
        common: &Common,
    ) -> Result<bool> {
        let computes = self.points.iter().any(|(point, _)| point.program == Program::GraphBegin);
        let every = if computes { SCAN_SELDOM } else { SCAN_OFTEN };
        let models_due = !self.described_models
            && self.assembler.counts.op_spans + self.assembler.counts.decode_tokens > 0;
        if models_due {
            // By now everything is loaded: models, and the library that knows its version.
            self.described_models = true;
            self.describe_models();
        }
        if self.gone || self.scanned.elapsed() < every {
            return Ok(models_due);
        }
        self.scanned = Instant::now();
        // A process that is going away cannot be read; its exit is noticed elsewhere.
        if self.objects.scan().is_err() {
            return Ok(models_due);
        }
        let attached = self.attach(kernel, common);
        let changed = !matches!(attached, Ok(false));
        if changed {
            self.points_changed(kernel, writer, recording, common);
        }
        attached.map(|_| changed || models_due)
    }

    /// Learns the target's tables once they are loaded, and brings the level to
    /// what probes and tables give.
    pub(super) fn points_changed(
        &mut self,
        kernel: &mut Kernel,
        writer: &mut Sink,
        recording: &mut Recording,
        common: &Common,
    ) {
        self.learn(kernel, writer, recording);
        if self.graphs.memory_offset.is_none() {
            self.graphs.memory_offset = self.objects.memory_offset();
        }
        let points: Vec<Point> = self.points.iter().map(|(point, _)| point.clone()).collect();
        let (mut level, mut reason) = plan::level_given(common.level, &points);
        if let Some(refusal) = self.refusal.as_ref().filter(|_| level < common.level) {
            reason = refusal.clone();
        }
        if let Some(failure) = &self.learn_failure
            && level > Level::Graph
        {
            level = Level::Graph;
            reason = format!("the target's operators cannot be named: {failure}");
            // Nobody could tell which node a begin belongs to.
            kernel.detach(self.to.index, OPS);
        }
        let has = |program| points.iter().any(|point| point.program == program);
        if has(Program::UbatchBegin) && !has(Program::UbatchEnd) {
            self.assembler.close_ubatches_with_decodes();
        }
        let in_loop = |point: &Point| point.program == Program::Barrier && point.symbol == plan::IN_LOOP;
        if points.iter().any(in_loop) {
            self.assembler.count_barriers();
        }
        let of_ops = points.iter().filter(|point| OPS.contains(&point.program));
        self.budget.set_stepped(of_ops.into_iter().any(|point| !point.site.emulated));
        self.experts_given = plan::experts_given(common.moe, &points);
        self.assembler.experts.wanted = common.moe != Moe::Off;
        self.level = level;
        self.level_reason = reason;
    }

    fn learn(&mut self, kernel: &mut Kernel, writer: &mut Sink, recording: &mut Recording) {
        if self.graphs.learned.is_some() || !self.objects.has("ggml_op_name") {
            return;
        }
        match self.objects.learn(&ProcessMemory::new(self.to.pid)) {
            Ok(learned) => {
                self.graphs.has_uid = self.objects.has("ggml_graph_next_uid");
                if !learned.tensor.is_newest() {
                    // The kernel side would read other fields.
                    kernel.detach(self.to.index, COPIES);
                    self.points.retain(|(point, _)| !COPIES.contains(&point.program));
                }
                if self.learn_failure.take().is_some() {
                    // They were detached when nobody could name the nodes.
                    self.switch(kernel, OPS, self.ops_attached);
                    self.begins_attached = self.ops_attached;
                }
                if let Some(op) = learned.op(MUL_MAT_ID)
                    && let Err(error) = kernel.set_expert_op(self.to.index, op)
                {
                    log::warn!("{error:#}");
                }
                self.take(learned, writer, recording);
            }
            Err(error) => self.learn_failure = Some(error.to_string()),
        }
    }

    /// Looks at backends that became known, and attaches to their functions. Returns whether
    /// the description of the recording changed.
    pub(super) fn meet_backends(&mut self, kernel: &mut Kernel, recording: &mut Recording) -> bool {
        if self.assembler.offload.told.is_empty() || self.gone {
            return false;
        }
        // Until the tables are known, the scheduler tells nothing.
        let Some(learned) = self.graphs.learned.clone() else {
            self.assembler.offload.forget_told();
            return false;
        };
        let told = std::mem::take(&mut self.assembler.offload.told);
        let first = recording.backends.len() as u32;
        let mut found = self.backends.meet(&told, &learned, &self.objects, first);
        let there = |new: &(Point, usize)| {
            let mut points = self.points.iter();
            points.any(|(old, object)| {
                (old.program, old.file_offset, *object) == (new.0.program, new.0.file_offset, new.1)
            })
        };
        found.points.retain(|point| !there(point));
        if !learned.tensor.is_newest() {
            found.points.retain(|(point, _)| !COPIES.contains(&point.program));
        }
        let mut by_object: BTreeMap<usize, Vec<Point>> = BTreeMap::new();
        for (point, index) in &found.points {
            by_object.entry(*index).or_default().push(point.clone());
        }
        for (index, points) in by_object.into_iter().filter(|_| self.graphs_attached) {
            let Some(loaded) = self.objects.loaded.get(index) else { continue };
            if let (_, Err(error)) = kernel.attach(self.to, &loaded.object.path(), &points) {
                log::warn!("{error:#}");
            }
        }
        self.points.extend(found.points);
        let changed = !found.backends.is_empty();
        recording.backends.extend(found.backends);
        changed
    }

    /// Says what the addresses in a row stand for; `None` for what cannot be read in this build.
    fn named(&mut self, unnamed: Unnamed, writer: &mut Sink) -> Option<OffloadRow> {
        let mut row = unnamed.row;
        match &mut row {
            OffloadRow::Run(_) => {}
            OffloadRow::Split(split) => split.backend = self.backends.index(unnamed.backend),
            OffloadRow::Sync(sync) => sync.backend = self.backends.index(unnamed.backend),
            OffloadRow::Copy(copy) => {
                let learned = self.graphs.learned.clone().filter(|learned| learned.tensor.is_newest())?;
                let [source, target] =
                    unnamed.ends.map(|end| self.backends.memory_of(end, Some(&learned), &self.objects));
                copy.direction = Direction::between(source.is_host, target.is_host) as u8;
                copy.source = self.backends.of_memory(&source);
                copy.target = self.backends.of_memory(&target);
                copy.source_memory = writer.string(&source.name).0;
                copy.target_memory = writer.string(&target.name).0;
                copy.tensor = writer.string(&unnamed.tensor).0;
            }
        }
        Some(row)
    }

    fn take(&mut self, learned: Learned, writer: &mut Sink, recording: &mut Recording) {
        let place = |known: &crate::binary::TypeInfo| {
            let known = TensorType {
                name: known.name.clone(),
                block_elements: known.block_size,
                block_bytes: known.type_size,
            };
            // Two processes need not be of the same build.
            let found = recording.types.iter().position(|other| *other == known);
            found.unwrap_or_else(|| {
                recording.types.push(known);
                recording.types.len() - 1
            }) as u32
        };
        self.types = learned.types.iter().map(place).collect();
        self.versions.0 = learned.ggml_version.clone().unwrap_or_default();
        let variants = |op: usize| match op as u32 {
            op if Some(op) == learned.unary_op => &learned.unary[..],
            op if Some(op) == learned.glu_op => &learned.glu[..],
            _ => &[],
        };
        let names = |(op, name): (usize, &String)| {
            let variants = variants(op).iter().map(|name| writer.string(name)).collect();
            (writer.string(name), variants)
        };
        self.op_names = learned.ops.iter().enumerate().map(names).collect();
        self.graphs.learned = Some(Rc::new(learned));
    }

    fn describe_models(&mut self) {
        if let Ok(learned) = self.objects.learn(&ProcessMemory::new(self.to.pid)) {
            self.versions.1 = learned.llama_version.unwrap_or_default();
        }
        self.models = maps::models(self.to.pid);
    }

    /// Writes what is complete.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(super) fn write(&mut self, writer: &mut Sink, common: &Common) -> Result<()> {
        for (id, raw) in std::mem::take(&mut self.graphs.fresh) {
            let graph = self.graph_from_raw(writer, id, &raw);
            writer.write_graph(&graph)?;
        }
        let selected = std::mem::take(&mut self.assembler.experts.rows);
        let rows = std::mem::take(&mut self.assembler.rows);
        rows.threads.into_iter().for_each(|row| writer.push_thread(row));
        rows.decodes.into_iter().try_for_each(|row| writer.push_decode(row))?;
        rows.ubatches.into_iter().try_for_each(|row| writer.push_ubatch(row))?;
        let inference = &mut self.assembler.inference;
        self.assembler.counts.orphans += std::mem::take(&mut inference.orphans);
        std::mem::take(&mut inference.rows).into_iter().try_for_each(|row| writer.push_inference(row))?;
        // Of no graph in particular, and of one that runs for long there is none yet.
        let threads = rows.graphs.iter().map(|graph| graph.span.threads).max();
        if let Some(threads) = threads {
            self.budget.observe_machine(self.machine.take_seldom(), threads as usize);
        }
        for FinishedGraph { span, lanes, counters } in rows.graphs {
            let with_ops = lanes.iter().any(|(_, spans)| !spans.is_empty());
            // While begins are seen to learn the order, hits are twice what they will be.
            let settled = span.inferred_begins != 0 || common.exact_begins || self.graphs_done >= WARM_UP;
            if settled || !with_ops {
                self.budget.observe(
                    span.end.saturating_sub(span.begin),
                    span.probe_hits.saturating_sub(2),
                    with_ops,
                );
            }
            self.graphs_done += 1;
            self.graph_ended = Instant::now();
            // Short ones count at once, long ones as they last.
            let nanos = span.end.saturating_sub(span.begin);
            self.graph_nanos = nanos.min(self.graph_nanos + nanos / 8);
            writer.push_graph_span(span)?;
            let mut counters = counters.into_iter();
            for (lane, spans) in lanes {
                let mut counters = counters.next().unwrap_or_default().into_iter();
                for span in spans {
                    writer.push_op_span(lane, span)?;
                    // In the same file as its op span.
                    if let Some(row) = counters.next() {
                        self.counted.row(&row);
                        writer.push_op_counter(lane, row)?;
                    }
                }
            }
        }
        selected.iter().try_for_each(|selected| writer.push_selected(selected))?;
        for unnamed in std::mem::take(&mut self.assembler.offload.rows) {
            if let Some(row) = self.named(unnamed, writer) {
                writer.push_offload(row)?;
            }
        }
        Ok(())
    }

    fn graph_from_raw(&self, writer: &mut Sink, id: u32, raw: &RawGraph) -> Graph {
        let mut tensor = |raw: &RawTensor| {
            let (op, variants) = self.op_names.get(raw.op as usize).cloned().unwrap_or_default();
            let variant = raw.op_params.first().and_then(|&index| variants.get(usize::try_from(index).ok()?));
            Tensor {
                name: writer.string(&raw.name),
                op,
                variant: variant.copied().unwrap_or_default(),
                tensor_type: self.types.get(raw.tensor_type as usize).copied().unwrap_or(raw.tensor_type),
                ne: raw.ne,
                nb: raw.nb,
                flags: raw.flags,
                op_params: raw.op_params,
                sources: raw.sources.clone(),
                view_of: raw.view_of,
                view_offset: raw.view_offset,
            }
        };
        Graph { id, tensors: raw.tensors.iter().map(&mut tensor).collect(), nodes: raw.nodes }
    }
}
