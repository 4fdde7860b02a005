//! `llmtrace record`: attaches to a process and writes what it does.
//!
//! ```text
//! target ─► kernel (BPF, ring) ─► assemble (pure) ─► format::Writer ─► file
//!              ▲                      ▲                      (sink: one, several, the last)
//! objects ─► plan                  graphs (reads node descriptions, once a graph)
//! ```
//!
//! One thread does all: it drains the ring every two milliseconds, and writes
//! what is complete. Under pressure the ring fills and the kernel counts what
//! it drops, so memory is bounded by the ring (16 MiB), one block of rows a
//! lane, the dictionaries, and the operators of 8,192 graphs. Whatever happens to
//! the recorder, the target goes on: links die with the process.

mod assemble;
mod calibrate;
mod doctor;
mod graphs;
mod host;
mod kernel;
mod lanes;
mod maps;
mod memory;
mod objects;
mod output;
mod plan;
mod sequence;
mod session;
mod sink;
mod status;
mod target;

pub(crate) use calibrate::hammer;
pub(crate) use doctor::{Question, run as doctor};
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

const DRAIN_EVERY: Duration = Duration::from_millis(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to record and where to.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) output: Option<PathBuf>,
    pub(crate) pid: Option<u32>,
    pub(crate) name: Option<String>,
    pub(crate) command: Vec<OsString>,
    pub(crate) duration: Option<Duration>,
    pub(crate) level: Level,
    pub(crate) exact_begins: bool,
    /// Bytes of the ring between kernel and recorder; a power of two.
    pub(crate) ring_bytes: Option<u32>,
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
    let target = match (options.pid, &options.name) {
        (Some(pid), _) => Target::running(pid)?,
        (None, Some(name)) => Target::named(name)?,
        (None, None) => Target::launch(&options.command, caller)?,
    };
    let session = Session::begin(options, caller, &target);
    let mut session = match session {
        Ok(session) => session,
        Err(error) => {
            target.abandon();
            return Err(error);
        }
    };
    if target.launched {
        target.go()?;
    }
    let ended = record(options, &target, &mut session, &mut signals);
    let ended = match ended {
        Ok((reason, exit_code)) => {
            session.finish(reason, exit_code).map(|recorded| (reason, exit_code, recorded))
        }
        Err(error) => Err(session.rescue(&error)),
    };
    let mut go_on = || target.wait(|| signals.pending().for_each(|signal| pass_on(&target, &signal)));
    let (reason, exit_code, recorded) = match ended {
        Ok(ended) => ended,
        Err(error) if target.launched => {
            // It goes on as if nobody had recorded it.
            say(&format!("llmtrace: {error:#}"));
            go_on();
            return Ok(2);
        }
        Err(error) => return Err(error),
    };
    report(options, &recorded);
    match (target.launched, exit_code) {
        (true, Some(code)) => Ok(code),
        (true, None) if ![INTERRUPTED, EXITED].contains(&reason) => Ok(go_on().unwrap_or(0)),
        (true, None) => Ok(130),
        (false, _) => Ok(0),
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
    target: &Target,
    session: &mut Session,
    signals: &mut SignalsInfo<WithOrigin>,
) -> Result<(&'static str, Option<i32>)> {
    let begin = Instant::now();
    let mut looked = begin;
    let mut interrupts = 0;
    loop {
        if !session.step()? {
            std::thread::sleep(DRAIN_EVERY);
        }
        for note in session.take_notes().iter().filter(|_| !options.quiet) {
            say(note);
        }
        if let Some(reason) = session.done() {
            return Ok((reason, None));
        }
        for signal in signals.pending() {
            if signal.signal == SIGUSR1 {
                session.save("asked for by a signal");
                continue;
            }
            interrupts += 1;
            pass_on(target, &signal);
        }
        // A launched command gets the chance to end by itself first.
        if interrupts > i32::from(target.launched) {
            return Ok((INTERRUPTED, None));
        }
        if options.duration.is_some_and(|duration| begin.elapsed() >= duration) {
            return Ok((DURATION, None));
        }
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            if let Some(code) = target.exited() {
                return Ok((EXITED, code));
            }
        }
    }
}

fn report(options: &Options, recorded: &Recorded) {
    if options.quiet {
        return;
    }
    for warning in &recorded.warnings {
        say(&format!("warning: {warning}"));
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
        if self.pid.is_none() && self.name.is_none() && self.command.is_empty() {
            bail!("nothing to record: give a process with -p PID or -n NAME, or a command after `--`");
        }
        self.long.check()
    }
}
