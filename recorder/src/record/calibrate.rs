//! Measures what a probe hit costs on this host, before recording.
//!
//! A child of ours calls one function over and over, with and without probes
//! on it: `llmtrace hammer`, which reads how often from its input and answers
//! with the nanoseconds it took. The difference for each call is the price of a
//! hit: trap, program, and return. What it calls the function with is a node that gathers by a
//! selection of experts, or an ubatch of some tokens, so that programs that read along have
//! something to read.

use super::kernel::{Attachment, Kernel};
use super::machine::Machine;
use super::plan::{Point, Program, cookie};
use super::rings::Rings;
use super::{host, maps};
use crate::binary::{Arg, Site, probe_site, return_instructions};
use anyhow::{Context as _, Result, anyhow, bail};
use llmtrace_bpf::Event;
use llmtrace_format::meta::ProbeCost;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::Thread;
use std::time::Instant;

/// What counting adds to a hit of an operator's probe.
pub(super) const COUNTERS: &str = "counters";
/// Few enough to begin recording at once, enough for a median to settle.
const ROUNDS: usize = 7;
const CALLS: u32 = 400;
/// What the prices of the kernel's own programs are called. A switch is a thread's leaving and coming
/// back, and what wakes it.
pub(super) const SWITCHED: &str = "thread switch";
pub(super) const FAULTED: &str = "page fault";
/// What the measuring process is asked to do.
const SWITCH: &str = "switches";
const FAULT: &str = "faults";
const PAGE: usize = 4096;
const CODE_BYTES: usize = 512;
/// Tokens of an ubatch: those of a decode call, and more, to know the price of one more.
const ONE: u32 = 1;
const SOME: u32 = 61;

/// The price of each kind of hit.
///
/// # Errors
/// When the child cannot be run or its function cannot be probed.
pub(super) fn run(kernel: &mut Kernel, rings: &mut Rings) -> Result<Vec<ProbeCost>> {
    let mut hammer = Hammer::start()?;
    let plain = hammer.measure(rings, 0)?;
    let mut costs = Vec::new();
    let emulated = hammer.site.emulated;
    for program in [
        Program::Nothing,
        Program::OpBegin,
        Program::FusedBegin,
        Program::Barrier,
        Program::DecodeBegin,
        Program::SplitBegin,
        Program::CopyBegin,
        Program::ExpertsGathered,
    ] {
        if !emulated || program == Program::ExpertsGathered && !host::knows_loops() {
            break;
        }
        let nanos = hammer.price(kernel, rings, &Hit::of(program), plain)?;
        costs.push(cost(program.purpose(), nanos));
        if program == Program::Barrier && kernel.counts() {
            kernel.set_counting(true);
            let with = hammer.price(kernel, rings, &Hit::of(program), plain);
            kernel.set_counting(false);
            costs.push(cost(COUNTERS, with?.saturating_sub(nanos)));
        }
    }
    if emulated && host::knows_loops() {
        let ubatch = Hit { tokens: ONE, ..Hit::of(Program::UbatchBegin) };
        costs.push(cost(Program::UbatchBegin.purpose(), hammer.price(kernel, rings, &ubatch, plain)?));
    }
    if hammer.site.offset_in_function > 0 {
        let entry = Hit { at_entry: true, ..Hit::of(Program::Nothing) };
        costs.push(cost("empty, single-stepped", hammer.price(kernel, rings, &entry, plain)?));
    }
    Ok(costs)
}

