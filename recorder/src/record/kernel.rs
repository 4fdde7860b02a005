//! The kernel side: loads the BPF object, attaches, drains, counts losses.

use super::attach::{self, Way};
use super::plan::{Point, Program};
use anyhow::{Context as _, Result};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{Link, MapCore as _, MapFlags, OpenObject, ProgramMut, RingBuffer, RingBufferBuilder};
use llmtrace_bpf::{Event, LlmtraceSkel, LlmtraceSkelBuilder, parse};
use llmtrace_format::tables::EVENT_KINDS;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::path::Path;
use std::rc::Rc;

/// Bytes of the ring between kernel and recorder: half a second at a million
/// events a second.
pub(super) const RING_BYTES: u32 = 16 << 20;

/// Programs loaded for one target.
pub(super) struct Kernel {
    // Links go first: no probe outlives the programs.
    links: Vec<(Program, Link)>,
    skel: LlmtraceSkel<'static>,
    way: Way,
}

impl Kernel {
    /// Loads the programs; they record nothing yet.
    ///
    /// `ring_bytes` is a power of two and at least a page.
    pub(super) fn load(ring_bytes: u32) -> Result<Self> {
        let (way, skel) = attach::load(|way| skeleton(ring_bytes, way), |skel| &skel.progs.nothing)?;
        Ok(Self { links: Vec::new(), skel, way })
    }

    /// How programs are attached on this kernel.
    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// Attaches to points of one file, in one process.
    pub(super) fn attach(&mut self, pid: u32, file: &Path, points: &[Point]) -> Result<()> {
        let mut by_program: BTreeMap<Program, Vec<&Point>> = BTreeMap::new();
        for point in points {
            by_program.entry(point.program).or_default().push(point);
        }
        // Ends before begins, and barriers before ops: nothing is seen to begin
        // whose end would be missed.
        for (program, points) in by_program.into_iter().rev() {
            let way = self.way;
            let attached = way.attach(self.program(program), pid, file, &points, program.on_return());
            let links = attached.with_context(|| {
                let symbols: Vec<&str> = points.iter().map(|point| point.symbol.as_str()).collect();
                format!("cannot attach {} to {}", program.purpose(), symbols.join(", "))
            })?;
            self.links.extend(links.into_iter().map(|link| (program, link)));
        }
        Ok(())
    }

    /// Lets the probes record one process, or none.
    pub(super) fn set_recording(&mut self, pid: Option<u32>) {
        if let Some(bss) = self.skel.maps.bss_data.as_mut() {
            bss.target_tgid = pid.unwrap_or(0);
            bss.recording = pid.is_some().into();
        }
    }

    /// Removes all probes.
    pub(super) fn detach_all(&mut self) {
        self.links.clear();
    }

    /// Removes the probes of some programs.
    pub(super) fn detach(&mut self, programs: &[Program]) {
        self.links.retain(|(program, _)| !programs.contains(program));
    }

    fn program(&mut self, program: Program) -> &mut ProgramMut<'static> {
        let programs = &mut self.skel.progs;
        match program {
            Program::DecodeBegin => &mut programs.decode_begin,
            Program::DecodeEnd => &mut programs.decode_end,
            Program::UbatchBegin => &mut programs.ubatch_begin,
            Program::UbatchEnd => &mut programs.ubatch_end,
            Program::GraphBegin => &mut programs.graph_begin,
            Program::GraphEnd => &mut programs.graph_end,
            Program::OpBegin => &mut programs.op_begin,
            Program::FusedBegin => &mut programs.fused_begin,
            Program::Barrier => &mut programs.barrier_arrive,
            Program::Nothing => &mut programs.nothing,
        }
    }

    /// A consumer of the ring.
    pub(super) fn ring(&self) -> Result<Ring> {
        let batch: Rc<RefCell<Vec<Event>>> = Rc::default();
        let mut builder = RingBufferBuilder::new();
        let into = batch.clone();
        builder.add(&self.skel.maps.events, move |bytes| {
            if let Some(event) = parse(bytes) {
                into.borrow_mut().push(event);
            }
            0
        })?;
        Ok(Ring { ring: builder.build()?, batch })
    }

    /// Events lost since the programs were loaded, by kind.
    pub(super) fn lost(&self) -> [u64; EVENT_KINDS.len()] {
        std::array::from_fn(|kind| {
            let key = (kind as u32).to_ne_bytes();
            let by_cpu =
                self.skel.maps.lost.lookup_percpu(&key, MapFlags::ANY).ok().flatten().unwrap_or_default();
            let count = |bytes: &Vec<u8>| bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            by_cpu.iter().map(count).sum()
        })
    }
}

fn skeleton(ring_bytes: u32, way: Way) -> Result<LlmtraceSkel<'static>> {
    // The open object must outlive the skeleton, which lives as long as we do.
    let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut open = LlmtraceSkelBuilder::default().open(storage).context("cannot open the BPF object")?;
    way.prepare(open.open_object_mut());
    open.maps.events.set_max_entries(ring_bytes).context("cannot size the ring buffer")?;
    open.load().context("the kernel refuses the BPF programs")
}

/// Most events taken from the ring at once.
const BATCH: usize = 1 << 14;
/// Most batches between two writes; with `BATCH`, bounds the consumer's memory.
const MAX_BATCHES: usize = 32;

/// The consumer's end of the ring.
pub(super) struct Ring {
    ring: RingBuffer<'static>,
    batch: Rc<RefCell<Vec<Event>>>,
}

impl Ring {
    /// Passes on the events that are there, up to a bound: a target that produces
    /// faster than we take must not keep us from writing and from stopping.
    /// Returns whether more wait.
    pub(super) fn drain(&mut self, mut handle: impl FnMut(&Event)) -> bool {
        for _ in 0..MAX_BATCHES {
            let taken = self.ring.consume_raw_n(BATCH);
            self.batch.borrow().iter().for_each(&mut handle);
            self.batch.borrow_mut().clear();
            if taken < BATCH as i32 {
                return false;
            }
        }
        true
    }
}
