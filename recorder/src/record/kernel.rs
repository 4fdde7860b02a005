//! The kernel side: loads the BPF object, attaches and detaches.

use super::attach::{self, Way};
use super::bulk::{BulkRing, ring_bytes as bulk_bytes};
use super::counters::Counters;
use super::host;
use super::machine::Machine;
use super::plan::{Point, Program};
use super::rings::{Rings, slots_shift};
use anyhow::{Context as _, Result};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{Link, MapCore as _, MapFlags, OpenObject, ProgramMut, num_possible_cpus};
use llmtrace_bpf::{LlmtraceSkel, LlmtraceSkelBuilder};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread::JoinHandle;

/// Programs loaded for one recording.
pub(super) struct Kernel {
    // Links go first: no probe outlives the programs.
    links: Vec<Attached>,
    /// Links that are being removed: the kernel waits tens of milliseconds until no
    /// handler runs any more, in which graphs would come and go unread.
    leaving: Vec<JoinHandle<()>>,
    following: Vec<Link>,
    /// Tells the counts of threads apart that share a CPU.
    switching: Option<Link>,
    /// Programs of the kernel's tracepoints, which see all processes.
    machine: Vec<Link>,
    machine_given: Machine,
    machine_refusal: String,
    skel: LlmtraceSkel<'static>,
    way: Way,
    cpus: usize,
    shift: u32,
    /// Whether the begin of an ubatch tells its sequences.
    sequences: bool,
    /// Whether anything is counted.
    counts: bool,
}

struct Attached {
    process: u8,
    program: Program,
    _links: Vec<Link>,
}

/// A process that probes are attached to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attachment {
    /// Its id, as we see it.
    pub(super) pid: u32,
    /// Our number of it, which its events carry.
    pub(super) index: u8,
    /// Whether ids mean the same to us and to the kernel side, which is so outside
    /// of containers. If not, only the kernel's own filter of the probe holds.
    pub(super) same_ids: bool,
}

impl Attachment {
    fn cookie(self) -> u64 {
        let pid = if self.same_ids { u64::from(self.pid) } else { 0 };
        pid << 32 | u64::from(self.index) << 8
    }
}

impl Kernel {
    /// Loads the programs; they record nothing yet.
    pub(super) fn load(room: Room, wanted: Wanted, counters: &Counters) -> Result<Self> {
        let sequences = wanted.sequences && host::knows_loops();
        let cpus = num_possible_cpus().context("cannot count CPUs")?;
        let shift = slots_shift(cpus, room.rings);
        let bulk = bulk_bytes(room.bulk);
        let load = |machine: Machine| {
            let wanted = Wanted { sequences, machine, ..wanted };
            let sizes = Sizes { cpus, shift, bulk, wanted, counters };
            attach::load(|way| skeleton(&sizes, way), |skel| &skel.progs.nothing)
        };
        let (mut machine_given, mut machine_refusal) = (wanted.machine, String::new());
        let (way, skel) = match load(machine_given) {
            Err(error) if wanted.machine.any() => {
                // A kernel without these tracepoints records the rest.
                machine_given = Machine::default();
                let loaded = load(machine_given)?;
                machine_refusal = format!("the kernel refuses the programs: {error:#}");
                loaded
            }
            loaded => loaded?,
        };
        let mut kernel = Self {
            links: Vec::new(),
            leaving: Vec::new(),
            following: Vec::new(),
            machine: Vec::new(),
            machine_given,
            machine_refusal,
            skel,
            way,
            cpus,
            shift,
            sequences,
            counts: counters.len() > 0,
            switching: None,
        };
        kernel.count_events(counters)?;
        Ok(kernel)
    }

