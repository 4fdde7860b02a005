//! Page faults, several to a row.
//!
//! An event tells that a thread enters a fault, where, and how many faults the kernel has
//! counted for it before. So the next event, the thread's end, or a look into `/proc` tells how
//! many there were, and how many had to wait for a disk. What is more than the events were made
//! by system calls (`mmap` with `MAP_POPULATE` makes all of a model's at once), which enter no
//! fault: their number is known, their addresses are not.
//!
//! A row ends where another mapping, another operator or 10 ms begin, so that their number is
//! bounded however many faults a cold model makes.

use llmtrace_format::Nanos;
use llmtrace_format::constants::NONE;
use llmtrace_format::machine::Fault;
use std::collections::HashMap;

/// Threads remembered.
const MAX_THREADS: usize = 1 << 14;
/// Longest time from the first to the last fault of a row.
const RUN_NANOS: Nanos = 10_000_000;
/// After so long without an event, `/proc` is asked.
const QUIET_NANOS: Nanos = 50_000_000;
const PAGE: u64 = 4096;

/// Faults that the kernel has counted for a thread, lower 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    minor: u32,
    major: u32,
}

impl Counts {
    pub(super) fn new(minor: u32, major: u32) -> Self {
        Self { minor, major }
    }

    /// How many all together and major ones since `before`.
    fn since(self, before: Self) -> (u32, u32) {
        let major = self.major.wrapping_sub(before.major);
        (self.minor.wrapping_sub(before.minor).saturating_add(major), major)
    }
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody knows: the mapping is gone.
    Unknown,
    /// In memory of no file.
    Anonymous {
        /// Begin of the mapping.
        mapping: u64,
    },
    /// In a file.
    File {
        /// Number of the file.
        file: usize,
        /// Offset of address 0, wrapping.
        offset: u64,
    },
}

/// Of one process.
pub(super) struct Faults {
    process: u32,
    threads: HashMap<u32, Thread>,
    rows: Vec<(Fault, Option<usize>)>,
}

#[derive(Clone, Copy, Debug)]
struct Thread {
    /// What the kernel had counted at `time`.
    known: Counts,
    time: Nanos,
    run: Option<Run>,
    /// Asleep in a fault since then.
    asleep: Option<Nanos>,
    /// What `/proc` said when nothing had happened for long.
    asked: Option<Counts>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    begin: Nanos,
    end: Nanos,
    count: u32,
    wait: u64,
    low: u64,
    high: u64,
    place: Place,
    /// Whether a further fault may belong to it.
    open: bool,
}

impl Faults {
    pub(super) fn new(process: u32) -> Self {
        Self { process, threads: HashMap::new(), rows: Vec::new() }
    }

