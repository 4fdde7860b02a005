//! What processes and the machine take, looked at several times a second.
//!
//! Memory and CPU time of a process cost a few microseconds to read. The memory of its
//! model files takes the kernel a walk through all their pages, while the process cannot
//! map new ones: it is looked at seldom enough to take a hundredth of the time at most.

mod system;

use super::process::Process;
use super::sink::Sink;
use anyhow::Result;
use llmtrace_format::Nanos;
use llmtrace_format::counters::{ProcessSample, stored};
use llmtrace_format::meta::Counter;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::time::{Duration, Instant};
use system::System;

const EVERY: Duration = Duration::from_millis(100);
/// Between looks at the memory of model files, at least.
const MODELS_EVERY: Duration = Duration::from_secs(1);
/// And as many times as long as a look took.
const MODELS_REST: u32 = 100;

pub(super) struct Sampler {
    sampled: Instant,
    page: u64,
    system: System,
    /// When the model files of a process are looked at again.
    models: HashMap<u8, Instant>,
}

impl Sampler {
    /// Opens what may be opened now only.
    pub(super) fn new() -> Self {
        Self {
            sampled: Instant::now(),
            page: sysconf(SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |bytes| bytes as u64),
            system: System::open(),
            models: HashMap::new(),
        }
    }

    /// What of the machine is sampled.
    pub(super) fn described(&self) -> Vec<Counter> {
        self.system.described()
    }

    /// Takes samples when it is time.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(super) fn sample(&mut self, now: Nanos, processes: &[Process], writer: &mut Sink) -> Result<()> {
        if self.sampled.elapsed() < EVERY {
            return Ok(());
        }
        self.sampled = Instant::now();
        for process in processes.iter().filter(|process| !process.gone) {
            let (pid, index) = (process.to.pid, process.to.index);
            let mut row = ProcessSample { time: now, process: index.into(), ..ProcessSample::default() };
            row.cpu_nanos = stored(cpu_nanos(pid));
            let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
            let pages = |field| statm.split(' ').nth(field)?.parse::<u64>().ok();
            row.resident = stored(pages(1).map(|pages| pages * self.page));
            row.resident_files = stored(pages(2).map(|pages| pages * self.page));
            if self.models.get(&index).is_none_or(|due| *due <= self.sampled) {
                let begin = Instant::now();
                let models = model_memory(pid);
                row.model_resident = stored(models.map(|(resident, _)| resident));
                row.model_share = stored(models.map(|(_, share)| share));
                let rest = (begin.elapsed() * MODELS_REST).max(MODELS_EVERY);
                self.models.insert(index, Instant::now() + rest);
            }
            if row.cpu_nanos > 0 || row.resident > 0 {
                writer.push_process_sample(row)?;
            }
        }
        self.system.sample(now, writer)
    }
}

/// Nanoseconds that all threads of a process had a CPU.
fn cpu_nanos(pid: u32) -> Option<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid as i32)).ok()?;
    Some(Duration::from(clock_gettime(clock).ok()?).as_nanos() as u64)
}

/// Bytes of the mapped model files that are resident in a process, and its share of them;
/// `None` when that cannot be read.
fn model_memory(pid: u32) -> Option<(u64, u64)> {
    Some(models_of(BufReader::new(File::open(format!("/proc/{pid}/smaps")).ok()?)))
}

fn models_of(smaps: impl std::io::BufRead) -> (u64, u64) {
    let (mut resident, mut share, mut of_model) = (0u64, 0u64, false);
    for line in smaps.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let bytes = || value.trim().split(' ').next()?.parse::<u64>().ok()?.checked_mul(1024);
        match key {
            "Rss:" if of_model => resident = resident.saturating_add(bytes().unwrap_or(0)),
            "Pss:" if of_model => share = share.saturating_add(bytes().unwrap_or(0)),
            // The head of a mapping: addresses, then what it is of.
            _ if !key.ends_with(':') => of_model = line.trim_end().ends_with(".gguf"),
            _ => {}
        }
    }
    (resident, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_models_is_that_of_their_mappings_alone() {
        let smaps = "\
7f00-7f10 r--s 00000000 08:01 12  /models/a b.gguf
Size:               1024 kB
Rss:                 512 kB
Pss:                 256 kB
VmFlags: rd sh
7f20-7f30 r-xp 00000000 08:01 13  /usr/lib/libc.so.6
Rss:                2048 kB
Pss:                  20 kB
7f40-7f50 rw-p 00000000 00:00 0
Rss:                   8 kB
7f60-7f70 r--s 00000000 08:01 14  /models/b.gguf
Rss:                   4 kB
Pss:                   4 kB
";
        assert_eq!(models_of(smaps.as_bytes()), (516 << 10, 260 << 10));
        assert_eq!(models_of(&b""[..]), (0, 0));
    }

    #[test]
    fn our_own_cpu_time_is_known_and_grows() {
        let pid = std::process::id();
        let before = cpu_nanos(pid).unwrap();
        let after = (0..).map(|_| cpu_nanos(pid).unwrap()).find(|&now| now > before).unwrap();
        assert!(before > 0 && after > before);
    }
}