    /// Gives the kernel side the events that are open, and has it add them up by thread.
    fn count_events(&mut self, counters: &Counters) -> Result<()> {
        let what = "cannot hand an event over to the kernel side";
        for (counter, cpu, event) in counters.events().filter(|(_, cpu, _)| *cpu < self.cpus) {
            let key = ((counter * self.cpus + cpu) as u32).to_ne_bytes();
            let fd = event.as_raw_fd().to_ne_bytes();
            self.skel.maps.counter_events.update(&key, &fd, MapFlags::ANY).context(what)?;
        }
        if counters.events().next().is_some() {
            let link = self.skel.progs.counter_switch.attach().context("cannot see threads change CPUs")?;
            self.switching = Some(link);
        }
        Ok(())
    }

    /// Whether anything can be counted.
    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    /// Lets the probes of operators count, or not.
    pub(super) fn set_counting(&mut self, counting: bool) {
        if let Some(bss) = self.skel.maps.bss_data.as_mut() {
            bss.counting = (counting && self.counts).into();
        }
    }

    /// Attaches the programs that see what the kernel does with threads and memory; nothing is
    /// recorded yet. What cannot be had is left out, and said. Once they are attached it does nothing.
    pub(super) fn attach_machine(&mut self) {
        if !self.machine_given.any() || !self.machine.is_empty() {
            return;
        }
        if !host::initial_pids() {
            self.machine_given = Machine::default();
            "processes have other numbers in the kernel than in this container"
                .clone_into(&mut self.machine_refusal);
            return;
        }
        let Machine { sched, faults } = self.machine_given;
        let programs = &mut self.skel.progs;
        let wanted = [
            (sched, &mut programs.machine_switch),
            (sched, &mut programs.machine_waking),
            (true, &mut programs.machine_exit),
            (faults, &mut programs.machine_fault_user),
            (faults, &mut programs.machine_fault_kernel),
            (faults, &mut programs.machine_read_asked),
            (faults, &mut programs.machine_read_done),
            (faults, &mut programs.machine_request_done),
        ];
        for (wanted, program) in wanted {
            if !wanted {
                continue;
            }
            match program.attach() {
                Ok(link) => self.machine.push(link),
                Err(error) => {
                    self.machine.clear();
                    self.machine_given = Machine::default();
                    self.machine_refusal = format!("the kernel refuses the programs: {error}");
                    return;
                }
            }
        }
    }

    /// What of it is recorded, and why the rest is not.
    pub(super) fn machine(&self) -> (Machine, &str) {
        (self.machine_given, &self.machine_refusal)
    }

    /// Records what the kernel does with a process.
    pub(super) fn watch(&self, to: Attachment) {
        if self.machine_given.any() {
            let (key, value) = (to.pid.to_ne_bytes(), u32::from(to.index).to_ne_bytes());
            if let Err(error) = self.skel.maps.watched.update(&key, &value, MapFlags::ANY) {
                log::warn!("threads and faults of process {} are not recorded: {error}", to.pid);
            }
        }
    }

    /// Forgets a process that ended.
    pub(super) fn unwatch(&self, pid: u32) {
        let _ = self.skel.maps.watched.delete(&pid.to_ne_bytes());
    }

    /// Whether ubatches tell their sequences.
    pub(super) fn tells_sequences(&self) -> bool {
        self.sequences
    }

    /// How programs are attached on this kernel.
    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// The consumer's end of the rings.
    pub(super) fn rings(&self) -> Result<Rings> {
        Rings::new(&self.skel.maps.shards, &self.skel.maps.slots, self.cpus, self.shift)
    }

    /// The consumer's end of the bulk channel.
    pub(super) fn bulk(&self) -> Result<BulkRing> {
        BulkRing::new(&self.skel.maps.bulk)
    }

    /// Tells the kernel side which number `MUL_MAT_ID` has in a process.
    pub(super) fn set_expert_op(&self, process: u8, op: u32) -> Result<()> {
        let key = u32::from(process).to_ne_bytes();
        let updated = self.skel.maps.expert_ops.update(&key, &op.to_ne_bytes(), MapFlags::ANY);
        updated.context("cannot tell the kernel side the number of an operator")
    }