    /// A thread enters a fault; `counts` are those of before.
    pub(super) fn fault(&mut self, time: Nanos, tid: u32, address: u64, counts: Counts, place: Place) {
        let new =
            Run { begin: time, end: time, count: 1, wait: 0, low: address, high: address, place, open: true };
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.asked = None;
            if let Some(run) = &mut thread.run
                && run.open
                && run.place == place
                && time < run.begin.saturating_add(RUN_NANOS)
                // What system calls made in between is told apart by it.
                && counts.since(thread.known).0 <= run.count
            {
                run.end = time;
                run.count = run.count.saturating_add(1);
                run.low = run.low.min(address);
                run.high = run.high.max(address);
                return;
            }
        } else if self.threads.len() >= MAX_THREADS {
            self.threads.clear();
        }
        self.resolve(time, tid, Some(counts));
        let thread = Thread { known: counts, time, run: Some(new), asleep: None, asked: None };
        self.threads.insert(tid, thread);
    }

    /// The thread does something else: the next fault belongs to that.
    pub(super) fn something_else(&mut self, tid: u32) {
        if let Some(run) = self.threads.get_mut(&tid).and_then(|thread| thread.run.as_mut()) {
            run.open = false;
        }
    }

    pub(super) fn sleeps(&mut self, time: Nanos, tid: u32) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.asleep = Some(time);
        }
    }

    pub(super) fn runs(&mut self, time: Nanos, tid: u32) {
        if let Some(thread) = self.threads.get_mut(&tid)
            && let Some(asleep) = thread.asleep.take()
            && let Some(run) = &mut thread.run
        {
            run.wait = run.wait.saturating_add(time.saturating_sub(asleep));
            run.end = run.end.max(time);
        }
    }

    pub(super) fn ended(&mut self, time: Nanos, tid: u32, counts: Counts) {
        self.resolve(time, tid, Some(counts));
        self.threads.remove(&tid);
    }

    /// Rows of what a thread did until the kernel had counted so many.
    fn resolve(&mut self, time: Nanos, tid: u32, counts: Option<Counts>) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let since = counts.map(|counts| counts.since(thread.known));
        let (from, run) = (thread.time, thread.run.take());
        (thread.known, thread.time, thread.asked) = (counts.unwrap_or(thread.known), time, None);
        let row = |begin, end, count: u32, unaddressed, major| Fault {
            begin,
            end,
            tid,
            process: self.process,
            count,
            major,
            unaddressed,
            file: NONE,
            ..Fault::default()
        };
        match run {
            None => {
                // Nothing was entered: system calls made them.
                if let Some((all, major)) = since.filter(|(all, _)| *all > 0) {
                    self.rows.push((row(from, time, all, all, major), None));
                }
            }
            Some(run) => {
                // One that ended in a signal was entered and not counted.
                let all = since.map_or(run.count, |(all, _)| all.max(run.count));
                let more = all - run.count;
                let end = if more > 0 { time } else { run.end };
                let major = since.map_or(NONE, |(_, major)| major);
                let (known, file, offset) = match run.place {
                    Place::Unknown => (0, None, 0),
                    Place::Anonymous { .. } => (1, None, 0),
                    Place::File { file, offset } => (1, Some(file), run.low.wrapping_add(offset)),
                };
                let bytes = run.high.saturating_sub(run.low).saturating_add(PAGE);
                let row = row(run.begin, end, all, more, major);
                let row = Fault { wait: run.wait, address: run.low, bytes, offset, known, ..row };
                self.rows.push((row, file));
            }
        }
    }

    /// Of threads of which nothing came for long, asks how many there were; `ask` gives `None`
    /// when the thread is gone.
    pub(super) fn settle(&mut self, until: Nanos, ask: &mut dyn FnMut(u32) -> Option<Counts>) {
        let quiet = |thread: &Thread| {
            thread.asleep.is_none()
                && thread.run.is_some_and(|run| run.end.saturating_add(QUIET_NANOS) <= until)
        };
        let tids: Vec<u32> =
            self.threads.iter().filter(|(_, thread)| quiet(thread)).map(|(tid, _)| *tid).collect();
        for tid in tids {
            let Some(thread) = self.threads.get_mut(&tid) else { continue };
            let Some(counts) = ask(tid) else {
                // Its end is seen elsewhere, and tells.
                continue;
            };
            // What was counted since the last event that came belongs to the next one, unless
            // none comes.
            let entered = thread.run.map_or(0, |run| run.count);
            if counts.since(thread.known).0 <= entered || thread.asked == Some(counts) {
                self.resolve(until, tid, Some(counts));
            } else {
                thread.asked = Some(counts);
            }
        }
    }

    pub(super) fn finish(&mut self, until: Nanos, ask: &mut dyn FnMut(u32) -> Option<Counts>) {
        let mut tids: Vec<u32> = self.threads.keys().copied().collect();
        tids.sort_unstable();
        for tid in tids {
            let counts = ask(tid);
            self.resolve(until, tid, counts);
        }
        self.threads.clear();
    }

    /// Rows that are complete, with the number of their file.
    pub(super) fn take(&mut self) -> Vec<(Fault, Option<usize>)> {
        std::mem::take(&mut self.rows)
    }
}

