//! What the kernel says of a process.

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::path::PathBuf;
use std::process::Child;
use std::time::Instant;

/// CPU time and memory of a process at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    at: Instant,
    cpu_secs: f64,
    pub(crate) resident_bytes: u64,
}

impl Sample {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let at = Instant::now();
        // The name, in brackets, may hold anything; user and system time are the 14th and 15th
        // field, the 12th and 13th after it.
        let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?;
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let hertz = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { at, cpu_secs: ticks as f64 / hertz as f64, resident_bytes: kilobytes * 1024 })
    }

    /// Part of one CPU that it used since `earlier`.
    pub(crate) fn cpu_share_since(&self, earlier: &Self) -> f64 {
        (self.cpu_secs - earlier.cpu_secs) / self.at.duration_since(earlier.at).as_secs_f64()
    }
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

/// Ends a program as Ctrl-C would.
pub(crate) fn interrupt(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        bail!("it ended by itself");
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)?;
    child.wait()?;
    Ok(())
}
