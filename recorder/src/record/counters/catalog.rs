//! Counters by name: what can be asked for, and what each is to the kernel.

use perf_event::Builder;
use perf_event::events::Software;
use std::fs;
use std::path::Path;

/// Where the kernel lists what counts events.
pub(super) const EVENT_SOURCES: &str = "/sys/bus/event_source/devices";
/// How alike a name must be to be suggested, from 0 to 1.
const ALIKE: f64 = 0.82;

/// Counted for each thread by the kernel anyway; twin of `enum counter_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Task {
    PageFaults = 1,
    MinorFaults = 2,
    MajorFaults = 3,
    ContextSwitches = 4,
    VoluntarySwitches = 5,
    InvoluntarySwitches = 6,
    Migrations = 7,
    Clock = 8,
}

/// An event, as `perf_event_open` is told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Event {
    pub(super) kind: u32,
    pub(super) config: u64,
    pub(super) config1: u64,
    pub(super) config2: u64,
}

/// `PERF_TYPE_…` of the kernel's interface.
const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
const CACHE: u32 = 3;
const RAW: u32 = 4;

impl Event {
    const fn new(kind: u32, config: u64) -> Self {
        Self { kind, config, config1: 0, config2: 0 }
    }

    /// Whether a PMU counts it.
    pub(super) fn is_hardware(self) -> bool {
        self.kind != SOFTWARE
    }

    /// As text, for the trace.
    pub(super) fn text(self) -> String {
        let more =
            |name: &str, value: u64| if value == 0 { String::new() } else { format!(", {name} {value:#x}") };
        let Self { kind, config, config1, config2 } = self;
        format!("type {kind}, config {config:#x}{}{}", more("config1", config1), more("config2", config2))
    }
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Task(Task),
    Event(Event),
}

/// A counter that has a name.
pub(super) struct Named {
    pub(super) name: &'static str,
    alias: &'static str,
    pub(super) what: What,
    pub(super) about: &'static str,
}

const fn task(name: &'static str, alias: &'static str, task: Task, about: &'static str) -> Named {
    Named { name, alias, what: What::Task(task), about }
}

const fn hardware(name: &'static str, alias: &'static str, config: u64, about: &'static str) -> Named {
    Named { name, alias, what: What::Event(Event::new(HARDWARE, config)), about }
}

/// `cache`, operation and result are those of `enum perf_hw_cache_id` and its like.
const fn cache(name: &'static str, cache: u64, operation: u64, result: u64, about: &'static str) -> Named {
    let config = cache | operation << 8 | result << 16;
    Named { name, alias: "", what: What::Event(Event::new(CACHE, config)), about }
}

/// All of them.
pub(super) const NAMED: &[Named] = &[
    task("page-faults", "faults", Task::PageFaults, "pages that had to be mapped"),
    task("minor-faults", "", Task::MinorFaults, "of them, those that were in memory"),
    task("major-faults", "", Task::MajorFaults, "of them, those that were read from disk"),
    task("context-switches", "cs", Task::ContextSwitches, "times that the thread lost its CPU"),
    task("voluntary-switches", "", Task::VoluntarySwitches, "of them, because it slept"),
    task("involuntary-switches", "", Task::InvoluntarySwitches, "of them, because another thread came"),
    task("cpu-migrations", "migrations", Task::Migrations, "times that it went on on another CPU"),
    task("task-clock", "", Task::Clock, "nanoseconds on a CPU, without interrupts"),
    hardware("cycles", "cpu-cycles", 0, "CPU cycles in user mode"),
    hardware("instructions", "", 1, "instructions retired in user mode"),
    hardware("cache-references", "", 2, "accesses of the last cache"),
    hardware("cache-misses", "", 3, "of them, those that went to memory"),
    hardware("branches", "branch-instructions", 4, "branches retired"),
    hardware("branch-misses", "", 5, "of them, those predicted wrongly"),
    hardware("bus-cycles", "", 6, "cycles of the bus"),
    hardware("stalled-cycles-frontend", "", 7, "cycles without an instruction to begin"),
    hardware("stalled-cycles-backend", "", 8, "cycles in which none could end"),
    hardware("ref-cycles", "", 9, "cycles at the nominal frequency"),
    cache("L1-dcache-loads", 0, 0, 0, "loads"),
    cache("L1-dcache-load-misses", 0, 0, 1, "loads that the first cache did not have"),
    cache("LLC-loads", 2, 0, 0, "loads that reached the last cache"),
    cache("LLC-load-misses", 2, 0, 1, "of them, those that went to memory"),
    cache("dTLB-load-misses", 3, 0, 1, "loads whose page had to be looked up"),
    cache("node-load-misses", 6, 0, 1, "loads from memory of another node"),
];

