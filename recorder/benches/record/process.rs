//! What the kernel says of a process.

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

/// CPU time and memory of a process at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    at: Instant,
    cpu_secs: f64,
    pub(crate) resident_bytes: u64,
}

impl Sample {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { at: Instant::now(), cpu_secs: cpu_secs(pid)?, resident_bytes: kilobytes * 1024 })
    }

    /// Part of one CPU that it used since `earlier`.
    pub(crate) fn cpu_share_since(&self, earlier: &Self) -> f64 {
        (self.cpu_secs - earlier.cpu_secs) / self.at.duration_since(earlier.at).as_secs_f64()
    }
}

/// CPU time that the threads of a process used, to the nanosecond; /proc/PID/stat has 10 ms.
pub(crate) fn cpu_secs(pid: u32) -> Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid as i32))?;
    Ok(Duration::from(clock_gettime(clock)?).as_secs_f64())
}

/// The file that a process maps under this base name.
pub(crate) fn mapped_file(pid: u32, name: &str) -> Result<PathBuf> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let path =
        maps.lines().filter_map(|line| line.splitn(6, ' ').last()).map(|path| PathBuf::from(path.trim()));
    path.into_iter()
        .find(|path| path.file_name().is_some_and(|found| found == name))
        .with_context(|| format!("the process maps no {name}"))
}

/// Ends a program that records. Not as Ctrl-C would: a script in the background ignores that.
pub(crate) fn terminate(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        bail!("it ended by itself");
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
    child.wait()?;
    Ok(())
}
