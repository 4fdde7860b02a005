//! Hostile files: each opens or is refused, what is wrong is named, and memory stays within four
//! times the file and 64 MiB. In a binary of its own, as the allocator counts all of it.
#![expect(unsafe_code, reason = "an allocator that counts")]

use llmtrace_format::Source;
use llmtrace_format::check::check;
use llmtrace_testing::{hostile, targets};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that were in use at once, beyond what was before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed).saturating_sub(before)
}

/// One test, since the counts are the process's.
#[test]
fn hostile_files_take_no_more_than_their_share() {
    let mut over = Vec::new();
    for file in hostile::all().unwrap() {
        let most = 4 * file.bytes.len() + (64 << 20);
        for what in ["open", "tables", "answers"] {
            let target = match what {
                "open" => targets::open,
                "tables" => targets::decode_tables,
                _ => targets::answers,
            };
            // A million rows, gone through some twenty times: too much without optimisation.
            if (file.name, what) == ("constant-spans", "answers") {
                continue;
            }
            let peak = peak_of(|| target(&file.bytes));
            println!("{} {what}: {} KiB of {} KiB", file.name, peak >> 10, file.bytes.len() >> 10);
            if peak > most {
                over.push(format!("{} {what}: {} MiB of {} bytes", file.name, peak >> 20, file.bytes.len()));
            }
        }
        let checked = check(Source::Bytes(file.bytes.clone()), &mut |_| true).unwrap();
        let found: Vec<&str> = checked.problems.iter().map(|problem| problem.kind.text().0).collect();
        assert!(file.problem.is_none_or(|kind| found.contains(&kind)), "{}: {found:?}", file.name);
    }
    assert!(over.is_empty(), "{over:#?}");
}