/// What is counted when nothing that was asked for can be.
pub(super) const INSTEAD: [&str; 3] = ["page-faults", "context-switches", "task-clock"];

/// Cuts a list at its commas, but for those within `pmu/…/`.
pub(super) fn split(list: &str) -> Vec<&str> {
    let mut inside = false;
    let comma = |c: char| {
        inside ^= c == '/';
        c == ',' && !inside
    };
    list.split(comma).map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// What a name stands for: one of [`NAMED`], `rHEX`, or `pmu/event/` and
/// `pmu/term=value,…/` as perf has them.
///
/// # Errors
/// Why it stands for nothing here.
pub(super) fn resolve(name: &str, sources: &Path) -> Result<What, String> {
    let is_it = |named: &&Named| {
        named.name.eq_ignore_ascii_case(name)
            || !named.alias.is_empty() && named.alias.eq_ignore_ascii_case(name)
    };
    if let Some(named) = NAMED.iter().find(is_it) {
        return Ok(named.what);
    }
    if let Some(raw) = name.strip_prefix('r').and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
        return Ok(What::Event(Event::new(RAW, raw)));
    }
    match name.strip_suffix('/').and_then(|name| name.split_once('/')) {
        Some((pmu, terms)) => of_pmu(pmu, terms, sources).map(What::Event),
        None => Err(format!("there is no counter of this name{}", suggestion(name))),
    }
}

/// An event of a PMU that the kernel describes in a folder.
pub(in super::super) fn of_pmu(pmu: &str, terms: &str, sources: &Path) -> Result<Event, String> {
    let folder = sources.join(pmu);
    let kind = fs::read_to_string(folder.join("type")).ok().and_then(|kind| kind.trim().parse().ok());
    let Some(kind) = kind.filter(|_| !pmu.is_empty() && !pmu.contains('.')) else {
        let mut names: Vec<String> = fs::read_dir(sources)
            .map(|found| {
                found.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            })
            .unwrap_or_default();
        names.sort();
        return Err(format!("this machine has no PMU {pmu}; it has {}", names.join(", ")));
    };
    let mut event = Event { kind, ..Event::default() };
    for term in terms.split(',').filter(|term| !term.is_empty()) {
        set(&mut event, &folder, term, true).map_err(|reason| format!("{pmu}: {reason}"))?;
    }
    Ok(event)
}

/// Sets one term, which is `config=N`, `field=N`, `field`, or the name of an event, which
/// stands for terms again.
fn set(event: &mut Event, folder: &Path, term: &str, with_events: bool) -> Result<(), String> {
    let (key, value) = term.split_once('=').unwrap_or((term, "1"));
    let number = match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => value.parse(),
    };
    let number = number.map_err(|_| format!("{value} is no number"))?;
    let is_name = !key.is_empty() && !key.contains(['/', '.']);
    let read = |file: String| fs::read_to_string(folder.join(file)).ok().filter(|_| is_name);
    let (config, bits) = if ["config", "config1", "config2"].contains(&key) {
        (key.to_owned(), "0-63".to_owned())
    } else if let Some(format) = read(format!("format/{key}")) {
        let (config, bits) =
            format.trim().split_once(':').ok_or(format!("the format of {key} is not understood"))?;
        (config.to_owned(), bits.to_owned())
    } else if let Some(terms) = read(format!("events/{key}")).filter(|_| with_events && key == term) {
        return terms.trim().split(',').try_for_each(|term| set(event, folder, term, false));
    } else {
        return Err(format!("there is no event or field {key}"));
    };
    let word = match config.as_str() {
        "config" => &mut event.config,
        "config1" => &mut event.config1,
        "config2" => &mut event.config2,
        other => return Err(format!("{key} lies in {other}, which is not supported")),
    };
    spread(word, number, &bits).ok_or(format!("{value} does not fit into {key}"))
}

