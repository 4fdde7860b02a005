//! One recording: kernel side, processes and writer, and what ties them.

use super::attach::Way;
use super::budget::{Budget, Prices, Setting};
use super::bulk::BulkRing;
use super::counters::Counters;
use super::family::{Family, Found};
use super::hits::Hits;
use super::kernel::{Attachment, Kernel, Wanted};
use super::machine::{Frequencies, Machine};
use super::objects::Objects;
use super::plan::{self, Program};
use super::process::{Common, NAP, Process, monotonic_nanos};
use super::rings::{Lost, Rings};
use super::rows::{Counts, Ids};
use super::sampler::Sampler;
use super::sink::{Outputs, Sink, Totals};
use super::status::StatusLine;
use super::target::{Caller, Target, default_output, no_ggml};
use super::{Options, calibrate, host, privileges};
use anyhow::{Context as _, Result, anyhow, bail};
use llmtrace_bpf::{Bulk, Event};
use llmtrace_format::machine::MachineRow;
use llmtrace_format::meta::{Ending, Level, Recording};
use llmtrace_format::tables::{EVENT_KINDS, LevelChange, Loss};
use llmtrace_format::{Header, TimeRange};
use nix::sys::resource::{UsageWho, getrusage};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// What a recorder that is killed may lack: half of the second that is promised, the rest is for a busy host.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
const WRITE: &str = "cannot write the output file";
/// Processes that can be told apart in one recording.
const MAX_PROCESSES: usize = 256;

pub(super) struct Session {
    common: Common,
    kernel: Kernel,
    rings: Rings,
    bulk: BulkRing,
    processes: Vec<Process>,
    family: Family,
    writer: Sink,
    recording: Recording,
    launched: bool,
    max_overhead: Option<f64>,
    machine: Machine,
    frequencies: Frequencies,
    lost: Lost,
    lost_checked: u64,
    flushed: Instant,
    status: StatusLine,
    /// Its events count as long as it is there.
    counters: Counters,
    sampler: Option<Sampler>,
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
    pub(super) fn begin(options: &Options, caller: Caller, targets: &[Target]) -> Result<Self> {
        let launched = targets.iter().any(|target| target.launched);
        // Takes seconds, which are no part of the recording.
        let ceilings = options.ceilings()?;
        let wanted = Wanted {
            sequences: options.sources.ubatches(),
            expert_weights: options.moe_weights,
            machine: options.machine,
        };
        let counters = options.counters.as_deref().map(Counters::choose).unwrap_or_default();
        counters.notes.iter().for_each(|note| log::warn!("{note}"));
        let mut kernel = Kernel::load(options.room, wanted, &counters)?;
        let sampler = options.samples.then(Sampler::new);
        let mut family = Family::default();
        let mut without = Vec::new();
        for target in targets {
            let mut objects = Objects::new(target.pid);
            objects.scan().with_context(|| format!("cannot look into process {}", target.pid))?;
            if !launched && !options.wait && objects.loaded.is_empty() {
                without.push((target, objects.seen(), objects.refused));
            } else {
                family.add(target.pid, 0, objects);
            }
        }
        // Of those with one name, some may be no engines.
        let accepted = if options.name.is_some() { targets.len() - 1 } else { 0 };
        if let Some((target, seen, refused)) = without.first().filter(|_| without.len() > accepted) {
            return Err(no_ggml(target, *seen, privileges::refusal(refused)));
        }
        let name = match options.command.first().map(PathBuf::from) {
            Some(command) => command.file_name().map(|name| name.to_string_lossy().into_owned()),
            None => targets.first().map(Target::exe_name),
        };
        let name = name.unwrap_or_default();
        let path = options.output.clone().unwrap_or_else(|| default_output(&name));
        let mut outputs = Outputs::create(&options.long, path, caller)?;
        let pending = outputs.take_pending();
        let start = monotonic_nanos();
        let unix =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
        let mut rings = kernel.rings()?;
        let mut bulk = kernel.bulk()?;
        let mut costs = calibrate::run(&mut kernel, &mut rings).unwrap_or_else(|error| {
            log::warn!("the price of a probe is not known, so that --max-overhead cannot be held: {error:#}");
            Vec::new()
        });
        costs.extend(calibrate::run_machine(&mut kernel, &mut rings).unwrap_or_else(|error| {
            log::warn!("the price of thread switches and page faults is not known: {error:#}");
            Vec::new()
        }));
        // What calibration lost is not the target's.
        rings.forget_losses();
        bulk.drain(u64::MAX, |_| ());
        kernel.attach_machine();
        let writer = Sink::begin(outputs, &options.long, Header::new(unix, start)).context(WRITE)?;
        let mut recording = Recording {
            recorder_version: env!("CARGO_PKG_VERSION").to_owned(),
            level_asked: options.level,
            level: options.level,
            host: host::describe(),
            costs,
            max_overhead_permille: options.max_overhead.map_or(0, |max| (max * 10.0).round() as u32),
            window: options.window,
            ceilings,
            counters: counters.described(),
            counters_missing: counters.missing.clone(),
            sampled: sampler.as_ref().map(Sampler::described).unwrap_or_default(),
            ..Recording::default()
        };
        recording.target.exe = name;
        recording.target.pid = targets.first().map_or(0, |target| target.pid);
        recording.target.launched = launched;
        let mut session = Self {
            common: Common {
                start,
                level: options.level,
                exact_begins: options.exact_begins,
                moe: options.moe,
                sources: options.sources,
                offload: options.offload,
                ids: Rc::new(Ids::default()),
            },
            kernel,
            rings,
            bulk,
            processes: Vec::new(),
            family,
            writer,
            recording,
            launched,
            max_overhead: options.max_overhead.map(|percent| percent / 100.0),
            machine: options.machine,
            frequencies: Frequencies::of_host(),
            lost: Lost::new(),
            lost_checked: 0,
            flushed: Instant::now(),
            status: StatusLine::new(options.quiet),
            counters,
            sampler,
        };
        if launched && host::initial_pids() {
            targets.iter().try_for_each(|target| session.kernel.follow(target.pid))?;
        }
        session.adopt(true)?;
        let probed = session.processes.iter().all(Process::has_points);
        if !launched && !options.wait && !probed {
            bail!("no function of the process can be probed; looked for {}", plan::LOOKED_FOR);
        }
        session.describe()?;
        if let Some(pending) = pending {
            pending.keep();
        }
        session.kernel.set_counting(true);
        session.kernel.set_recording(true);
        Ok(session)
    }

