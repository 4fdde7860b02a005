//! Opening and looking at a trace of one million op spans, in a table.
//! `cargo bench -p llmtrace-analysis`; `cargo test` runs it small.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use llmtrace_analysis::fold::{fold, fold_summary};
use llmtrace_analysis::format::Source;
use llmtrace_analysis::search::matches;
use llmtrace_analysis::stats::{By, Query, stats, totals_in_range};
use llmtrace_analysis::summary::summary;
use llmtrace_analysis::synth::{self, Options};
use llmtrace_analysis::{TimeRange, Trace};
use std::hint::black_box;
use std::time::{Duration, Instant};

const WIDTH: u64 = 1600;
const FRAMES: usize = 500;

fn main() {
    let spans = if std::env::args().any(|arg| arg == "--bench") { 1_000_000 } else { 20_000 };
    println!("{:<44} {:>10} {:>10}", format!("{spans} op spans"), "p50", "p99");
    for threads in [1, 2, 8] {
        let bytes = synth::bytes(&Options::new(spans, threads, 1)).unwrap();
        let mib = bytes.len() as f64 / (1 << 20) as f64;
        println!("-- {threads} threads, {mib:.1} MiB, {:.2} bytes a span", bytes.len() as f64 / spans as f64);
        run(&bytes);
    }
}

fn run(bytes: &[u8]) {
    let open = || Trace::open(Source::Bytes(bytes.to_vec()), &mut |_| true).unwrap();
    row("Trace::open", repeat(10, || open().tokens.len()));
    row("to the first picture: open, fold_summary", repeat(10, || first_picture(&open())));
    row("Trace::load_spans", repeat(10, || open().load_spans(&|_| true).is_ok()));
    let trace = open();
    trace.load_spans(&|_| true).unwrap();
    row("one frame of a zoom: fold of all lanes", zoom(&trace));
    row("summary", repeat(20, || summary(&trace).operators.len()));
    for by in By::ALL {
        row(&format!("stats by {}", by.name()), repeat(20, || stats(&trace, &Query::by(by)).rows.len()));
    }
    row("totals_in_range, whole trace", repeat(20, || totals_in_range(&trace, trace.range()).len()));
    row("matches `ffn`", repeat(20, || matches(&trace, "ffn").len()));
}

fn first_picture(trace: &Trace) -> usize {
    let range = trace.range();
    let mut bars = Vec::new();
    for summary in &trace.file.summaries {
        fold_summary(summary, range, (range.nanos() / WIDTH).max(1), &mut bars);
    }
    assert!(!bars.is_empty());
    bars.len()
}

/// Wall times of a zoom's frames. Plays it five times and takes each frame's
/// fastest, so that the work of other processes does not count.
fn zoom(trace: &Trace) -> Vec<Duration> {
    let mut best = play(trace);
    for _ in 1..5 {
        best.iter_mut().zip(play(trace)).for_each(|(best, time)| *best = time.min(*best));
    }
    best
}

/// From the whole trace down to 1 µs a pixel, then panning, then out again.
fn play(trace: &Trace) -> Vec<Duration> {
    let whole = trace.range();
    let center = whole.begin + whole.nanos() / 3;
    let first = whole.nanos() as f64;
    let last = (WIDTH * 1000) as f64;
    let mut bars = Vec::new();
    let mut times = Vec::with_capacity(FRAMES);
    for frame in 0..FRAMES {
        let third = FRAMES / 3;
        let (depth, pan) = match frame / third {
            0 => (frame as f64 / third as f64, 0),
            1 => (1.0, (frame - third) as u64),
            _ => (1.0 - (frame - 2 * third) as f64 / (third + 2) as f64, third as u64),
        };
        let nanos = (first * (last / first).powf(depth)) as u64;
        let begin = (center + pan * nanos / 20).saturating_sub(nanos / 2);
        let range = TimeRange::new(begin, begin + nanos);
        let started = Instant::now();
        for lane in trace.lanes() {
            bars.clear();
            fold(lane, range, (nanos / WIDTH).max(1), &mut bars);
            black_box(&bars);
        }
        times.push(started.elapsed());
    }
    times
}

fn repeat<T>(times: usize, mut work: impl FnMut() -> T) -> Vec<Duration> {
    let once = |_| {
        let started = Instant::now();
        black_box(work());
        started.elapsed()
    };
    (0..times).map(once).collect()
}

fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    let text = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
    println!("{what:<44} {:>10} {:>10}", text(at(50)), text(at(99)));
}
