//! Measures what a probe hit costs on this host, before recording.
//!
//! A child of ours calls one function over and over, with and without probes
//! on it: `llmtrace hammer`, which reads how often from its input and answers
//! with the nanoseconds it took. The difference for each call is the price of a
//! hit: trap, program, and return.

use super::kernel::{Attachment, Kernel};
use super::plan::{Point, Program};
use super::rings::Rings;
use super::{host, maps};
use crate::binary::{Arg, Site, probe_site};
use anyhow::{Context as _, Result, bail};
use llmtrace_format::meta::ProbeCost;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

/// Few enough to begin recording at once, enough for a median to settle.
const ROUNDS: usize = 7;
const CALLS: u32 = 400;
const CODE_BYTES: usize = 512;

/// The price of each kind of hit.
///
/// # Errors
/// When the child cannot be run or its function cannot be probed.
pub(super) fn run(kernel: &mut Kernel, rings: &mut Rings) -> Result<Vec<ProbeCost>> {
    let mut hammer = Hammer::start()?;
    let plain = hammer.measure()?;
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
        let nanos = hammer.measure_probed(kernel, rings, program, hammer.site.clone())?.saturating_sub(plain);
        costs.push(ProbeCost { purpose: program.purpose().to_owned(), nanos });
    }
    if hammer.site.offset_in_function > 0 {
        let entry = Site { offset_in_function: 0, emulated: false, ..hammer.site.clone() };
        let nanos = hammer.measure_probed(kernel, rings, Program::Nothing, entry)?.saturating_sub(plain);
        costs.push(ProbeCost { purpose: "empty, single-stepped".to_owned(), nanos });
    }
    Ok(costs)
}

struct Hammer {
    child: Child,
    answers: BufReader<ChildStdout>,
    file: File,
    /// Where the function lies in the file.
    function_offset: u64,
    site: Site,
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
        Ok(Self { child, answers, file, function_offset, site })
    }

    /// Median nanoseconds a call.
    fn measure(&mut self) -> Result<u64> {
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let input = self.child.stdin.as_mut().context("no input")?;
            writeln!(input, "{CALLS}")?;
            rounds.push(read_number(&mut self.answers)? / u64::from(CALLS));
        }
        rounds.sort_unstable();
        Ok(rounds.get(ROUNDS / 2).copied().unwrap_or(0))
    }

    fn measure_probed(
        &mut self,
        kernel: &mut Kernel,
        rings: &mut Rings,
        program: Program,
        site: Site,
    ) -> Result<u64> {
        let file_offset = self.function_offset + u64::from(site.offset_in_function);
        let point = Point { program, symbol: "hammer".to_owned(), file_offset, cookie: 0, site };
        let to = Attachment { pid: self.child.id(), index: 0, same_ids: host::initial_pids() };
        let file = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        kernel.attach(to, &file, &[point]).1?;
        kernel.set_recording(true);
        let measured = self.measure();
        kernel.set_recording(false);
        kernel.detach_all();
        rings.drain_all(|_| ());
        measured
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

/// The hidden `hammer` command.
pub(crate) fn hammer() -> Result<()> {
    println!("{}", struck as *const () as usize);
    for line in std::io::stdin().lines() {
        let calls: u32 = line?.trim().parse()?;
        let params = [0u32, 1, 0, 0];
        let values: [u32; 8] = std::array::from_fn(|expert| expert as u32);
        let ids = tensor(&[(2, 8), (3, 1), (6, 4), (7, 32), (10, 1), (31, address(&values))]);
        let node = tensor(&[(20, address(&ids))]);
        let begin = Instant::now();
        for _ in 0..calls {
            black_box(struck(black_box(&params), address(&node)));
        }
        println!("{}", begin.elapsed().as_nanos());
    }
    Ok(())
}

/// What the programs read of a tensor that gathers by a selection of eight experts
/// of one token: words of a `struct ggml_tensor` (experts.bpf.h), by place.
fn tensor(words: &[(usize, u64)]) -> [u64; 42] {
    let mut tensor = [0; 42];
    for &(place, word) in words {
        if let Some(at) = tensor.get_mut(place) {
            *at = word;
        }
    }
    tensor
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(black_box(value)) as u64
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
