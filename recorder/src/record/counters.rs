//! What is counted for each node: the list that was asked for, as far as this machine
//! can count it.
//!
//! ```text
//! --counters LIST ─► catalog ─┬─ task:  the kernel side reads the thread's own counts
//!                             └─ event: opened here, for each CPU; kernel side adds up by thread
//! ```
//!
//! Hardware events are opened as a group for each CPU, so that they count the same time.
//! Where the PMU has too few counters for all of them, they take turns; what was counted
//! only for a part of a node's time is scaled, and marked.

mod catalog;
mod watch;

pub(super) use catalog::{builder, of_pmu};
pub(super) use watch::Watch;

use catalog::{EVENT_SOURCES, Event, INSTEAD, NAMED, What, resolve, split};
use llmtrace_bpf::types::{event_counters, event_more_counters};
use llmtrace_format::counters::MAX_COUNTERS;
use llmtrace_format::meta::{Counter, Source};
use perf_event::Counter as Opened;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Twins of events.h.
const UNKNOWN: u32 = u32::MAX;
const SHIFTED: u32 = 1 << 31;
const SCALED: u32 = 1 << 30;
const SHIFT: u32 = 12;

/// Packed counts of one arrival at a barrier, by counter.
pub(super) type Packed = [u32; MAX_COUNTERS];
/// Nothing is known.
pub(super) const NOTHING: Packed = [UNKNOWN; MAX_COUNTERS];

/// A count, and whether it was scaled; `None` when it is unknown.
pub(super) fn unpack(packed: u32) -> Option<(u64, bool)> {
    if packed == UNKNOWN {
        return None;
    }
    let value = u64::from(packed & (SCALED - 1));
    let value = if packed & SHIFTED != 0 { value << SHIFT } else { value };
    Some((value, packed & SCALED != 0))
}

/// Counts of an event of the kernel side, with unknown ones for the others.
pub(super) fn first(event: &event_counters) -> Packed {
    let mut packed = NOTHING;
    packed.iter_mut().zip(event.counts).for_each(|(to, from)| *to = from);
    packed
}

/// Adds those of its second part.
pub(super) fn further(packed: &mut Packed, event: &event_more_counters) {
    packed
        .iter_mut()
        .skip(event_counters::default().counts.len())
        .zip(event.counts)
        .for_each(|(to, from)| *to = from);
}

/// What is counted.
#[derive(Default)]
pub(super) struct Counters {
    chosen: Vec<(Counter, What)>,
    /// Of each event: the counter, and one for each CPU.
    opened: Vec<(usize, Vec<(usize, Opened)>)>,
    /// What is not counted, and what else there is to say.
    pub(super) missing: Vec<Source>,
    /// The same in words, for whoever records.
    pub(super) notes: Vec<String>,
}

impl Counters {
    /// What can be counted of a list.
    pub(super) fn choose(list: &str) -> Self {
        let mut counters = Self::default();
        let mut refused: Vec<(String, String)> = Vec::new();
        let mut no_pmu: Vec<&str> = Vec::new();
        for name in split(list) {
            match resolve(name, Path::new(EVENT_SOURCES)) {
                Ok(what) => match counters.add(name, what) {
                    Err(Refusal::NoPmu) => no_pmu.push(name),
                    Err(Refusal::Other(reason)) => refused.push((name.to_owned(), reason)),
                    Ok(()) => {}
                },
                Err(reason) => refused.push((name.to_owned(), reason)),
            }
        }
        let asked_for_some = counters.chosen.len();
        if counters.chosen.is_empty() {
            for name in INSTEAD {
                if let Ok(what) = resolve(name, Path::new(EVENT_SOURCES)) {
                    // What the kernel counts anyway is never refused.
                    let _ = counters.add(name, what);
                }
            }
        }
        for (name, reason) in refused {
            counters.notes.push(format!("{name} is not counted: {reason}"));
            counters.missing.push(Source { name, recorded: false, reason });
        }
        let names = counters.names();
        let instead = if asked_for_some == 0 { " instead" } else { "" };
        if !no_pmu.is_empty() {
            let what = no_pmu.join(", ");
            counters.notes.push(format!(
                "this machine shows no PMU that counts {what} (a virtual machine?); counted{instead}: {names}"
            ));
            let reason = "no PMU that counts it";
            let missing =
                |name: &&str| Source { name: (*name).to_owned(), recorded: false, reason: reason.into() };
            counters.missing.extend(no_pmu.iter().map(missing));
        } else if asked_for_some == 0 {
            counters.notes.push(format!("counted instead: {names}"));
        }
        counters
    }

