//! One recording: kernel side, assembler and writer, and what ties them.

use super::assemble::{Assembler, FinishedGraph, Rows};
use super::graphs::{GraphReader, RawGraph, RawTensor};
use super::kernel::{Kernel, RING_BYTES, Ring};
use super::memory::ProcessMemory;
use super::objects::Objects;
use super::plan::{self, Point, Program};
use super::sink::{Outputs, Sink, Totals};
use super::status::StatusLine;
use super::target::{Caller, Target, default_output};
use super::{Options, calibrate, host, maps};
use crate::binary::Learned;
use anyhow::{Context as _, Result, anyhow, bail};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{Ending, Graph, Level, Object, Probe, Recording, StrId, Tensor, TensorType};
use llmtrace_format::tables::{EVENT_KINDS, Loss};
use llmtrace_format::{Header, TimeRange};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

const FLUSH_EVERY: Duration = Duration::from_millis(900);
/// Until code that computes graphs is found, a launch looks often: the library
/// is loaded shortly before its first use.
const SCAN_OFTEN: Duration = Duration::from_millis(20);
const SCAN_SELDOM: Duration = Duration::from_millis(500);

pub(super) struct Session {
    start: u64,
    kernel: Kernel,
    ring: Ring,
    objects: Objects,
    points: Vec<(Point, String)>,
    graphs: GraphReader,
    assembler: Assembler,
    writer: Sink,
    recording: Recording,
    op_names: Vec<(StrId, Vec<StrId>)>,
    lost: [u64; EVENT_KINDS.len()],
    lost_checked: u64,
    learn_failure: Option<String>,
    exact_begins: bool,
    begins_attached: bool,
    described_models: bool,
    scanned: Instant,
    flushed: Instant,
    status: StatusLine,
}

/// What there is to say after a recording.
pub(super) struct Recorded {
    /// The file to look at.
    pub(super) path: Option<PathBuf>,
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Session {
    /// Loads, creates the file, and attaches to what is mapped already.
    pub(super) fn begin(options: &Options, caller: Caller, target: &Target) -> Result<Self> {
        let name = options.command.first().map(PathBuf::from);
        let name =
            name.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| target.exe_name());
        let mut kernel = Kernel::load(options.ring_bytes.unwrap_or(RING_BYTES))?;
        let mut objects = Objects::new(target.pid);
        objects.scan().with_context(|| format!("cannot look into process {}", target.pid))?;
        if !target.launched && objects.loaded.is_empty() {
            bail!(
                "process {} ({name}) has no ggml: none of its {} mapped files defines {}. \
                 If it loads its library later, record it from the start with `llmtrace record -- COMMAND`",
                target.pid,
                objects.seen(),
                plan::LOOKED_FOR,
            );
        }
        let path = options.output.clone().unwrap_or_else(|| default_output(&name));
        let outputs = Outputs::create(&options.long, path, caller)?;
        let start = monotonic_nanos()?;
        let unix =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
        let mut ring = kernel.ring()?;
        let costs = calibrate::run(&mut kernel, &mut ring).unwrap_or_else(|error| {
            log::warn!("the price of a probe is not known: {error:#}");
            Vec::new()
        });
        let mut recording = Recording {
            recorder_version: env!("CARGO_PKG_VERSION").to_owned(),
            level_asked: options.level,
            level: options.level,
            host: host::describe(),
            target: llmtrace_format::meta::Target {
                pid: target.pid,
                exe: name,
                launched: target.launched,
                ..Default::default()
            },
            costs,
            ..Recording::default()
        };
        let mut writer = Sink::begin(outputs, &options.long, Header::new(unix, start))
            .context("cannot write the output file")?;
        let mut points = Vec::new();
        attach(&mut kernel, &objects, 0, target.pid, options.level, &mut points)?;
        if !target.launched && points.is_empty() {
            bail!("no function of process {} can be probed; looked for {}", target.pid, plan::LOOKED_FOR);
        }
        recording.target.objects = described_objects(&objects);
        writer.write_recording(&recording)?;
        let mut session = Self {
            start,
            kernel,
            ring,
            objects,
            points,
            graphs: GraphReader::new(ProcessMemory::new(target.pid)),
            assembler: Assembler::new(start, target.pid),
            writer,
            recording,
            op_names: Vec::new(),
            lost: [0; EVENT_KINDS.len()],
            lost_checked: 0,
            learn_failure: None,
            exact_begins: options.exact_begins,
            begins_attached: true,
            described_models: false,
            scanned: Instant::now(),
            flushed: Instant::now(),
            status: StatusLine::new(options.quiet),
        };
        session.learn();
        session.points_changed()?;
        session.kernel.set_recording(Some(target.pid));
        Ok(session)
    }

