//! `llmtrace record`: attaches to a process and writes what it does.
//!
//! ```text
//! target ─► kernel (BPF, ring) ─► assemble (pure) ─► format::Writer ─► file
//!              ▲                      ▲                      (sink: one, several, the last)
//! objects ─► plan                  graphs (reads node descriptions, once a graph)
//! ```
//!
//! One thread does all: it drains the rings every five milliseconds, and writes
//! what is complete. Under pressure the rings fill and the kernel counts what
//! it drops, so memory is bounded by the rings (16 MiB, more beyond 32 CPUs), one
//! block of rows a lane, the dictionaries, and the operators of 8,192 graphs of a
//! process. Whatever happens to the recorder, the target goes on: links die with
//! the process.

mod assemble;
mod attach;
mod backends;
mod budget;
mod bulk;
mod calibrate;
mod checks;
mod counters;
mod doctor;
mod experts;
mod family;
mod fuzzing;
mod graphs;
mod hits;
mod host;
mod inference;
mod kernel;
mod lanes;
mod machine;
mod maps;
mod memory;
mod objects;
mod offload;
mod output;
mod plan;
mod privileges;
mod process;
mod rings;
mod rows;
mod sampler;
mod sequence;
mod session;
mod sink;
mod status;
mod target;

pub(crate) use calibrate::hammer;
pub(crate) use counters::help as counters_help;
pub(crate) use doctor::{Question, run as doctor};
pub use fuzzing::{fuzz_kernel_records, fuzz_mappings, fuzz_model_header};
pub(crate) use kernel::Room;
pub(crate) use machine::Machine;
pub(crate) use plan::{Moe, Sources};
pub(crate) use sink::{Long, seconds};
pub(crate) use target::launch;

use anyhow::{Result, bail};
use llmtrace_format::meta::Level;
use session::{Recorded, Session};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use target::{Caller, Target};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to record and where to.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) output: Option<PathBuf>,
    pub(crate) pids: Vec<u32>,
    pub(crate) name: Option<String>,
    /// Wait for the process, and for it to load ggml.
    pub(crate) wait: bool,
    pub(crate) command: Vec<OsString>,
    pub(crate) duration: Option<Duration>,
    pub(crate) level: Level,
    pub(crate) exact_begins: bool,
    pub(crate) sources: Sources,
    /// Record splits, copies and waits, too, from level graph on.
    pub(crate) offload: bool,
    /// What the kernel does with threads and memory.
    pub(crate) machine: Machine,
    /// Percent of the target's time that probes may take; `None` for any.
    pub(crate) max_overhead: Option<f64>,
    /// Operators of one token in so many.
    pub(crate) window: u32,
    /// How experts are recorded, and whether with their weights.
    pub(crate) moe: Moe,
    pub(crate) moe_weights: bool,
    /// What to count for each node: a list; `None` for nothing.
    pub(crate) counters: Option<String>,
    /// Whether to sample what processes and the machine take.
    pub(crate) samples: bool,
    /// Whether to measure first what the host can do.
    pub(crate) calibrate: bool,
    /// Room between kernel and recorder.
    pub(crate) room: Room,
    /// What becomes of a recording that may take long.
    pub(crate) long: Long,
    pub(crate) quiet: bool,
}

/// Records until the target exits, the time is up, or somebody interrupts.
/// Returns the exit code: that of a launched command, else 0.
///
/// # Errors
/// When recording cannot begin, or the file cannot be written. A launched
/// command that has not begun to run is ended; any other target goes on.
pub(crate) fn run(options: &Options) -> Result<i32> {
    host::check()?;
    // From here on an interrupt ends the recording, not the recorder.
    let mut signals = SignalsInfo::<WithOrigin>::new(handled_signals(&options.long))?;
    let caller = Caller::from_env();
    let Some(targets) = find(options, caller, &mut signals)? else { return Ok(0) };
    let session = Session::begin(options, caller, &targets).and_then(|session| {
        privileges::drop_after_attach(caller, options.output.as_deref(), session.way())?;
        Ok(session)
    });
    let mut session = match session {
        Ok(session) => session,
        Err(error) => {
            targets.iter().for_each(Target::abandon);
            return Err(error);
        }
    };
    let launched = targets.iter().find(|target| target.launched);
    if let Some(target) = launched {
        target.go().inspect_err(|_| target.abandon())?;
    }
    let ended = match record(options, &targets, &mut session, &mut signals) {
        Ok((reason, exit_code)) => {
            let recorded = session.finish(reason, exit_code).map_err(|error| session.rescue(&error));
            recorded.map(|recorded| (reason, exit_code, recorded))
        }
        Err(error) => Err(session.rescue(&error)),
    };
    let (reason, exit_code, recorded) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            if let Some(target) = launched {
                // It goes on as if nobody had recorded it.
                say(&format!("llmtrace: {error:#}"));
                go_on(target, &mut signals);
                return Ok(2);
            }
            return Err(error);
        }
    };
    report(options, &recorded);
    match (launched, exit_code) {
        (Some(_), Some(code)) => Ok(code),
        (Some(target), None) if ![INTERRUPTED, EXITED].contains(&reason) => {
            Ok(go_on(target, &mut signals).unwrap_or(0))
        }
        (Some(_), None) => Ok(130),
        (None, _) => Ok(0),
    }
}