/// What the sources around graphs cost, for who asks for the price of each.
///
/// # Errors
/// As [`run`].
pub(super) fn run_around(kernel: &mut Kernel, rings: &mut Rings) -> Result<Vec<ProbeCost>> {
    let mut hammer = Hammer::start()?;
    let mut costs = Vec::new();
    if !hammer.site.emulated {
        return Ok(costs);
    }
    let plain = hammer.measure(rings, 0)?;
    for program in [Program::KvOperation, Program::CallBegin, Program::CallEnd, Program::DraftAccepted] {
        costs.push(cost(program.purpose(), hammer.price(kernel, rings, &Hit::of(program), plain)?));
    }
    let returns = Hit { at_return: true, ..Hit::of(Program::CallReturns) };
    costs.push(cost(Program::CallReturns.purpose(), hammer.price(kernel, rings, &returns, plain)?));
    if host::knows_loops() {
        let mut ubatch = |tokens, cookie| {
            hammer.price(kernel, rings, &Hit { tokens, cookie, ..Hit::of(Program::UbatchBegin) }, plain)
        };
        let (one, some, ids) = (ubatch(ONE, 0)?, ubatch(SOME, 0)?, ubatch(SOME, cookie::TOKENS)?);
        let more = |from: u64, to: u64, tokens: u32| to.saturating_sub(from) / u64::from(tokens);
        costs.push(cost("each further token of an ubatch", more(one, some, SOME - ONE)));
        costs.push(cost("id of a token", more(some, ids, SOME)));
    }
    Ok(costs)
}

/// What the kernel's own programs add to a switch of threads, a page fault and a read from a
/// disk; attaches them.
///
/// # Errors
/// As [`run`].
pub(super) fn run_machine(kernel: &mut Kernel, rings: &mut Rings) -> Result<Vec<ProbeCost>> {
    let mut costs = Vec::new();
    if !kernel.machine().0.any() {
        return Ok(costs);
    }
    let mut hammer = Hammer::start()?;
    let (switching, faulting) = (
        hammer.measure_counting(rings, SWITCH, |_| false)?,
        hammer.measure_counting(rings, FAULT, |_| false)?,
    );
    let plain = hammer.measure(rings, 0)?;
    let to = Attachment { pid: hammer.child.id(), index: 0, same_ids: host::initial_pids() };
    kernel.watch(to);
    if kernel.machine().0.faults && hammer.site.emulated {
        let nothing = hammer.price(kernel, rings, &Hit::of(Program::Nothing), plain)?;
        let read = hammer.price(kernel, rings, &Hit::of(Program::ReadRehearsed), plain)?;
        costs.push(cost(Program::ReadRehearsed.purpose(), read.saturating_sub(nothing)));
    }
    kernel.attach_machine();
    let Machine { sched, faults } = kernel.machine().0;
    kernel.set_recording(true);
    let mut price = |mode, without: Measured, is_one: fn(&Event) -> bool| {
        let with = hammer.measure_counting(rings, mode, is_one)?;
        anyhow::Ok(with.over(&without))
    };
    let mut add = |purpose, price: Option<u64>| costs.extend(price.map(|nanos| cost(purpose, nanos)));
    if sched {
        add(SWITCHED, price(SWITCH, switching, |event| matches!(event, Event::OnCpu(_)))?);
    }
    if faults {
        add(FAULTED, price(FAULT, faulting, |event| matches!(event, Event::Fault(_)))?);
    }
    kernel.set_recording(false);
    kernel.unwatch(to.pid);
    rings.drain_all(|_| ());
    Ok(costs)
}

fn cost(purpose: &str, nanos: u64) -> ProbeCost {
    ProbeCost { purpose: purpose.to_owned(), nanos }
}

/// What is attached, where, and what the function is called with.
struct Hit {
    program: Program,
    cookie: u64,
    /// At the first instruction, which is single-stepped, or where it returns, which is, too;
    /// else at the best place.
    at_entry: bool,
    at_return: bool,
    /// Tokens of the ubatch that the function gets; with 0 it gets a node.
    tokens: u32,
}

impl Hit {
    fn of(program: Program) -> Self {
        Self { program, cookie: 0, at_entry: false, at_return: false, tokens: 0 }
    }
}

/// Some calls.
struct Measured {
    /// Median.
    nanos: u64,
    /// Of the round that was least disturbed by others on its CPU.
    least: u64,
    /// That came of them.
    events: u64,
}

impl Measured {
    /// What each event adds to the same without; `None` when there were few, or when the
    /// difference drowns in what else goes on.
    fn over(&self, without: &Self) -> Option<u64> {
        let more = self.least.saturating_sub(without.least) / self.events.max(1);
        Some(more).filter(|&more| more > 0 && self.events >= u64::from(CALLS) / 2)
    }
}

