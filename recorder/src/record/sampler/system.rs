//! What the whole machine takes, where it tells: energy, and bytes to and from memory.
//!
//! Energy comes from the powercap interface (RAPL), bytes from the PMUs of memory
//! controllers. Few virtual machines have either.

use super::super::counters::{builder, cpu_list, of_pmu};
use super::super::sink::Sink;
use anyhow::Result;
use llmtrace_format::Nanos;
use llmtrace_format::counters::SystemSample;
use llmtrace_format::meta::Counter;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const POWERCAP: &str = "/sys/class/powercap";
const EVENT_SOURCES: &str = "/sys/bus/event_source/devices";
/// Events of memory controllers, by what they count; the kernel says how many bytes each is.
const MEMORY_EVENTS: [(&str, &str); 4] = [
    ("cas_count_read", "read from memory"),
    ("cas_count_write", "written to memory"),
    ("data_read", "read from memory"),
    ("data_write", "written to memory"),
];

pub(super) struct System {
    sources: Vec<Source>,
}

struct Source {
    counter: Counter,
    from: From,
}

enum From {
    /// Microjoules, which begin again at 0 behind the last value.
    Energy { file: File, range: u64, last: Option<u64>, sum: u64 },
    /// Events of several controllers, and bytes for each.
    Memory(Vec<(perf_event::Counter, f64)>),
}

impl System {
    /// Opens what there is.
    pub(super) fn open() -> Self {
        let mut sources = energy(Path::new(POWERCAP));
        sources.extend(memory(Path::new(EVENT_SOURCES)));
        Self { sources }
    }

    pub(super) fn described(&self) -> Vec<Counter> {
        self.sources.iter().map(|source| source.counter.clone()).collect()
    }

    pub(super) fn sample(&mut self, now: Nanos, writer: &mut Sink) -> Result<()> {
        for (source, number) in self.sources.iter_mut().zip(0..) {
            // What cannot be read this time has no row.
            if let Some(value) = source.from.read() {
                writer.push_system_sample(SystemSample { time: now, source: number, value })?;
            }
        }
        Ok(())
    }
}

impl From {
    fn read(&mut self) -> Option<u64> {
        match self {
            Self::Energy { file, range, last, sum } => {
                let now = number(file)?;
                let before = last.replace(now).unwrap_or(now);
                let more = if now >= before { now - before } else { (*range - before.min(*range)) + now };
                *sum = sum.saturating_add(more);
                Some(*sum)
            }
            Self::Memory(counters) => {
                let read = |(counter, bytes): &mut (perf_event::Counter, f64)| {
                    let data = counter.read_full().ok()?;
                    let (enabled, running) = (data.time_enabled()?, data.time_running()?);
                    let scale =
                        if running == enabled { 1.0 } else { enabled.as_secs_f64() / running.as_secs_f64() };
                    scale.is_finite().then_some(data.count() as f64 * scale * *bytes)
                };
                let sum: Option<f64> = counters.iter_mut().map(read).sum();
                sum.map(|sum| sum as u64)
            }
        }
    }
}

/// A number that a file of the kernel has now.
fn number(file: &File) -> Option<u64> {
    let mut text = [0; 32];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
}

/// Zones of the powercap interface that have no parent, and those of memory.
fn energy(folder: &Path) -> Vec<Source> {
    let mut zones: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|zone| zone.path()).collect();
    zones.sort();
    let source = |zone: &std::path::PathBuf| {
        let name = fs::read_to_string(zone.join("name")).ok()?.trim().to_owned();
        if !name.starts_with("package") && !name.starts_with("psys") && name != "dram" {
            return None;
        }
        // Only root may open it: kept open for later.
        let file = File::open(zone.join("energy_uj")).ok()?;
        let range = number(&File::open(zone.join("max_energy_range_uj")).ok()?)?;
        let place = zone.file_name()?.to_string_lossy().into_owned();
        let counter = Counter {
            name: format!("energy of {name}"),
            unit: "µJ".to_owned(),
            source: "powercap".to_owned(),
            event: place,
        };
        Some(Source { counter, from: From::Energy { file, range, last: None, sum: 0 } })
    };
    zones.iter().filter_map(source).collect()
}