/// Puts a number into the bits of a field such as `0-7,32-35`, the lowest first; `None` when
/// it has more bits or these are none.
fn spread(word: &mut u64, mut number: u64, bits: &str) -> Option<()> {
    for range in bits.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let width = last.checked_sub(first)?.checked_add(1).filter(|_| last < 64)?;
        let mask = u64::MAX >> (64 - width);
        *word = *word & !(mask << first) | (number & mask) << first;
        number = number.checked_shr(width).unwrap_or(0);
    }
    (number == 0).then_some(())
}

/// What may have been meant.
fn suggestion(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let alike = |named: &Named| strsim::jaro_winkler(&lower, &named.name.to_ascii_lowercase());
    let mut near: Vec<(f64, &str)> =
        NAMED.iter().map(|named| (alike(named), named.name)).filter(|(alike, _)| *alike >= ALIKE).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    match near.get(..2).unwrap_or(&near) {
        [] => "; --counters help lists all".to_owned(),
        [(_, one)] => format!("; did you mean {one}?"),
        [(_, one), (_, other), ..] => format!("; did you mean {one} or {other}?"),
    }
}

/// A builder for an event, on whatever it is told to count on.
pub(in super::super) fn builder(event: Event) -> Builder<'static> {
    let mut builder = Builder::new(Software::DUMMY);
    let attrs = builder.attrs_mut();
    (attrs.type_, attrs.config) = (event.kind, event.config);
    (attrs.config1, attrs.config2) = (event.config1, event.config2);
    // The kernel's part of an operator is that of our probes, mostly. Faults are taken from
    // user mode, and the kernel's clocks know no mode.
    builder.exclude_kernel(event.is_hardware()).exclude_hv(event.is_hardware());
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_within_a_pmu_separate_nothing() {
        let list = "cycles, cpu/event=0x3c,umask=1/,,task-clock";
        assert_eq!(split(list), ["cycles", "cpu/event=0x3c,umask=1/", "task-clock"]);
    }

    #[test]
    fn names_are_found_and_near_ones_suggested() {
        let resolve = |name| resolve(name, Path::new("/nowhere"));
        assert_eq!(resolve("Faults"), Ok(What::Task(Task::PageFaults)));
        assert_eq!(resolve("cpu-cycles"), Ok(What::Event(Event::new(HARDWARE, 0))));
        assert_eq!(resolve("r01c2"), Ok(What::Event(Event::new(RAW, 0x1c2))));
        assert_eq!(resolve("LLC-load-misses"), Ok(What::Event(Event::new(CACHE, 0x1_0002))));
        let error = resolve("page-fault").unwrap_err();
        assert!(error.contains("did you mean page-faults"), "{error}");
        assert!(resolve("xyz").unwrap_err().contains("--counters help"));
        assert!(resolve("imc/reads/").unwrap_err().contains("no PMU imc"));
        for name in NAMED {
            assert_eq!(resolve(name.name), Ok(name.what), "{}", name.name);
        }
    }

    #[test]
    fn events_of_a_pmu_come_from_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cpu = folder.path().join("cpu");
        for (file, text) in [
            ("type", "4\n"),
            ("format/event", "config:0-7,32-35\n"),
            ("format/umask", "config:8-15\n"),
            ("events/cpu-cycles", "event=0x3c\n"),
            ("events/slots", "event=0x00,umask=0x4\n"),
        ] {
            let path = cpu.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let resolve = |name| resolve(name, folder.path());
        assert_eq!(resolve("cpu/cpu-cycles/"), Ok(What::Event(Event::new(4, 0x3c))));
        assert_eq!(resolve("cpu/event=0xc0,umask=1/"), Ok(What::Event(Event::new(4, 0x1c0))));
        // AMD's numbers of events are in two parts.
        assert_eq!(resolve("cpu/event=0x1c0/"), Ok(What::Event(Event::new(4, 0x1_0000_00c0))));
        assert!(resolve("cpu/event=0x1c000/").unwrap_err().contains("does not fit"));
        assert!(resolve("cpu/event=x/").unwrap_err().contains("no number"));
        assert_eq!(resolve("cpu/slots/"), Ok(What::Event(Event::new(4, 0x400))));
        assert_eq!(
            resolve("cpu/config=0x12,config1=7/"),
            Ok(What::Event(Event { kind: 4, config: 0x12, config1: 7, config2: 0 }))
        );
        assert!(resolve("cpu/nothing/").unwrap_err().contains("no event or field nothing"));
        assert!(resolve("../cpu/slots/").unwrap_err().contains("no PMU"));
    }
}