struct Hammer {
    child: Child,
    answers: BufReader<ChildStdout>,
    file: File,
    /// Where the function lies in the file.
    function_offset: u64,
    site: Site,
    returns: Option<Site>,
}

impl Hammer {
    fn start() -> Result<Self> {
        let ourselves = std::env::current_exe().context("cannot find our own executable")?;
        let mut child = Command::new(&ourselves)
            .arg("hammer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a process to measure with")?;
        let mut answers = BufReader::new(child.stdout.take().context("no output")?);
        let address = read_number(&mut answers)?;
        let mapped = maps::executable(child.id())?;
        let mapping = mapped.iter().find(|mapping| (mapping.start..mapping.end).contains(&address));
        let mapping = mapping.context("the measuring function is not mapped from a file")?;
        let function_offset = address - mapping.start + mapping.file_offset;
        let file = mapping.open(child.id())?;
        let mut code = vec![0; CODE_BYTES];
        let read = file.read_at(&mut code, function_offset)?;
        code.truncate(read);
        let site = probe_site(&code, address, &[Arg::Rdi, Arg::Rsi]);
        let returns = return_instructions(&code, address).into_iter().next();
        Ok(Self { child, answers, file, function_offset, site, returns })
    }

    /// Median nanoseconds a call.
    fn measure(&mut self, rings: &mut Rings, tokens: u32) -> Result<u64> {
        Ok(self.measure_counting(rings, &tokens.to_string(), |_| false)?.nanos / u64::from(CALLS))
    }

    /// As many calls, of which events that `is_one` knows come.
    fn measure_counting(
        &mut self,
        rings: &mut Rings,
        mode: &str,
        is_one: fn(&Event) -> bool,
    ) -> Result<Measured> {
        let (mut rounds, mut events) = (Vec::with_capacity(ROUNDS), 0);
        for _ in 0..ROUNDS {
            let input = self.child.stdin.as_mut().context("no input")?;
            writeln!(input, "{CALLS} {mode}")?;
            rounds.push(read_number(&mut self.answers)?);
            // A full ring would be cheaper.
            rings.drain_all(|event| events += u64::from(is_one(event)));
        }
        rounds.sort_unstable();
        let nanos = rounds.get(ROUNDS / 2).copied().unwrap_or(0);
        let least = rounds.first().copied().unwrap_or(0);
        Ok(Measured { nanos, least, events: events / ROUNDS as u64 })
    }

    /// Nanoseconds that a hit adds to a call, which takes `plain` without.
    fn price(&mut self, kernel: &mut Kernel, rings: &mut Rings, hit: &Hit, plain: u64) -> Result<u64> {
        let site = match &self.returns {
            Some(site) if hit.at_return => site.clone(),
            _ if hit.at_return => bail!("the measuring function does not return"),
            _ if hit.at_entry => Site { offset_in_function: 0, emulated: false, ..self.site.clone() },
            _ => self.site.clone(),
        };
        let file_offset = self.function_offset + u64::from(site.offset_in_function);
        let (program, cookie) = (hit.program, hit.cookie);
        let point = Point { program, symbol: "hammer".to_owned(), file_offset, cookie, site };
        let to = Attachment { pid: self.child.id(), index: 0, same_ids: host::initial_pids() };
        let file = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        kernel.attach(to, &file, &[point]).1?;
        kernel.set_recording(true);
        let measured = self.measure(rings, hit.tokens);
        kernel.set_recording(false);
        kernel.detach_all();
        rings.drain_all(|_| ());
        Ok(measured?.saturating_sub(plain))
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_number(from: &mut BufReader<ChildStdout>) -> Result<u64> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        bail!("the measuring process ended");
    }
    line.trim().parse().context("the measuring process gave no number")
}

