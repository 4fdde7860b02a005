//! Time of a frame while zooming and panning over a million op spans: CPU time of
//! the interface's thread where the system tells it, else on the clock, which is
//! more while other threads decode op spans: the real interface on 1600×900 points, tessellated but not
//! rasterised, alone and with all that can lie over the lanes; the time from opening a file to the first
//! complete picture; memory. With a second file both are compared: also the time until both are in sight,
//! and until the comparison is there. `cargo bench -p llmtrace-viewer --bench frame [-- FILE [SECOND]]`.

use egui::{
    Event, Modifiers, MouseWheelSource, MouseWheelUnit, Pos2, RawInput, Rect, TouchPhase, pos2, vec2,
};
use llmtrace_analysis::synth::{Options, bytes};
use llmtrace_analysis::{Found, Place, TimeRange};
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::counters::CounterView;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::session::{Change, Metric};
use llmtrace_viewer::state::{Document, Highlight, Open, Page};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FRAMES: u32 = 1000;
/// Time between two frames of a display.
const DISPLAY: Duration = Duration::from_micros(16_667);
const SIZE: egui::Vec2 = vec2(1600.0, 900.0);

/// The app without a window.
struct Bench {
    context: egui::Context,
    app: ViewerApp,
    time: f64,
}

impl Bench {
    fn new() -> Self {
        let context = egui::Context::default();
        let mut app = ViewerApp::new(&context, Store::default(), Jobs::Threads);
        app.state.page = Page::Timeline;
        Self { context, app, time: 0.0 }
    }