/// Waits for a command that is not recorded any more.
fn go_on(target: &Target, signals: &mut SignalsInfo<WithOrigin>) -> Option<i32> {
    let for_it = |signal: &Origin| signal.signal != SIGUSR1;
    target.wait(|| signals.pending().filter(for_it).for_each(|signal| pass_on(target, &signal)))
}

/// The processes to record; `None` when somebody interrupts the wait for them.
fn find(
    options: &Options,
    caller: Caller,
    signals: &mut SignalsInfo<WithOrigin>,
) -> Result<Option<Vec<Target>>> {
    if !options.command.is_empty() {
        return Ok(Some(vec![Target::launch(&options.command, caller)?]));
    }
    let Some(name) = &options.name else {
        let mut targets: Vec<Target> =
            options.pids.iter().map(|&pid| Target::running(pid)).collect::<Result<_>>()?;
        targets.sort_by_key(|target| target.pid);
        targets.dedup_by_key(|target| target.pid);
        return Ok(Some(targets));
    };
    loop {
        match Target::named(name) {
            Err(_) if options.wait && signals.pending().all(|signal| signal.signal == SIGUSR1) => {
                std::thread::sleep(LOOK_EVERY);
            }
            Err(_) if options.wait => return Ok(None),
            found => return found.map(Some),
        }
    }
}

/// Signals that end a recording, but for those that whoever started us chose to
/// ignore, as `nohup` does; and the one that saves the last seconds.
fn handled_signals(long: &Long) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let is_ignored = |signal: i32| ignored.unwrap_or(0) >> (signal - 1) & 1 == 1;
    let ends = [SIGINT, SIGTERM, SIGHUP, SIGQUIT].into_iter().filter(|&signal| !is_ignored(signal));
    ends.chain(long.saves().then_some(SIGUSR1)).collect()
}

/// Passes a signal on to a launched target. The terminal signals the whole
/// foreground group by itself.
fn pass_on(target: &Target, signal: &Origin) {
    if target.launched && signal.cause != Cause::Kernel {
        target.signal(signal.signal);
    }
}

const DURATION: &str = "duration reached";
const INTERRUPTED: &str = "interrupted";
const EXITED: &str = "target exited";

/// The loop; returns why it ended, and a launched target's exit code.
fn record(
    options: &Options,
    targets: &[Target],
    session: &mut Session,
    signals: &mut SignalsInfo<WithOrigin>,
) -> Result<(&'static str, Option<i32>)> {
    let begin = Instant::now();
    let mut looked = begin;
    let mut interrupts = 0;
    // Of a launched command that ended before the processes that it started.
    let mut ended = None;
    let launched = targets.iter().find(|target| target.launched);
    loop {
        if !session.step()? {
            std::thread::sleep(session.nap());
        }
        for note in session.take_notes().iter().filter(|_| !options.quiet) {
            say(note);
        }
        if let Some(reason) = session.done() {
            return Ok((reason, ended));
        }
        for signal in signals.pending() {
            if signal.signal == SIGUSR1 {
                session.save("asked for by a signal");
                continue;
            }
            interrupts += 1;
            if let Some(target) = launched.filter(|_| ended.is_none()) {
                pass_on(target, &signal);
            }
        }
        // A launched command gets the chance to end by itself first.
        if interrupts > i32::from(launched.is_some() && ended.is_none()) {
            return Ok((INTERRUPTED, ended));
        }
        if options.duration.is_some_and(|duration| begin.elapsed() >= duration) {
            return Ok((DURATION, ended));
        }
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            session.look();
            match launched {
                Some(target) if ended.is_none() => ended = target.exited().map(|code| code.unwrap_or(0)),
                Some(_) => {}
                None if targets.iter().all(|target| target.exited().is_some()) => return Ok((EXITED, None)),
                None => {}
            }
            if ended.is_some() && !session.alive() {
                return Ok((EXITED, ended));
            }
        }
    }
}

fn report(options: &Options, recorded: &Recorded) {
    if options.quiet {
        return;
    }
    for warning in &recorded.warnings {
        say(&format!("warning: {}", crate::read::clean(warning)));
    }
    recorded.notes.iter().for_each(|note| say(note));
    let Some(path) = &recorded.path else { return };
    if let Err(error) = crate::read::print_short_summary(path, &mut std::io::stderr()) {
        say(&format!("warning: no summary: {error:#}"));
    }
}

/// Prints a line to stderr; nobody may be listening any more.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Options {
    /// Checks what clap cannot.
    pub(crate) fn check(&self) -> Result<()> {
        if self.pids.is_empty() && self.name.is_none() && self.command.is_empty() {
            bail!("nothing to record: give a process with -p PID or -n NAME, or a command after `--`");
        }
        self.long.check()
    }

    /// What this host can do at most: measured now, or what was kept.
    fn ceilings(&self) -> Result<Option<llmtrace_format::meta::Ceilings>> {
        if self.calibrate {
            crate::ceilings::measure_and_save().map(Some)
        } else {
            Ok(crate::ceilings::load())
        }
    }
}