    fn names(&self) -> String {
        self.chosen.iter().map(|(counter, _)| counter.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, name: &str, what: What) -> Result<(), Refusal> {
        if self.chosen.iter().any(|(_, other)| *other == what) {
            return Ok(());
        }
        if self.chosen.len() >= MAX_COUNTERS {
            return Err(Refusal::Other(format!("{MAX_COUNTERS} counters are the most")));
        }
        let unit = if what == What::Task(catalog::Task::Clock) { "ns" } else { "" }.to_owned();
        let (source, event) = match what {
            What::Task(_) => ("task", String::new()),
            What::Event(event) => ("perf", event.text()),
        };
        if let What::Event(event) = what {
            let opened = self.open(name, event)?;
            self.opened.push((self.chosen.len(), opened));
        }
        self.chosen.push((Counter { name: name.to_owned(), unit, source: source.to_owned(), event }, what));
        Ok(())
    }

    /// Opens an event on each CPU that is online, in the group of the first hardware event
    /// where that has room.
    fn open(&mut self, name: &str, event: Event) -> Result<Vec<(usize, Opened)>, Refusal> {
        let leader = self.opened.iter_mut().find(|(counter, _)| {
            matches!(self.chosen.get(*counter), Some((_, What::Event(other))) if other.is_hardware())
        });
        let mut leaders = leader.filter(|_| event.is_hardware()).map(|(_, opened)| opened);
        let mut opened = Vec::new();
        let mut alone = false;
        for cpu in online_cpus() {
            let leader = leaders.as_mut().and_then(|all| all.iter_mut().find(|(of, _)| *of == cpu));
            let grouped = leader.and_then(|(_, leader)| open_one(event, cpu, Some(leader)).ok());
            alone |= leaders.is_some() && grouped.is_none();
            let counter = grouped.map_or_else(|| open_one(event, cpu, None), Ok);
            opened.push((cpu, counter.map_err(|error| refusal(&error))?));
        }
        if alone {
            self.notes.push(format!(
                "{name} finds no room beside the other hardware counters: they take turns, and counts are scaled"
            ));
        }
        if opened.is_empty() { Err(Refusal::Other("no CPU is online".to_owned())) } else { Ok(opened) }
    }

    /// For the description of the recording.
    pub(super) fn described(&self) -> Vec<Counter> {
        self.chosen.iter().map(|(counter, _)| counter.clone()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// What each is to the kernel side.
    pub(super) fn kinds(&self) -> [u32; MAX_COUNTERS] {
        let mut kinds = [0; MAX_COUNTERS];
        for (kind, (_, what)) in kinds.iter_mut().zip(&self.chosen) {
            *kind = match what {
                What::Task(task) => *task as u32,
                What::Event(_) => 0,
            };
        }
        kinds
    }

    /// Events: the counter, the CPU and what is open.
    pub(super) fn events(&self) -> impl Iterator<Item = (usize, usize, &Opened)> {
        self.opened
            .iter()
            .flat_map(|(counter, cpus)| cpus.iter().map(move |(cpu, open)| (*counter, *cpu, open)))
    }
}

/// Opens an event on one CPU, counting. PMUs that cannot leave the kernel out count it, too.
fn open_one(event: Event, cpu: usize, leader: Option<&mut Opened>) -> io::Result<Opened> {
    let mut builder = builder(event);
    builder.any_pid().one_cpu(cpu);
    let mut counter = match leader {
        Some(leader) => builder.build_with_group(leader)?,
        None => builder.build().or_else(|error| match error.kind() {
            io::ErrorKind::InvalidInput => builder.exclude_kernel(false).exclude_hv(false).build(),
            _ => Err(error),
        })?,
    };
    counter.enable()?;
    Ok(counter)
}

/// Why an event is not counted.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// Nothing here counts it.
    NoPmu,
    Other(String),
}

fn refusal(error: &io::Error) -> Refusal {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::ENODEV | Errno::ENXIO) => Refusal::NoPmu,
        Some(Errno::EACCES | Errno::EPERM) => {
            let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
            Refusal::Other(format!(
                "the kernel refuses (perf_event_paranoid is {}): run as root, or with CAP_PERFMON",
                paranoid.trim()
            ))
        }
        Some(Errno::EINVAL) => Refusal::Other("the PMU does not count such an event".to_owned()),
        Some(Errno::EMFILE) => Refusal::Other("too many files are open (ulimit -n)".to_owned()),
        _ => Refusal::Other(error.to_string()),
    }
}

/// CPUs by number, from a list such as `0-3,6`.
fn online_cpus() -> Vec<usize> {
    cpu_list(&fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default())
}

pub(super) fn cpu_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?.min(1 << 16))
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// One line on what this machine counts, and whether all hardware counters are there.
pub(super) fn pmu() -> (bool, String) {
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    let paranoid = paranoid.trim();
    let cycles = NAMED.iter().find(|named| named.name == "cycles").map(|named| named.what);
    let refused = match cycles {
        Some(What::Event(event)) => open_one(event, 0, None).err(),
        _ => None,
    };
    match refused.map(|error| refusal(&error)) {
        None => (true, format!("a PMU counts cycles; perf_event_paranoid is {paranoid}")),
        Some(Refusal::NoPmu) => (
            false,
            format!(
                "no PMU: --counters counts {} and what else the kernel counts itself; perf_event_paranoid is {paranoid}",
                INSTEAD.join(", ")
            ),
        ),
        Some(Refusal::Other(reason)) => (false, format!("hardware events are not counted: {reason}")),
    }
}

