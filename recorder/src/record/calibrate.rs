//! Measures what a probe hit costs on this host, before recording.
//!
//! A child of ours calls one function over and over, with and without probes
//! on it: `llmtrace hammer`, which reads how often from its input and answers
//! with the nanoseconds it took. The difference for each call is the price of a
//! hit: trap, program, and return.

use super::kernel::{Kernel, Ring};
use super::maps;
use super::plan::{Point, Program};
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
pub(super) fn run(kernel: &mut Kernel, ring: &mut Ring) -> Result<Vec<ProbeCost>> {
    let mut hammer = Hammer::start()?;
    let plain = hammer.measure()?;
    let mut costs = Vec::new();
    let emulated = hammer.site.emulated;
    for program in
        [Program::Nothing, Program::OpBegin, Program::FusedBegin, Program::Barrier, Program::DecodeBegin]
    {
        if !emulated {
            break;
        }
        let nanos = hammer.measure_probed(kernel, ring, program, hammer.site.clone())?.saturating_sub(plain);
        costs.push(ProbeCost { purpose: program.purpose().to_owned(), nanos });
    }
    // The entry is `endbr64` or another instruction that must be single-stepped,
    // unless the function begins with a push.
    if hammer.site.offset_in_function > 0 {
        let entry = Site { offset_in_function: 0, emulated: false, ..hammer.site.clone() };
        let nanos = hammer.measure_probed(kernel, ring, Program::Nothing, entry)?.saturating_sub(plain);
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
        ring: &mut Ring,
        program: Program,
        site: Site,
    ) -> Result<u64> {
        let file_offset = self.function_offset + u64::from(site.offset_in_function);
        let point = Point { program, symbol: "hammer".to_owned(), file_offset, cookie: 0, site };
        let file = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        kernel.attach(self.child.id(), &file, &[point])?;
        kernel.set_recording(Some(self.child.id()));
        let measured = self.measure();
        kernel.set_recording(None);
        kernel.detach_all();
        while ring.drain(|_| ()) {}
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
        let begin = Instant::now();
        for call in 0..calls {
            black_box(struck(black_box(&params), u64::from(call)));
        }
        println!("{}", begin.elapsed().as_nanos());
    }
    Ok(())
}

/// Has the shape of the functions that get probed: two arguments, and registers
/// to save, so that it begins with a push.
#[inline(never)]
extern "C" fn struck(params: &[u32; 4], tensor: u64) -> u64 {
    let kept = black_box(tensor).wrapping_mul(3);
    let first = black_box(identity)(u64::from(params[0]));
    let second = black_box(identity)(first ^ kept);
    first.wrapping_add(second).wrapping_add(kept).wrapping_add(tensor)
}

#[inline(never)]
extern "C" fn identity(value: u64) -> u64 {
    black_box(value)
}