    /// Attaches to points of one file, in one process. Those of a program that
    /// cannot be attached come back; the error is the first one's.
    pub(super) fn attach(
        &mut self,
        to: Attachment,
        file: &Path,
        points: &[Point],
    ) -> (Vec<Point>, Result<()>) {
        // Nothing is to be seen by an old probe and a new one.
        self.wait_for_leaving();
        let mut by_program: BTreeMap<Program, Vec<&Point>> = BTreeMap::new();
        for point in points {
            by_program.entry(point.program).or_default().push(point);
        }
        let (mut refused, mut result) = (Vec::new(), Ok(()));
        // Ends before begins, and barriers before ops: nothing is seen to begin
        // whose end would be missed.
        for (program, points) in by_program.into_iter().rev() {
            let way = self.way;
            match way.attach(self.program(program), to.pid, file, &points, to.cookie(), program.on_return()) {
                Ok(links) => self.links.push(Attached { process: to.index, program, _links: links }),
                Err(error) => {
                    let symbols: Vec<&str> = points.iter().map(|point| point.symbol.as_str()).collect();
                    let what = format!("cannot attach {} to {}", program.purpose(), symbols.join(", "));
                    result = result.and(Err(anyhow::Error::new(error).context(what)));
                    refused.extend(points.into_iter().cloned());
                }
            }
        }
        (refused, result)
    }

    /// Reports processes that `pid` starts, and those that these start.
    pub(super) fn follow(&mut self, pid: u32) -> Result<()> {
        let what = "cannot follow the processes that the command starts";
        self.skel
            .maps
            .followed
            .update(&pid.to_ne_bytes(), &1u32.to_ne_bytes(), MapFlags::ANY)
            .context(what)?;
        if self.following.is_empty() {
            let programs = &mut self.skel.progs;
            self.following.push(programs.process_fork.attach().context(what)?);
            self.following.push(programs.process_exec.attach().context(what)?);
        }
        Ok(())
    }

    /// Forgets a process that ended.
    pub(super) fn unfollow(&mut self, pid: u32) {
        // It is not there when nobody was followed.
        let _ = self.skel.maps.followed.delete(&pid.to_ne_bytes());
    }

    /// Lets the probes record, or not.
    pub(super) fn set_recording(&mut self, recording: bool) {
        if let Some(bss) = self.skel.maps.bss_data.as_mut() {
            bss.recording = recording.into();
        }
    }

    /// Removes all probes.
    pub(super) fn detach_all(&mut self) {
        self.following.clear();
        self.machine.clear();
        self.links.clear();
        self.wait_for_leaving();
    }

    /// Removes the probes of some programs from a process, soon.
    pub(super) fn detach(&mut self, process: u8, programs: &[Program]) {
        self.remove(|link| link.process == process && programs.contains(&link.program));
    }

    /// Removes all probes of a process, soon.
    pub(super) fn detach_process(&mut self, process: u8) {
        self.remove(|link| link.process == process);
    }

    fn remove(&mut self, is_meant: impl Fn(&Attached) -> bool) {
        let (leaving, staying) = std::mem::take(&mut self.links).into_iter().partition(is_meant);
        self.links = staying;
        let leaving: Vec<Attached> = leaving;
        if !leaving.is_empty() {
            self.leaving.push(std::thread::spawn(move || drop(leaving)));
        }
    }

    fn wait_for_leaving(&mut self) {
        for thread in self.leaving.drain(..) {
            // It only closes descriptors.
            let _ = thread.join();
        }
    }