/// What the kernel has counted for a thread by now.
pub(super) fn counts_of(pid: u32, tid: u32) -> Option<Counts> {
    parse_counts(&std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?)
}

/// `minflt` and `majflt` of `/proc/PID/stat`; the name, in brackets, may hold anything.
fn parse_counts(stat: &str) -> Option<Counts> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(7);
    let minor: u64 = fields.next()?.parse().ok()?;
    let major: u64 = fields.nth(1)?.parse().ok()?;
    Some(Counts::new(minor as u32, major as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Place = Place::File { file: 0, offset: 0u64.wrapping_sub(0x10_0000) };

    #[test]
    fn neighbours_make_a_row_and_the_next_event_counts_them() {
        let mut faults = Faults::new(0);
        faults.fault(10, 7, 0x10_4000, Counts::new(100, 5), FILE);
        faults.sleeps(11, 7);
        faults.runs(30, 7);
        faults.fault(40, 7, 0x10_2000, Counts::new(100, 6), FILE);
        // Another operator.
        faults.something_else(7);
        faults.fault(50, 7, 0x10_6000, Counts::new(101, 6), FILE);
        faults.ended(60, 7, Counts::new(102, 6));
        let rows = faults.take();
        let row = rows.first().expect("a row").0;
        assert_eq!((row.begin, row.end, row.count, row.major, row.unaddressed), (10, 40, 2, 1, 0));
        assert_eq!((row.wait, row.address, row.bytes, row.offset), (19, 0x10_2000, 0x3000, 0x2000));
        let row = rows.get(1).expect("another").0;
        assert_eq!((row.begin, row.count, row.major), (50, 1, 0));
    }

    #[test]
    fn what_system_calls_make_is_counted_without_an_address() {
        let mut faults = Faults::new(0);
        faults.fault(10, 7, 0x5000, Counts::new(100, 0), Place::Anonymous { mapping: 0x5000 });
        // mmap with MAP_POPULATE.
        faults.fault(90, 7, 0x6000, Counts::new(4101, 60), Place::Anonymous { mapping: 0x5000 });
        let row = faults.take().first().expect("a row").0;
        assert_eq!((row.count, row.unaddressed, row.major, row.end), (4061, 4060, 60, 90));
        // And again, after everything was settled.
        faults.settle(QUIET_NANOS + 100, &mut |_| Some(Counts::new(4102, 60)));
        assert_eq!(faults.take().len(), 1);
        faults.fault(QUIET_NANOS + 200, 7, 0x7000, Counts::new(4110, 60), Place::Unknown);
        let row = faults.take().first().expect("a row").0;
        assert_eq!((row.count, row.unaddressed, row.address, row.known), (8, 8, 0, 0));
        // Nobody can be asked: one was entered, whatever became of it.
        faults.finish(QUIET_NANOS + 300, &mut |_| None);
        let row = faults.take().first().expect("a row").0;
        assert_eq!((row.count, row.major, row.known), (1, NONE, 0));
    }

    #[test]
    fn a_count_that_still_grows_waits_for_its_event() {
        let mut faults = Faults::new(0);
        faults.fault(10, 7, 0x5000, Counts::new(100, 0), FILE);
        let later = QUIET_NANOS + 10;
        faults.settle(later, &mut |_| Some(Counts::new(103, 0)));
        assert!(faults.take().is_empty());
        faults.settle(later + 1, &mut |_| Some(Counts::new(103, 0)));
        let row = faults.take().first().expect("a row").0;
        assert_eq!((row.count, row.unaddressed), (3, 2));
    }

    #[test]
    fn names_of_threads_may_be_anything() {
        let stat = "42 (a) 7 8 9) R 1 42 42 0 -1 4194560 1203 7 15 3 1 2 0 0 20 0 1 0";
        assert_eq!(parse_counts(stat), Some(Counts::new(1203, 15)));
        assert_eq!(parse_counts("42 (a"), None);
        let ours = std::process::id();
        assert!(counts_of(ours, ours).expect("we are there").minor > 0);
    }
}