/// The hidden `hammer` command: reads how many calls, and the tokens of an ubatch.
pub(crate) fn hammer() -> Result<()> {
    println!("{}", struck as *const () as usize);
    for line in std::io::stdin().lines() {
        let line = line?;
        let (calls, tokens) = line.trim().split_once(' ').context("how many calls?")?;
        match tokens {
            SWITCH => {
                println!("{}", switches(calls.parse()?)?);
                continue;
            }
            FAULT => {
                println!("{}", page_faults(calls.parse()?));
                continue;
            }
            _ => (),
        }
        let (calls, tokens): (u32, u32) = (calls.parse()?, tokens.parse()?);
        let params = [0u32, 1, 0, 0];
        let values: [u32; 8] = std::array::from_fn(|expert| expert as u32);
        let ids = tensor(&[(2, 8), (3, 1), (6, 4), (7, 32), (10, 1), (31, address(&values))]);
        let node = tensor(&[(20, address(&ids))]);
        // One sequence, whose last token has an output.
        let positions: Vec<u32> = (0..tokens).collect();
        let (sequence, count) = ([0u32], vec![1u32; positions.len()]);
        let sequences = vec![address(&sequence); positions.len()];
        let outputs: Vec<u8> = positions.iter().map(|&at| u8::from(at + 1 == tokens)).collect();
        let words = [
            (0, u64::from(tokens) << 32),
            (1, 1 | u64::from(tokens) << 32),
            (2, 1),
            (3, address(&positions[..])),
            (5, address(&positions[..])),
            (6, address(&count[..])),
            (7, address(&sequences[..])),
            (10, address(&outputs[..])),
        ];
        let given = if tokens == 0 { node } else { tensor(&words) };
        let begin = Instant::now();
        for _ in 0..calls {
            black_box(struck(black_box(&params), address(&given)));
        }
        println!("{}", begin.elapsed().as_nanos());
    }
    Ok(())
}

/// Nanoseconds that two threads on one CPU take to hand over to each other.
fn switches(calls: u32) -> Result<u128> {
    stay_on_a_cpu();
    let main = std::thread::current();
    let turn = AtomicU32::new(0);
    let take = |other: &Thread, mine: u32| {
        for round in 0..calls {
            while turn.load(Ordering::Acquire) != 2 * round + mine {
                std::thread::park();
            }
            turn.store(2 * round + mine + 1, Ordering::Release);
            other.unpark();
        }
    };
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| take(&main, 1));
        take(other.thread(), 0);
        other.join().map_err(|_| anyhow!("a thread of the measuring process ended"))
    })?;
    Ok(begin.elapsed().as_nanos())
}

/// Nanoseconds that it takes to touch so many pages for the first time.
fn page_faults(calls: u32) -> u128 {
    // More than what an allocator keeps.
    static MORE: AtomicU32 = AtomicU32::new(0);
    let pages = (calls + MORE.fetch_add(1, Ordering::Relaxed)) as usize;
    let mut memory = vec![0u8; pages * PAGE];
    let begin = Instant::now();
    for page in memory.chunks_mut(PAGE).take(calls as usize) {
        page.iter_mut().take(1).for_each(|byte| *black_box(byte) = 1);
    }
    let nanos = begin.elapsed().as_nanos();
    black_box(&memory);
    nanos
}

/// One CPU for this thread and those that it starts.
fn stay_on_a_cpu() {
    let me = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(me) else { return };
    let first = (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    if first.is_some_and(|cpu| one.set(cpu).is_ok()) {
        // Measured anyway; then the threads sleep on CPUs of their own.
        let _ = sched_setaffinity(me, &one);
    }
}

/// What the programs read of a tensor that gathers by a selection of eight experts of one token
/// (experts.bpf.h), or of an ubatch (inference.bpf.h): words of the struct, by place.
fn tensor(words: &[(usize, u64)]) -> [u64; 42] {
    let mut tensor = [0; 42];
    for &(place, word) in words {
        if let Some(at) = tensor.get_mut(place) {
            *at = word;
        }
    }
    tensor
}

fn address<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(black_box(value)).cast::<u8>() as u64
}

/// Has the shape of the functions that get probed, however it is compiled: its
/// entry is single-stepped, the push behind it is emulated.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn struck(_params: &[u32; 4], _tensor: u64) -> u64 {
    std::arch::naked_asm!("endbr64", "push rbx", "mov rbx, rsi", "lea rax, [rbx + 2 * rbx]", "pop rbx", "ret")
}

/// Nothing is recorded on other machines.
#[cfg(not(target_arch = "x86_64"))]
extern "C" fn struck(_params: &[u32; 4], tensor: u64) -> u64 {
    3 * tensor
}
