//! A trace that is still being recorded: its blocks come one after the other.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

#[path = "sample/texts.rs"]
mod texts;

use egui_kittest::Harness;
use llmtrace_analysis::synth::{Options, bytes};
use llmtrace_analysis::{TimeRange, Trace};
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::state::{Live, Open, Page};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use texts::texts;

type App = Harness<'static, ViewerApp>;

/// A file that a recorder writes, and where its blocks begin.
struct Recorded {
    _folder: tempfile::TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    blocks: Vec<usize>,
}

impl Recorded {
    fn new() -> Self {
        let bytes = bytes(&Options::new(400_000, 2, 1)).unwrap();
        let source = llmtrace_analysis::format::Source::Bytes(bytes.clone());
        let trace = Trace::open(source, &mut |_| true).unwrap();
        let blocks = trace.file.blocks.iter().map(|block| block.offset as usize).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("growing.llmtrace");
        std::fs::write(&path, b"").unwrap();
        Self { _folder: folder, path, bytes, blocks }
    }

    /// The recorder has come so far: a part of the blocks, from 0 to 1.
    fn written(&self, part: f64) {
        let block = (self.blocks.len() as f64 * part) as usize;
        self.bytes_written(self.blocks.get(block).copied().unwrap_or(self.bytes.len()));
    }

    fn bytes_written(&self, len: usize) {
        let before = std::fs::metadata(&self.path).unwrap().len() as usize;
        let mut file = OpenOptions::new().append(true).open(&self.path).unwrap();
        file.write_all(&self.bytes[before..len]).unwrap();
    }
}

fn open(path: &Path) -> App {
    let mut harness = Harness::builder()
        .with_size(egui::vec2(1280.0, 720.0))
        .with_max_steps(60)
        .build_eframe(|creation| ViewerApp::new(&creation.egui_ctx, Store::default(), Jobs::Inline));
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, path.to_owned());
    harness.run_steps(3);
    harness
}

fn opened(harness: &App) -> &Open {
    harness.state().state.open().unwrap()
}

fn apply(harness: &mut App, command: Command) {
    let context = harness.ctx.clone();
    harness.state_mut().apply(&context, command);
    harness.run_steps(2);
}

#[test]
fn a_growing_file_is_followed_until_it_is_closed() {
    let file = Recorded::new();
    file.written(0.1);
    let mut harness = open(&file.path);
    apply(&mut harness, Command::Show(Page::Timeline));
    assert_eq!(opened(&harness).live, Live::Watched);
    assert!(
        texts(&harness).contains("not closed properly"),
        "so far nothing tells it from one that was cut off"
    );
    let tokens = opened(&harness).trace.tokens.len();
    let whole = opened(&harness).view.range();
    file.written(0.25);
    harness.run_steps(3);
    assert_eq!(opened(&harness).live, Live::Growing);
    assert!(opened(&harness).trace.tokens.len() > tokens);
    assert!(opened(&harness).view.range().end > whole.end, "all of it is in sight, still");
    let said = texts(&harness);
    assert!(said.contains("live") && !said.contains("not closed properly"), "{said}");
    // A window on the middle stays, and a selection does.
    let range = opened(&harness).trace.tokens[2].range;
    apply(&mut harness, Command::ZoomTo(range));
    apply(&mut harness, Command::SelectRange(range));
    let view = opened(&harness).view.range();
    // A block that is only half written is waited for.
    let half = file.blocks[(file.blocks.len() as f64 * 0.35) as usize] + 40;
    file.bytes_written(half);
    harness.run_steps(3);
    assert_eq!((opened(&harness).view.range(), opened(&harness).range), (view, Some(range)));
    assert!(!texts(&harness).contains("are not a whole block"));
    // The end stays in sight.
    let end = opened(&harness).trace.range().end;
    apply(&mut harness, Command::ZoomTo(TimeRange::new(end - 50_000_000, end)));
    file.written(0.6);
    harness.run_steps(3);
    let now = opened(&harness).trace.range().end;
    assert!(now > end, "{now} {end}");
    let sight = opened(&harness).view.range();
    assert!(sight.end >= now, "{sight:?} {now}");
    file.bytes_written(file.bytes.len());
    harness.run_steps(3);
    assert_eq!(opened(&harness).live, Live::Closed);
    assert!(!opened(&harness).summary.operators.is_empty());
    let said = texts(&harness);
    assert!(!said.contains("live") && !said.contains("not closed properly"), "{said}");
    let trace = &opened(&harness).trace;
    assert_eq!(trace.file.len(), file.bytes.len() as u64);
}

#[test]
fn a_file_that_is_cut_or_removed_is_let_go() {
    let file = Recorded::new();
    file.written(0.5);
    let mut harness = open(&file.path);
    file.written(0.7);
    harness.run_steps(3);
    assert_eq!(opened(&harness).live, Live::Growing);
    let tokens = opened(&harness).trace.tokens.len();
    OpenOptions::new().write(true).open(&file.path).unwrap().set_len(100).unwrap();
    harness.run_steps(3);
    assert_eq!(opened(&harness).live, Live::Watched);
    assert_eq!(opened(&harness).trace.tokens.len(), tokens, "what was read is shown");
    // Nobody looks any more.
    file.bytes_written(file.bytes.len());
    harness.run_steps(3);
    assert_eq!(opened(&harness).live, Live::Watched);
}

#[test]
fn threads_follow_as_well() {
    let file = Recorded::new();
    file.written(0.4);
    let mut harness = Harness::builder()
        .with_size(egui::vec2(1280.0, 720.0))
        .build_eframe(|creation| ViewerApp::new(&creation.egui_ctx, Store::default(), Jobs::Threads));
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, file.path.clone());
    while harness.state().state.open().is_none() {
        harness.step();
    }
    file.bytes_written(file.bytes.len());
    while opened(&harness).live != Live::Closed {
        harness.step();
    }
    assert_eq!(opened(&harness).trace.file.len(), file.bytes.len() as u64);
}