    fn program(&mut self, program: Program) -> &mut ProgramMut<'static> {
        let programs = &mut self.skel.progs;
        match program {
            Program::DecodeBegin => &mut programs.decode_begin,
            Program::DecodeEnd => &mut programs.decode_end,
            Program::UbatchBegin if self.sequences => &mut programs.ubatch_sequences,
            Program::UbatchBegin => &mut programs.ubatch_begin,
            Program::UbatchEnd => &mut programs.ubatch_end,
            Program::GraphBegin => &mut programs.graph_begin,
            Program::GraphEnd => &mut programs.graph_end,
            Program::OpBegin => &mut programs.op_begin,
            Program::FusedBegin => &mut programs.fused_begin,
            Program::Barrier => &mut programs.barrier_arrive,
            Program::ExpertsGathered => &mut programs.experts_gathered,
            Program::ExpertsBegin => &mut programs.experts_begin,
            Program::KvOperation => &mut programs.kv_operation,
            Program::CallBegin => &mut programs.call_begin,
            Program::CallEnd => &mut programs.call_end,
            Program::CallReturns => &mut programs.call_returns,
            Program::DraftAccepted => &mut programs.draft_accepted,
            Program::SchedulerBegin => &mut programs.scheduler_begin,
            Program::SchedulerEnd => &mut programs.scheduler_end,
            Program::Backends => &mut programs.backends_told,
            Program::SplitBegin => &mut programs.split_begin,
            Program::SplitEnd => &mut programs.split_end,
            Program::CopyBegin => &mut programs.copy_begin,
            Program::CopyEnd => &mut programs.copy_end,
            Program::WaitBegin => &mut programs.wait_begin,
            Program::WaitEnd => &mut programs.wait_end,
            Program::ReadRehearsed => &mut programs.read_rehearsed,
            Program::Nothing => &mut programs.nothing,
        }
    }
}

/// Bytes between kernel and recorder, where tests want less than is good.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// Of all rings together.
    pub(crate) rings: Option<u64>,
    /// Of the bulk channel.
    pub(crate) bulk: Option<u64>,
}

/// What is set before the programs are loaded.
struct Sizes<'a> {
    counters: &'a Counters,
    cpus: usize,
    shift: u32,
    /// Bytes of the bulk channel.
    bulk: u32,
    wanted: Wanted,
}

/// What the programs are to tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Ubatches tell their sequences, where the kernel can loop.
    pub(super) sequences: bool,
    /// Experts come with their weights.
    pub(super) expert_weights: bool,
    /// What the kernel does with threads and memory is told.
    pub(super) machine: Machine,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { sequences: true, expert_weights: false, machine: Machine::default() }
    }
}

fn skeleton(sizes: &Sizes<'_>, way: Way) -> Result<LlmtraceSkel<'static>> {
    // The open object must outlive the skeleton, which lives as long as we do.
    let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut open = LlmtraceSkelBuilder::default().open(storage).context("cannot open the BPF object")?;
    way.prepare(open.open_object_mut());
    let Sizes { counters, cpus, shift, bulk, wanted } = *sizes;
    open.progs.ubatch_sequences.set_autoload(wanted.sequences);
    open.maps.slots.set_max_entries((cpus << shift) as u32).context("cannot size the rings")?;
    open.maps.shards.set_max_entries(cpus as u32).context("cannot size the rings")?;
    open.maps.bulk.set_max_entries(bulk).context("cannot size the bulk channel")?;
    let events = (counters.len().max(1) * cpus) as u32;
    open.maps.counter_events.set_max_entries(events).context("cannot size the table of events")?;
    open.progs.counter_switch.set_autoload(counters.events().next().is_some());
    if !host::knows_loops() {
        open.progs.experts_gathered.set_autoload(false);
        open.progs.experts_begin.set_autoload(false);
    }
    let Machine { sched, faults } = wanted.machine;
    let programs = &mut open.progs;
    programs.machine_switch.set_autoload(sched);
    programs.machine_waking.set_autoload(sched);
    programs.machine_exit.set_autoload(sched || faults);
    programs.machine_fault_user.set_autoload(faults);
    programs.machine_fault_kernel.set_autoload(faults);
    programs.machine_read_asked.set_autoload(faults);
    programs.machine_read_done.set_autoload(faults);
    programs.machine_request_done.set_autoload(faults);
    programs.read_rehearsed.set_autoload(faults);
    if let Some(rodata) = open.maps.rodata_data.as_mut() {
        rodata.slots_shift = shift;
        rodata.expert_weights = wanted.expert_weights.into();
        rodata.counter_count = counters.len() as u32;
        rodata.counter_kinds = counters.kinds();
        rodata.counter_cpus = cpus as u32;
    }
    open.load().context("the kernel refuses the BPF programs")
}