/// Prints what `--counters` takes, and what of it this machine counts.
///
/// # Errors
/// When nobody listens.
pub(crate) fn help(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Counters for --counters, at most {MAX_COUNTERS}, separated by commas:\n")?;
    for named in NAMED {
        let available = match named.what {
            What::Task(_) => "yes",
            What::Event(event) => match open_one(event, 0, None).map_err(|error| refusal(&error)) {
                Ok(_) => "yes",
                Err(Refusal::NoPmu) => "no PMU",
                Err(Refusal::Other(_)) => "refused",
            },
        };
        writeln!(out, "  {:24} {available:8} {}", named.name, named.about)?;
    }
    writeln!(out, "  {:24} {:8} event of the CPU's PMU by its number, such as r01c2", "rHEX", "")?;
    writeln!(out, "  {:24} {:8} event of a PMU by its name, or by fields", "PMU/EVENT/, PMU/F=N,…/", "")?;
    let mut pmus: Vec<String> = fs::read_dir(EVENT_SOURCES)
        .map(|found| found.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    pmus.sort();
    writeln!(out, "\nPMUs here: {}\n{}", pmus.join(", "), pmu().1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_counts_come_apart_and_unknown_stays_unknown() {
        assert_eq!(unpack(UNKNOWN), None);
        assert_eq!(unpack(0), Some((0, false)));
        assert_eq!(unpack(SCALED | 7), Some((7, true)));
        assert_eq!(unpack(SHIFTED | 3), Some((3 << 12, false)));
        let mut packed = first(&event_counters { counts: [1, 2, 3, UNKNOWN], ..Default::default() });
        further(&mut packed, &event_more_counters { counts: [5, 6, 7, 8], ..Default::default() });
        assert_eq!(packed, [1, 2, 3, UNKNOWN, 5, 6, 7, 8]);
    }

    #[test]
    fn what_cannot_be_counted_is_said_and_the_rest_is() {
        let counters = Counters::choose("page-faults,page-fautls,task-clock,faults");
        assert_eq!(counters.names(), "page-faults, task-clock");
        assert_eq!(counters.kinds()[..3], [1, 8, 0]);
        assert!(
            counters.notes[0].contains("page-fautls is not counted")
                && counters.notes[0].contains("page-faults")
        );
        assert_eq!(counters.missing.len(), 1);
        let nothing = Counters::choose("xyz");
        assert_eq!(nothing.names(), INSTEAD.join(", "));
        assert!(nothing.notes.iter().any(|note| note.contains("counted instead")));
        let many: Vec<&str> = NAMED.iter().take(8).map(|named| named.name).collect();
        assert_eq!(Counters::choose(&many.join(",")).len(), 8);
        let more: Vec<&str> = NAMED.iter().take(10).map(|named| named.name).collect();
        let more = Counters::choose(&more.join(","));
        assert_eq!((more.len(), more.missing.len()), (8, 2));
        assert!(more.missing.iter().all(|missing| missing.reason.contains("8 counters are the most")));
    }

    #[test]
    fn a_thread_without_capabilities_is_told_why_and_counts_the_rest() {
        let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
        let choose = || {
            // They are of this thread only.
            caps::clear(None, caps::CapSet::Effective).expect("one may always have less");
            Counters::choose("task-clock,software/config=2/,page-faults")
        };
        let counters = std::thread::spawn(choose).join().expect("it chooses");
        if paranoid.trim().parse::<i32>().is_ok_and(|paranoid| paranoid <= 0) {
            assert_eq!(counters.len(), 3);
            return;
        }
        assert_eq!(counters.names(), "task-clock, page-faults");
        assert_eq!(counters.missing.len(), 1);
        let why = format!("perf_event_paranoid is {}", paranoid.trim());
        assert!(counters.notes.len() == 1 && counters.notes[0].contains(&why), "{:?}", counters.notes);
        assert!(counters.notes[0].contains("CAP_PERFMON"), "{:?}", counters.notes);
    }

    #[test]
    fn errors_of_the_kernel_are_told_apart() {
        let of = |errno: nix::errno::Errno| refusal(&io::Error::from_raw_os_error(errno as i32));
        assert_eq!(of(nix::errno::Errno::ENOENT), Refusal::NoPmu);
        let Refusal::Other(text) = of(nix::errno::Errno::EACCES) else { panic!("refused") };
        assert!(text.contains("perf_event_paranoid") && text.contains("CAP_PERFMON"));
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(cpu_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(cpu_list(""), [0usize; 0]);
    }
}