/// Events of all memory controllers, by what they count.
fn memory(folder: &Path) -> Vec<Source> {
    let mut pmus: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|pmu| pmu.path()).collect();
    pmus.sort();
    let is_controller = |pmu: &&std::path::PathBuf| {
        pmu.file_name().is_some_and(|name| name.to_string_lossy().contains("imc"))
    };
    let mut sources: Vec<Source> = Vec::new();
    for pmu in pmus.iter().filter(is_controller) {
        for (event, what) in MEMORY_EVENTS {
            let Some(bytes) = bytes_each(pmu, event) else { continue };
            let Some(opened) = open(pmu, event) else { continue };
            let opened = opened.into_iter().map(|counter| (counter, bytes));
            match sources.iter_mut().find(|source| source.counter.name == what) {
                Some(Source { from: From::Memory(all), .. }) => all.extend(opened),
                _ => sources.push(Source {
                    counter: Counter {
                        name: what.to_owned(),
                        unit: "bytes".to_owned(),
                        source: "perf".to_owned(),
                        event: event.to_owned(),
                    },
                    from: From::Memory(opened.collect()),
                }),
            }
        }
    }
    sources
}

/// Bytes of one count of an event, as the kernel says by unit and scale.
fn bytes_each(pmu: &Path, event: &str) -> Option<f64> {
    let read = |end: &str| fs::read_to_string(pmu.join(format!("events/{event}{end}"))).ok();
    let scale: f64 = read(".scale")?.trim().parse().ok()?;
    let unit = match read(".unit")?.trim() {
        "MiB" => 1024.0 * 1024.0,
        "Bytes" | "B" => 1.0,
        _ => return None,
    };
    Some(scale * unit)
}

/// An event of one controller, on the CPU of each socket that reads it.
fn open(pmu: &Path, event: &str) -> Option<Vec<perf_event::Counter>> {
    let event = of_pmu(pmu.file_name()?.to_str()?, event, pmu.parent()?).ok()?;
    let cpus = cpu_list(&fs::read_to_string(pmu.join("cpumask")).ok()?);
    let open = |cpu| {
        let mut builder = builder(event);
        builder.any_pid().one_cpu(cpu).exclude_kernel(false).exclude_hv(false);
        let mut counter = builder.build().ok()?;
        counter.enable().ok()?;
        Some(counter)
    };
    cpus.into_iter().map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn energy_adds_up_over_the_end_of_its_range() {
        let folder = tempfile::tempdir().unwrap();
        let zone = folder.path().join("intel-rapl:0");
        fs::create_dir(&zone).unwrap();
        for (file, text) in
            [("name", "package-0\n"), ("energy_uj", "900\n"), ("max_energy_range_uj", "1000\n")]
        {
            fs::write(zone.join(file), text).unwrap();
        }
        let core = folder.path().join("intel-rapl:0:0");
        fs::create_dir(&core).unwrap();
        fs::write(core.join("name"), "core\n").unwrap();
        let mut sources = energy(folder.path());
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].counter.name, "energy of package-0");
        let from = &mut sources[0].from;
        assert_eq!(from.read(), Some(0));
        fs::write(zone.join("energy_uj"), "950\n").unwrap();
        assert_eq!(from.read(), Some(50));
        fs::write(zone.join("energy_uj"), "20\n").unwrap();
        assert_eq!(from.read(), Some(50 + 50 + 20));
        fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(zone.join("energy_uj"))
            .unwrap()
            .write_all(b"")
            .unwrap();
        assert_eq!(from.read(), None);
        assert!(energy(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn bytes_of_an_event_are_as_the_kernel_says() {
        let folder = tempfile::tempdir().unwrap();
        let pmu = folder.path().join("uncore_imc_0");
        fs::create_dir_all(pmu.join("events")).unwrap();
        fs::write(pmu.join("events/cas_count_read.scale"), "6.103515625e-5\n").unwrap();
        fs::write(pmu.join("events/cas_count_read.unit"), "MiB\n").unwrap();
        assert_eq!(bytes_each(&pmu, "cas_count_read"), Some(64.0));
        assert_eq!(bytes_each(&pmu, "cas_count_write"), None);
        // There is none that could be opened.
        assert!(memory(folder.path()).is_empty());
    }
}
