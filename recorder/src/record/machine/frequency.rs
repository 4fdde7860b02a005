//! How fast CPUs run, where the kernel reports it: sampled, as governors that choose it in
//! hardware tell nobody of changes.

use llmtrace_format::Nanos;
use llmtrace_format::machine::Frequency;
use std::fs;
use std::path::{Path, PathBuf};

const EVERY: Nanos = 500_000_000;

/// The CPUs whose frequency is reported.
pub(crate) struct Frequencies {
    cpus: Vec<(u32, PathBuf)>,
    last: Nanos,
}

impl Frequencies {
    /// Those under `/sys/devices/system/cpu`.
    pub(crate) fn of_host() -> Self {
        Self::under(Path::new("/sys/devices/system/cpu"))
    }

    fn under(folder: &Path) -> Self {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut cpus: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| {
                let cpu = entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok()?;
                let file = entry.path().join("cpufreq/scaling_cur_freq");
                read(&file).map(|_| (cpu, file))
            })
            .collect();
        cpus.sort_unstable();
        Self { cpus, last: 0 }
    }

    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        !self.cpus.is_empty()
    }

    /// Samples, when it is time.
    pub(crate) fn sample(&mut self, now: Nanos) -> Vec<Frequency> {
        if now.saturating_sub(self.last) < EVERY && self.last > 0 {
            return Vec::new();
        }
        let begin = std::mem::replace(&mut self.last, now);
        let row = |(cpu, file): &(u32, PathBuf)| {
            Some(Frequency { begin, end: now, cpu: *cpu, khz: read(file)?, touched_by_loss: 0 })
        };
        self.cpus.iter().filter_map(row).collect()
    }
}

fn read(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_sampled_now_and_then() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        for (cpu, khz) in [("cpu1", "2100000\n"), ("cpu0", "3400000\n"), ("cpufreq", "1\n")] {
            let of_it = folder.path().join(cpu).join("cpufreq");
            fs::create_dir_all(&of_it)?;
            fs::write(of_it.join("scaling_cur_freq"), khz)?;
        }
        fs::create_dir_all(folder.path().join("cpu2"))?;
        let mut frequencies = Frequencies::under(folder.path());
        let told: Vec<_> = frequencies.sample(7).iter().map(|row| (row.end, row.cpu, row.khz)).collect();
        assert_eq!(told, [(7, 0, 3_400_000), (7, 1, 2_100_000)]);
        assert!(frequencies.sample(8).is_empty());
        assert_eq!(frequencies.sample(7 + EVERY).first().map(|row| row.begin), Some(7));
        assert!(!Frequencies::under(&folder.path().join("none")).any());
        Ok(())
    }
}