    /// One frame; its time.
    fn frame(&mut self, events: Vec<Event>) -> Duration {
        self.time += 1.0 / 60.0;
        let input = RawInput {
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, SIZE)),
            time: Some(self.time),
            events,
            ..RawInput::default()
        };
        let begin = thread_time();
        self.app.receive(&self.context);
        let output = self.context.run_ui(input, |ui| self.app.draw(ui));
        let mut textures = output.textures_delta;
        let primitives = self.context.tessellate(output.shapes, output.pixels_per_point);
        let elapsed = thread_time().saturating_sub(begin);
        assert!(!primitives.is_empty());
        textures.clear();
        elapsed
    }

    /// Compares with a second file; the longest frame until all is there.
    fn compare(&mut self, first: &Path, second: &Path) {
        let begin = Instant::now();
        let mut longest = Duration::ZERO;
        self.app.open(&self.context, first.to_owned());
        self.app.apply(&self.context, Command::CompareWithPath(second.to_owned()));
        let mut picture = None;
        while !self.app.is_compared() {
            let shown = Instant::now();
            longest = longest.max(self.frame(Vec::new()));
            if picture.is_none() && self.app.state.pair().is_some() {
                // The frame that was just drawn may have been the last one without.
                longest = longest.max(self.frame(Vec::new()));
                picture = Some(begin.elapsed());
            }
            // A display shows no more than this.
            std::thread::sleep(DISPLAY.saturating_sub(shown.elapsed()));
        }
        longest = longest.max(self.frame(Vec::new()));
        let spans = |open: Option<&Open>| open.map_or(0, |open| open.trace.op_span_count());
        println!(
            "compare: {} and {} op spans, first aligned picture {:.1?}, comparison {:.1?}, longest frame \
             meanwhile {longest:.2?} ({CLOCK}), {} MiB resident",
            spans(self.app.state.document.open()),
            spans(self.app.state.second.open()),
            picture.unwrap_or_default(),
            begin.elapsed(),
            resident_mib()
        );
    }

    /// Opens a file; the time until the first frame that shows all of it.
    fn open(&mut self, path: &Path) -> Duration {
        let begin = Instant::now();
        self.app.open(&self.context, path.to_owned());
        loop {
            self.frame(Vec::new());
            let open = self.app.state.open();
            if let Document::Failed { why, .. } = &self.app.state.document {
                eprintln!("{why}: {}", path.display());
                std::process::exit(1);
            }
            if open.is_some_and(|open| open.loading.is_none()) {
                return begin.elapsed();
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Bench {
    /// A selected span with its arrows, marks with notes, every graph computation marked, all counters
    /// and samples that the file has, and a minimap of what was waited; strips of states, losses and gaps
    /// are always drawn where there are any.
    fn lay_over(&mut self) {
        let Some(open) = self.app.state.open() else { return };
        let ranges = open.trace.graph_spans.iter().map(|span| TimeRange::new(span.begin, span.end)).collect();
        let highlight = Arc::new(Highlight { name: "graphs".into(), ranges });
        let place = open.trace.lanes().first().map(|lane| Place { lane: lane.id, index: lane.rows / 2 });
        let found = place.and_then(|place| Some(Found { place, span: open.trace.span(place)? }));
        let whole = open.trace.range();
        let marks: Vec<u64> = (0..200).map(|at| whole.begin + whole.nanos() / 200 * at).collect();
        let marks = marks.into_iter().map(|time| Command::Session(Change::Mark(time)));
        let counters = CounterView { shown: open.trace.series(), ..open.counters.clone() };
        let commands = [
            Command::Highlight(Some(highlight)),
            Command::ShowCounters(counters),
            Command::Session(Change::Metric(Metric::Waiting)),
        ];
        let commands = commands.into_iter().chain(found.map(Command::Select));
        for command in commands.chain(marks).collect::<Vec<_>>() {
            self.app.apply(&self.context, command);
        }
    }
}

/// CPU time of this thread.
#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map(Duration::from).unwrap_or_default()
}

/// Time on the clock.
#[cfg(not(target_os = "linux"))]
fn thread_time() -> Duration {
    static BEGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    BEGIN.elapsed()
}

const CLOCK: &str = if cfg!(target_os = "linux") { "CPU" } else { "wall" };

fn wheel(delta: egui::Vec2, modifiers: Modifiers) -> Event {
    let (unit, phase, source) = (MouseWheelUnit::Point, TouchPhase::Move, MouseWheelSource::Wheel);
    Event::MouseWheel { unit, delta, phase, source, modifiers }
}

/// In, out and sideways, with the pointer moving.
fn gesture(frame: u32) -> Vec<Event> {
    let x = 300.0 + (frame * 7 % 800) as f32;
    let pointer = Event::PointerMoved(pos2(x, 300.0));
    let move_wheel = match frame % 100 {
        0..45 => wheel(vec2(0.0, 55.0), Modifiers::NONE),
        45..60 => wheel(vec2(40.0, 0.0), Modifiers::NONE),
        _ => wheel(vec2(0.0, -60.0), Modifiers::NONE),
    };
    vec![pointer, move_wheel]
}

/// Memory of this process, where the system says it.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib / 1024)
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (argument, second) = (arguments.next(), arguments.next().map(PathBuf::from));
    let temporary = std::env::temp_dir().join(format!("llmtrace-bench-{}.llmtrace", std::process::id()));
    let path = argument.map_or_else(|| temporary.clone(), PathBuf::from);
    if path == temporary {
        let written = bytes(&Options::new(1_000_000, 4, 1)).map(|bytes| std::fs::write(&path, bytes));
        if !matches!(written, Ok(Ok(()))) {
            eprintln!("cannot write {}", path.display());
            std::process::exit(1);
        }
    }
    let mut bench = Bench::new();
    let alone = second.is_none();
    if let Some(second) = second {
        bench.compare(&path, &second);
    } else {
        let first = bench.open(&path);
        let spans = bench.app.state.open().map_or(0, |open| open.trace.op_span_count());
        println!(
            "open: {spans} op spans, first complete picture {first:.1?}, {} MiB resident",
            resident_mib()
        );
    }
    for (name, events, overlays) in [
        ("zoom and pan", true, false),
        ("at rest", false, false),
        ("zoom and pan, all overlays", true, true),
        ("at rest, all overlays", false, true),
    ] {
        if overlays && !alone {
            break;
        }
        if overlays {
            bench.lay_over();
        }
        bench.app.apply(&bench.context, Command::WholeTrace);
        bench.frame(Vec::new());
        let mut times: Vec<Duration> = (0..FRAMES)
            .map(|frame| {
                // Time to decode what comes in sight, as between two frames of a display.
                std::thread::sleep(Duration::from_millis(if events { 8 } else { 0 }));
                bench.frame(if events { gesture(frame) } else { Vec::new() })
            })
            .collect();
        times.sort_unstable();
        let at = |mille: usize| times.get(times.len() * mille / 1000).copied().unwrap_or_default();
        let max = times.last().copied().unwrap_or_default();
        println!(
            "frame, {name}: p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, max {max:.2?} ({CLOCK}, {FRAMES} frames, 1600×900)",
            at(500),
            at(990),
            at(999)
        );
    }
    println!("after browsing: {} MiB resident", resident_mib());
    if path == temporary {
        // Left behind at worst; it is in the folder for temporary files.
        let _ = std::fs::remove_file(&path);
    }
}