    /// How probes are attached on this kernel.
    pub(super) fn way(&self) -> Way {
        self.kernel.way()
    }

    /// Takes what the kernel has, and writes what is complete. Returns whether
    /// more waits.
    pub(super) fn step(&mut self) -> Result<bool> {
        self.adopt(false)?;
        let mut changed = false;
        for process in &mut self.processes {
            let Self { kernel, writer, recording, common, .. } = self;
            changed |= process.rescan(kernel, writer, recording, common).unwrap_or_else(|error| {
                // The recording goes on with what it has.
                self.status.clear();
                log::warn!("{error:#}");
                true
            });
        }
        let more = self.drain()?;
        let now = self.common.now();
        for process in &mut self.processes {
            if let Some((change, reason)) = process.adapt(&mut self.kernel, &self.common, now) {
                log::debug!("{reason}");
                let reason = self.writer.string(&reason).0;
                self.writer.push_level_change(LevelChange { reason, ..change }).context(WRITE)?;
            }
        }
        if changed {
            self.describe()?;
        }
        if let Some(sampler) = &mut self.sampler {
            sampler.sample(now, &self.processes, &mut self.writer).context(WRITE)?;
        }
        let totals = self.totals();
        self.writer.tick(totals).context(WRITE)?;
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.flushed = Instant::now();
            self.writer.flush().context(WRITE)?;
        }
        let counts = self.counts();
        self.status.update(&counts, totals.lost, || self.writer.status());
        Ok(more)
    }

    fn totals(&self) -> Totals {
        let Counts { events, orphans, .. } = self.counts();
        Totals { now: self.common.now(), events, lost: self.lost.iter().flatten().sum(), orphans }
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

    /// How long to wait before the next look.
    pub(super) fn nap(&self) -> Duration {
        let alive = self.processes.iter().filter(|process| !process.gone);
        alive.map(Process::nap).min().unwrap_or(NAP)
    }

    /// Whether a process that computes, or is about to, still lives.
    pub(super) fn alive(&self) -> bool {
        self.family.young() || self.processes.iter().any(|process| !process.gone)
    }

    /// Looks which processes have ended.
    pub(super) fn look(&mut self) {
        for process in &mut self.processes {
            if !process.gone && !Target::is_alive(process.to.pid) {
                process.gone = true;
                self.kernel.unfollow(process.to.pid);
                self.kernel.unwatch(process.to.pid);
            }
            if process.gone {
                self.kernel.detach_process(process.to.index);
            }
        }
        for pid in self.family.forget_ended() {
            self.kernel.unfollow(pid);
        }
    }

    /// Makes processes of those that have loaded ggml by now. One that cannot be
    /// attached to is an error only when nothing is recorded yet.
    fn adopt(&mut self, first: bool) -> Result<()> {
        for Found { pid, parent, objects } in self.family.scan() {
            let index = self.processes.len();
            if index >= MAX_PROCESSES {
                log::warn!("process {pid} is not recorded: {MAX_PROCESSES} are");
                continue;
            }
            let to = Attachment { pid, index: index as u8, same_ids: host::initial_pids() };
            let exe = Target { pid, launched: false }.exe_name();
            let mut process = Process::new(to, parent, exe, objects, self.budget(), &self.common);
            self.kernel.watch(to);
            if let Err(error) = process.attach(&mut self.kernel, &self.common) {
                if first && !process.has_points() {
                    return Err(error);
                }
                self.status.clear();
                log::warn!("{error:#}");
            }
            process.points_changed(&mut self.kernel, &mut self.writer, &mut self.recording, &self.common);
            // Until now, what came in was recorded or not.
            process.machine.begin(self.common.now(), self.kernel.machine().0);
            self.processes.push(process);
            self.describe()?;
        }
        Ok(())
    }

    fn budget(&self) -> Budget {
        let Recording { level_asked: level, window, costs, .. } = &self.recording;
        let asked = Setting { level: *level, window: (*window).max(1) };
        Budget::new(self.max_overhead, asked, Prices::of(costs))
    }

    fn drain(&mut self) -> Result<bool> {
        let now = monotonic_nanos();
        let Self { rings, bulk, processes, family, .. } = self;
        let more = rings.drain(now, |event| take(event, processes, family));
        bulk.drain(rings.passed(), |record| take_bulk(record, processes));
        let mut met = false;
        for process in &mut self.processes {
            met |= process.meet_backends(&mut self.kernel, &mut self.recording);
        }
        if met {
            self.describe()?;
        }
        for process in self.processes.iter_mut().filter(|process| process.replaced) {
            self.kernel.detach_process(process.to.index);
        }
        self.write()?;
        Ok(more)
    }

    /// Counts losses, and writes what is complete.
    fn write(&mut self) -> Result<()> {
        self.count_losses()?;
        let until = self.rings.passed().saturating_sub(self.common.start);
        for process in &mut self.processes {
            process.assembler.experts.settle(until);
            process.machine.settle(until);
            process.write(&mut self.writer, &self.common).context(WRITE)?;
        }
        self.write_machine()
    }

    /// Writes what the kernel did with threads and memory.
    fn write_machine(&mut self) -> Result<()> {
        let Self { processes, recording, writer, .. } = self;
        let mut found = false;
        let mut rows = Vec::new();
        for process in processes {
            let string = |text: &str| writer.string(text).0;
            found |= process.machine.take(recording, string, |row| rows.push(row));
        }
        if self.kernel.machine().0.sched {
            rows.extend(self.frequencies.sample(self.common.now()).into_iter().map(MachineRow::Frequency));
        }
        if found {
            self.describe()?;
        }
        rows.into_iter().try_for_each(|row| self.writer.push_machine(row)).context(WRITE)
    }

    fn count_losses(&mut self) -> Result<()> {
        let now = self.common.now();
        let lost = self.rings.lost();
        let range = TimeRange::new(self.lost_checked, now);
        self.lost_checked = now;
        self.lost.resize(lost.len(), [0; EVENT_KINDS.len()]);
        if lost == self.lost {
            return Ok(());
        }
        let mut kinds = Vec::new();
        for (cpu, (after, before)) in lost.iter().zip(&self.lost).enumerate() {
            for (event, (after, before)) in after.iter().zip(before).enumerate() {
                let count = after.saturating_sub(*before);
                if count > 0 {
                    let TimeRange { begin, end } = range;
                    let loss = Loss { begin, end, event: event as u32, count, cpu: cpu as u32 };
                    self.writer.push_loss(loss).context(WRITE)?;
                    kinds.push(event);
                }
            }
        }
        let any = |programs: &[Program]| programs.iter().any(|program| kinds.contains(&program.event()));
        let calls =
            any(&[Program::DecodeBegin, Program::DecodeEnd, Program::UbatchBegin, Program::UbatchEnd])
                || any(&[Program::CallBegin, Program::CallEnd, Program::CallReturns]);
        let graphs = any(&[Program::GraphBegin, Program::GraphEnd]);
        let experts = any(&[Program::ExpertsGathered]);
        for process in &mut self.processes {
            if experts {
                process.assembler.experts.lost(range);
            }
            process.machine.lost(range, &kinds);
            process.assembler.lost(range, calls, graphs);
        }
        self.lost = lost;
        Ok(())
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.processes.iter().for_each(|process| counts += process.assembler.counts);
        counts
    }

    /// Brings the description of the recording up to date.
    fn describe(&mut self) -> Result<()> {
        // An engine may first try its libraries in a child, which then computes nothing.
        let probed = self.processes.iter().rev().filter(|process| process.has_points());
        if let Some(main) = probed.max_by_key(|process| (process.computed(), process.level)) {
            self.recording.target = main.target(self.launched);
            self.recording.level = main.level;
            self.recording.level_reason = main.level_reason.clone();
            self.recording.experts = main.experts_given.to_owned();
        }
        self.recording.processes = self.processes.iter().map(Process::described).collect();
        self.recording.probes.clear();
        for probe in self.processes.iter().flat_map(Process::probes) {
            if !self.recording.probes.contains(&probe) {
                self.recording.probes.push(probe);
            }
        }
        let programs: Vec<Program> = self.processes.iter().flat_map(Process::programs).collect();
        self.recording.sources = self.common.sources.described(&programs, self.kernel.tells_sequences());
        let (given, refusal) = self.kernel.machine();
        self.recording.sources.extend(self.machine.described(given, refusal, self.frequencies.any()));
        self.writer.write_recording(&self.recording).context(WRITE)
    }

    /// Detaches, takes what is left, and closes the file.
    pub(super) fn finish(&mut self, reason: &str, exit_code: Option<i32>) -> Result<Recorded> {
        let end = self.common.now();
        self.kernel.set_recording(false);
        self.kernel.detach_all();
        let Self { rings, bulk, processes, family, .. } = self;
        rings.drain_all(|event| take(event, processes, family));
        bulk.drain(u64::MAX, |record| take_bulk(record, processes));
        self.processes.iter_mut().for_each(|process| process.machine.finish(end));
        self.write()?;
        let mut hits = Hits::default();
        for process in &mut self.processes {
            process.assembler.finish();
            hits.add(&process.assembler.hits);
        }
        self.status.clear();
        let warnings = self.warnings();
        let ending = Ending { exit_code, hits: hits.rows(), ..self.ending(reason) };
        let written = self.writer.finish(&ending, self.totals()).context(WRITE)?;
        Ok(Recorded { path: written.path, notes: written.notes, warnings })
    }

    fn ending(&self, reason: &str) -> Ending {
        self.totals().ending(&Totals::default(), reason.to_owned())
    }

    /// After an error: detaches at once, and keeps what is written. Returns the
    /// error, which says what was saved.
    pub(super) fn rescue(&mut self, error: &anyhow::Error) -> anyhow::Error {
        self.kernel.set_recording(false);
        self.kernel.detach_all();
        self.status.clear();
        // Errors of the format crate repeat what the system said.
        let mut causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        causes.dedup();
        let error = causes.join(": ");
        let ending = self.ending(&error);
        anyhow!("{error}; {}", self.writer.rescue(&ending))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let counts = self.counts();
        let probed = self.processes.iter().any(Process::has_points);
        if !probed {
            warnings.push(format!(
                "nothing was recorded: no file that the process mapped defines {}",
                plan::LOOKED_FOR
            ));
        }
        let computed = self.processes.iter().any(Process::computed);
        let told = |process: &&Process| process.has_points() && (process.computed() || !computed);
        for process in self.processes.iter().filter(told) {
            log::debug!("counting against seeing: {:?}", process.assembler.sequences.compared);
            if process.level < self.recording.level_asked {
                let of = if self.processes.len() > 1 {
                    format!("process {}: ", process.to.pid)
                } else {
                    String::new()
                };
                warnings.push(format!(
                    "{of}recorded at level {}: {}",
                    process.level.name(),
                    process.level_reason
                ));
                warnings.extend(privileges::refusal(process.refused()));
            }
        }
        let described = self.counters.described();
        let names: Vec<&str> = described.iter().map(|counter| counter.name.as_str()).collect();
        let of_ops = self.recording.level >= Level::Thread;
        if !names.is_empty() && !of_ops && computed {
            warnings.push(format!(
                "nothing was counted: counters are read where threads arrive at barriers, which takes level thread, \
                 not {}",
                self.recording.level.name()
            ));
        }
        for process in self.processes.iter().filter(|_| of_ops) {
            warnings.extend(process.counted.warnings(&names));
        }
        let (given, refusal) = self.kernel.machine();
        let Machine { sched, faults } = self.machine;
        let refused = [(sched && !given.sched, "thread states"), (faults && !given.faults, "page faults")];
        let refused: Vec<&str> = refused.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        if !refused.is_empty() {
            warnings.push(format!("{} were not recorded: {refusal}", refused.join(" and ")));
        }
        let uncounted = counts.uncounted_graphs;
        if uncounted > 0 {
            warnings.push(format!(
                "{uncounted} graphs have no operators: what they computed could not be told from arrivals at \
                 barriers; --exact-begins sees everything"
            ));
        }
        if probed && counts.events == 0 {
            warnings.push("no probe was hit: the process computed nothing meanwhile".to_owned());
        }
        let unknown = counts.unknown_graphs;
        if unknown > 0 && self.recording.level > Level::Graph {
            warnings.push(format!(
                "{unknown} graphs have no operators: their nodes could not be read or did not validate"
            ));
        }
        warnings
    }
}

/// Passes an event on to the process it is of.
fn take(event: &Event, processes: &mut [Process], family: &mut Family) {
    if let Event::Process(started) = event {
        // What a process had mapped before it became another program is gone.
        let replaced =
            |process: &&mut Process| process.to.pid == started.pid && started.pid == started.parent;
        for process in processes.iter_mut().filter(replaced) {
            (process.gone, process.replaced) = (true, true);
        }
        family.started(started.pid, started.parent);
    } else if let Some(process) = processes.get_mut(usize::from(event.head().process))
        && !process.replaced
    {
        process.handle(event);
    }
}

/// Passes a record of the bulk channel on to the process it is of.
fn take_bulk(record: &Bulk, processes: &mut [Process]) {
    if let Some(process) = processes.get_mut(usize::from(record.head().process))
        && !process.replaced
    {
        process.assembler.handle_bulk(record);
    }
}

/// Nanoseconds of CPU that we used, and the most bytes that we had resident.
pub(super) fn usage() -> Result<(u64, u64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("cannot ask for our own resource usage")?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let nanos = (micros(usage.user_time()) + micros(usage.system_time())) as u64 * 1000;
    Ok((nanos, usage.max_rss() as u64 * 1024))
}
