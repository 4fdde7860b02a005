//! What a trace costs to open, to look at and to sum up, by its number of op
//! spans, and what writing it costs. `cargo bench -p llmtrace-analysis --bench open
//! [-- MILLIONS…]` (1 and 20 without); `cargo test` runs it small.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use llmtrace_analysis::export::perfetto;
use llmtrace_analysis::fold::{fold, fold_whole};
use llmtrace_analysis::format::Source;
use llmtrace_analysis::search::matches;
use llmtrace_analysis::stats::{By, Query, distribution, stats};
use llmtrace_analysis::summary::summary;
use llmtrace_analysis::synth::{self, Options};
use llmtrace_analysis::totals::totals_in_range;
use llmtrace_analysis::{TimeRange, Trace};
use std::fs::File;
use std::hint::black_box;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, Instant};

const WIDTH: u64 = 1600;
const FRAMES: usize = 500;
const THREADS: u32 = 8;

fn main() {
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let asked: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let millions = if asked.is_empty() { vec![1, 20] } else { asked };
    let sizes = if is_bench { millions.iter().map(|n| n * 1_000_000).collect() } else { vec![30_000] };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench.llmtrace");
    for spans in sizes {
        let sink = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
        let begin = Instant::now();
        let written = synth::write(sink, &synth::gemma(128), &Options::new(spans, THREADS, 1)).unwrap();
        let seconds = begin.elapsed().as_secs_f64();
        let bytes = written.into_inner().unwrap().metadata().unwrap().len();
        println!(
            "-- {spans} op spans on {THREADS} threads: {:.2} bytes a span, generated and written at {:.1} M spans/s",
            bytes as f64 / spans as f64,
            spans as f64 / seconds / 1e6
        );
        run(&path, spans);
    }
}

fn run(path: &Path, spans: u64) {
    let open = || Trace::open(Source::from_file(File::open(path).unwrap()), &mut |_| true).unwrap();
    let few = if spans > 2_000_000 { 3 } else { 10 };
    println!("{:<44} {:>12} {:>12}", "", "p50", "p99");
    row("open", repeat(few, || open().tokens.len()));
    row("open, first complete picture", repeat(few, || first_picture(&open())));
    row("open, summary with operators", repeat(few, || with_nodes(&open())));
    let trace = open();
    trace.load_nodes(&|_| true).unwrap();
    row("one frame of a zoom, all lanes decoded", zoom(&trace));
    println!("{:<44} {:>12}", "cache after the zoom, MiB", trace.cache_bytes() >> 20);
    let whole = trace.range();
    let part = TimeRange::new(whole.end / 7, whole.end / 7 * 5);
    for (what, range) in [("whole trace", whole), ("part of it", part)] {
        let totals = || totals_in_range(&trace, range, By::Op, &|_| true).unwrap().len();
        row(&format!("totals by operator, {what}"), repeat(few, totals));
    }
    row("matches `ffn`", repeat(20, || matches(&trace, "ffn").len()));
    for by in [By::Op, By::Name] {
        let all = || stats(&trace, &Query::by(by), &|_| true).unwrap().rows.len();
        row(&format!("stats by {} (all op spans)", by.name()), repeat(few, all));
    }
    let key = &matches(&trace, "ffn_up-7")[0].key;
    row("distribution of a node", repeat(few, || distribution(&trace, key, None, &|_| true).unwrap().count));
    let begin = Instant::now();
    perfetto(&trace, whole, std::io::sink(), &mut |_| true).unwrap();
    let rate = spans as f64 / begin.elapsed().as_secs_f64() / 1e6;
    println!("{:<44} {rate:>10.1} M/s", "export to Perfetto, op spans");
}

fn first_picture(trace: &Trace) -> usize {
    let range = trace.range();
    let (mut bars, mut missing) = (Vec::new(), Vec::new());
    for lane in trace.lanes() {
        fold(trace, lane, range, (range.nanos() / WIDTH).max(1), &mut bars, &mut missing);
    }
    assert!(!bars.is_empty());
    bars.len()
}

fn with_nodes(trace: &Trace) -> usize {
    trace.load_nodes(&|_| true).unwrap();
    summary(trace).operators.len()
}

/// Wall times of a zoom's frames. Plays it three times and takes each frame's
/// fastest, so that the work of other processes does not count.
fn zoom(trace: &Trace) -> Vec<Duration> {
    let mut best = play(trace);
    for _ in 1..3 {
        best.iter_mut().zip(play(trace)).for_each(|(best, time)| *best = time.min(*best));
    }
    best
}

/// From the whole trace down to 1 µs a pixel, then panning, then out again; what
/// a frame lacks is decoded before it.
fn play(trace: &Trace) -> Vec<Duration> {
    let whole = trace.range();
    let center = whole.begin + whole.nanos() / 3;
    let first = whole.nanos() as f64;
    let last = (WIDTH * 1000) as f64;
    let (mut bars, mut missing) = (Vec::new(), Vec::new());
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
        let min_nanos = (nanos / WIDTH).max(1);
        for lane in trace.lanes() {
            bars.clear();
            fold_whole(trace, lane, range, min_nanos, &mut bars);
        }
        let started = Instant::now();
        for lane in trace.lanes() {
            bars.clear();
            fold(trace, lane, range, min_nanos, &mut bars, &mut missing);
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
    println!("{what:<44} {:>12} {:>12}", text(at(50)), text(at(99)));
}