    /// Takes what the kernel has, and writes what is complete. Returns whether
    /// more waits.
    pub(super) fn step(&mut self) -> Result<bool> {
        let computes = self.points.iter().any(|(point, _)| point.program == Program::GraphBegin);
        if self.scanned.elapsed() >= if computes { SCAN_SELDOM } else { SCAN_OFTEN } {
            self.scanned = Instant::now();
            self.rescan()?;
        }
        let more = self.drain()?;
        self.keep_begins_as_needed();
        if !self.described_models && self.assembler.counts.op_spans + self.assembler.counts.decode_tokens > 0
        {
            // By now everything is loaded: models, and the library that knows its version.
            self.described_models = true;
            self.relearn();
            self.points_changed()?;
        }
        let totals = self.totals()?;
        self.writer.tick(totals).context("cannot write the output file")?;
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.flushed = Instant::now();
            self.writer.flush().context("cannot write the output file")?;
        }
        self.status.update(&self.assembler.counts, totals.lost, || self.writer.status());
        Ok(more)
    }

    fn totals(&self) -> Result<Totals> {
        let counts = &self.assembler.counts;
        Ok(Totals {
            now: monotonic_nanos()?.saturating_sub(self.start),
            events: counts.events,
            lost: self.lost.iter().sum(),
            orphans: counts.orphans,
        })
    }

    /// Saves the last seconds, when they are kept.
    pub(super) fn save(&mut self, reason: &str) {
        self.writer.save(reason);
    }

    /// Why the recording should end by itself, once it should.
    pub(super) fn done(&self) -> Option<&'static str> {
        self.writer.done()
    }

    /// What there is to say meanwhile.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        let notes = self.writer.take_notes();
        if !notes.is_empty() {
            self.status.clear();
        }
        notes
    }

    fn drain(&mut self) -> Result<bool> {
        let Self { ring, assembler, graphs, .. } = self;
        let more = ring.drain(|event| assembler.handle(event, graphs));
        self.count_losses()?;
        for (id, raw) in std::mem::take(&mut self.graphs.fresh) {
            let graph = self.graph_from_raw(id, &raw);
            self.writer.write_graph(&graph).context("cannot write the output file")?;
        }
        let rows = std::mem::take(&mut self.assembler.rows);
        self.write(rows).context("cannot write the output file")?;
        Ok(more)
    }

    fn write(&mut self, rows: Rows) -> Result<()> {
        rows.threads.into_iter().for_each(|row| self.writer.push_thread(row));
        rows.decodes.into_iter().try_for_each(|row| self.writer.push_decode(row))?;
        rows.ubatches.into_iter().try_for_each(|row| self.writer.push_ubatch(row))?;
        for FinishedGraph { span, lanes } in rows.graphs {
            self.writer.push_graph_span(span)?;
            for (lane, spans) in lanes {
                spans.into_iter().try_for_each(|span| self.writer.push_op_span(lane, span))?;
            }
        }
        Ok(())
    }

    /// Attaches the begins of nodes when they are needed, and detaches them when
    /// arrivals at barriers tell enough.
    fn keep_begins_as_needed(&mut self) {
        let needed = self.exact_begins || self.assembler.sequences.begins_needed();
        if needed == self.begins_attached || self.recording.level < Level::Thread {
            return;
        }
        self.begins_attached = needed;
        let begins = [Program::OpBegin, Program::FusedBegin];
        if !needed {
            self.kernel.detach(&begins);
            return;
        }
        self.attach_again(&begins);
    }

    /// Attaches programs to all objects, once. A target that just exited cannot
    /// be attached to; its exit is noticed elsewhere.
    fn attach_again(&mut self, programs: &[Program]) {
        self.kernel.detach(programs);
        for loaded in &self.objects.loaded {
            let points = plan::points(&loaded.object, self.recording.level_asked);
            let points: Vec<Point> =
                points.into_iter().filter(|point| programs.contains(&point.program)).collect();
            if let Err(error) = self.kernel.attach(self.recording.target.pid, &loaded.object.path(), &points)
            {
                log::debug!("{error:#}");
            }
        }
    }

    fn count_losses(&mut self) -> Result<()> {
        let now = monotonic_nanos()?.saturating_sub(self.start);
        let lost = self.kernel.lost();
        let range = TimeRange::new(self.lost_checked, now);
        self.lost_checked = now;
        if lost == self.lost {
            return Ok(());
        }
        for (event, (after, before)) in lost.iter().zip(self.lost).enumerate() {
            let count = after.saturating_sub(before);
            if count > 0 {
                let (begin, end) = (range.begin, range.end);
                self.writer.push_loss(Loss { begin, end, event: event as u32, count, cpu: NONE })?;
            }
        }
        let of_calls = [Program::DecodeBegin, Program::DecodeEnd, Program::UbatchBegin, Program::UbatchEnd];
        if of_calls.iter().any(|program| lost.get(program.event()) != self.lost.get(program.event())) {
            self.assembler.forget_open_calls();
        }
        let of_graphs = [Program::GraphBegin, Program::GraphEnd];
        if of_graphs.iter().any(|program| lost.get(program.event()) != self.lost.get(program.event())) {
            self.assembler.forget_running_graphs();
        }
        self.lost = lost;
        self.assembler.sequences.distrust();
        self.assembler.mark_loss(range);
        Ok(())
    }

    /// Attaches to objects that were loaded since.
    fn rescan(&mut self) -> Result<()> {
        // A process that is going away cannot be read; its exit is noticed elsewhere.
        let Ok(first_new) = self.objects.scan() else { return Ok(()) };
        if first_new == self.objects.loaded.len() {
            return Ok(());
        }
        let (pid, level) = (self.recording.target.pid, self.recording.level_asked);
        // The recording goes on with what it has.
        if let Err(error) = attach(&mut self.kernel, &self.objects, first_new, pid, level, &mut self.points) {
            self.status.clear();
            log::warn!("{error:#}");
        }
        self.learn();
        self.points_changed()
    }

    fn learn(&mut self) {
        if self.graphs.learned.is_some() || !self.objects.has("ggml_op_name") {
            return;
        }
        let memory = ProcessMemory::new(self.recording.target.pid);
        match self.objects.learn(&memory) {
            Ok(learned) => {
                self.graphs.has_uid = self.objects.has("ggml_graph_next_uid");
                if self.learn_failure.is_some() {
                    // They were detached when nobody could name the nodes.
                    self.attach_again(&[Program::OpBegin, Program::FusedBegin, Program::Barrier]);
                    self.begins_attached = true;
                }
                self.take(learned);
            }
            Err(error) => self.learn_failure = Some(error.to_string()),
        }
    }

    /// Asks again for what was not loaded when the tables were.
    fn relearn(&mut self) {
        let memory = ProcessMemory::new(self.recording.target.pid);
        if let Ok(learned) = self.objects.learn(&memory) {
            self.recording.target.llama_version = learned.llama_version.unwrap_or_default();
        }
        self.recording.target.models = maps::models(self.recording.target.pid);
    }

    fn take(&mut self, learned: Learned) {
        self.learn_failure = None;
        let type_of = |known: &crate::binary::TypeInfo| TensorType {
            name: known.name.clone(),
            block_elements: known.block_size,
            block_bytes: known.type_size,
        };
        self.recording.types = learned.types.iter().map(type_of).collect();
        self.recording.target.ggml_version = learned.ggml_version.clone().unwrap_or_default();
        let variants = |op: usize| match op as u32 {
            op if Some(op) == learned.unary_op => &learned.unary[..],
            op if Some(op) == learned.glu_op => &learned.glu[..],
            _ => &[],
        };
        self.op_names = learned
            .ops
            .iter()
            .enumerate()
            .map(|(op, name)| {
                let variants = variants(op).iter().map(|name| self.writer.string(name)).collect();
                (self.writer.string(name), variants)
            })
            .collect();
        self.graphs.learned = Some(Rc::new(learned));
    }

    /// Brings the description of the recording up to date, and the level to
    /// what the probes and tables give.
    fn points_changed(&mut self) -> Result<()> {
        let points: Vec<Point> = self.points.iter().map(|(point, _)| point.clone()).collect();
        let (mut level, mut reason) = plan::level_given(self.recording.level_asked, &points);
        if let Some(failure) = &self.learn_failure
            && level > Level::Graph
        {
            level = Level::Graph;
            reason = format!("the target's operators cannot be named: {failure}");
            // Nobody could tell which node a begin belongs to.
            self.kernel.detach(&[Program::OpBegin, Program::FusedBegin, Program::Barrier]);
        }
        let ends = points.iter().any(|point| point.program == Program::UbatchEnd);
        let begins = points.iter().any(|point| point.program == Program::UbatchBegin);
        if begins && !ends {
            self.assembler.close_ubatches_with_decodes();
        }
        let in_loop = |point: &Point| point.program == Program::Barrier && point.symbol == plan::IN_LOOP;
        if points.iter().any(in_loop) {
            self.assembler.count_barriers();
        }
        self.recording.level = level;
        self.recording.level_reason = reason;
        self.recording.target.objects = described_objects(&self.objects);
        self.recording.probes =
            self.points.iter().map(|(point, object)| described_probe(point, object)).collect();
        self.writer.write_recording(&self.recording).context("cannot write the output file")
    }

    fn graph_from_raw(&mut self, id: u32, raw: &RawGraph) -> Graph {
        let mut tensor = |raw: &RawTensor| {
            let (op, variants) = self.op_names.get(raw.op as usize).cloned().unwrap_or_default();
            let variant = raw.op_params.first().and_then(|&index| variants.get(usize::try_from(index).ok()?));
            Tensor {
                name: self.writer.string(&raw.name),
                op,
                variant: variant.copied().unwrap_or_default(),
                tensor_type: raw.tensor_type,
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

    /// Detaches, takes what is left, and closes the file.
    pub(super) fn finish(mut self, reason: &str, exit_code: Option<i32>) -> Result<Recorded> {
        match self.close(reason, exit_code) {
            Ok(recorded) => Ok(recorded),
            Err(error) => Err(self.rescue(&error)),
        }
    }

    fn close(&mut self, reason: &str, exit_code: Option<i32>) -> Result<Recorded> {
        self.kernel.set_recording(None);
        self.kernel.detach_all();
        while self.drain()? {}
        self.assembler.finish();
        self.status.clear();
        let warnings = self.warnings();
        let ending = Ending { exit_code, ..self.ending(reason)? };
        let totals = self.totals()?;
        let written = self.writer.finish(&ending, totals).context("cannot write the output file")?;
        Ok(Recorded { path: written.path, notes: written.notes, warnings })
    }

    fn ending(&self, reason: &str) -> Result<Ending> {
        Ok(self.totals()?.ending(&Totals::default(), reason.to_owned()))
    }

    /// After an error: detaches at once, and keeps what is written. Returns the
    /// error, which says what was saved.
    pub(super) fn rescue(&mut self, error: &anyhow::Error) -> anyhow::Error {
        self.kernel.set_recording(None);
        self.kernel.detach_all();
        self.status.clear();
        // Errors of the format crate repeat what the system said.
        let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        causes.dedup();
        let error = causes.join(": ");
        let ending = self.ending(&error).unwrap_or_default();
        anyhow!("{error}; {}", self.writer.rescue(&ending))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.points.is_empty() {
            warnings.push(format!(
                "nothing was recorded: no file that the command mapped defines {}",
                plan::LOOKED_FOR
            ));
        } else if self.recording.level < self.recording.level_asked {
            let Recording { level, level_reason, .. } = &self.recording;
            warnings.push(format!("recorded at level {}: {level_reason}", level.name()));
        }
        log::debug!("counting against seeing: {:?}", self.assembler.sequences.compared);
        let uncounted = self.assembler.counts.uncounted_graphs;
        if uncounted > 0 {
            warnings.push(format!(
                "{uncounted} graphs have no operators: what they computed could not be told from arrivals at \
                 barriers; --exact-begins sees everything"
            ));
        }
        if !self.points.is_empty() && self.assembler.counts.events == 0 {
            warnings.push("no probe was hit: the process computed nothing meanwhile".to_owned());
        }
        let unknown = self.assembler.counts.unknown_graphs;
        if unknown > 0 && self.recording.level > Level::Graph {
            warnings.push(format!(
                "{unknown} graphs have no operators: their nodes could not be read or did not validate"
            ));
        }
        warnings
    }
}

fn attach(
    kernel: &mut Kernel,
    objects: &Objects,
    first: usize,
    pid: u32,
    level: Level,
    points: &mut Vec<(Point, String)>,
) -> Result<()> {
    for loaded in objects.loaded.iter().skip(first) {
        let found = plan::points(&loaded.object, level);
        kernel.attach(pid, &loaded.object.path(), &found)?;
        points.extend(found.into_iter().map(|point| (point, loaded.mapping.base_name())));
    }
    Ok(())
}

fn described_objects(objects: &Objects) -> Vec<Object> {
    let describe = |loaded: &super::objects::Loaded| Object {
        name: loaded.mapping.base_name(),
        build_id: loaded.object.build_id().unwrap_or_default().to_owned(),
        stripped: loaded.object.stripped(),
    };
    objects.loaded.iter().map(describe).collect()
}

fn described_probe(point: &Point, object: &str) -> Probe {
    Probe {
        purpose: point.program.purpose().to_owned(),
        symbol: point.symbol.clone(),
        object: object.to_owned(),
        offset: point.site.offset_in_function,
        instruction: point.site.instruction.clone(),
        emulated: point.site.emulated,
        on_return: point.program.on_return(),
    }
}

/// CPU time that we have used, in nanoseconds, and the most memory, in bytes.
pub(super) fn usage() -> Result<(u64, u64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("cannot ask for our own resource usage")?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let cpu = (micros(usage.user_time()) + micros(usage.system_time())) as u64 * 1000;
    Ok((cpu, usage.max_rss() as u64 * 1024))
}

fn monotonic_nanos() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read the clock")?;
    Ok(Duration::from(now).as_nanos() as u64)
}
