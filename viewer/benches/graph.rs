//! The compute graph with everything expanded: time to lay it out, and of a frame while it is
//! moved and zoomed, tessellated but not rasterised. `cargo bench -p llmtrace-viewer --bench graph
//! -- FILE`, of a 48-layer mixture made by `sample-traces/tools/make_moe.py` for the goals (3,000
//! nodes: 500 ms, 8 ms a frame).

use egui::{Event, Modifiers, PointerButton, Pos2, RawInput, Rect, pos2, vec2};
use llmtrace_analysis::dag::{Outline, layout, visible};
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::state::Page;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SIZE: egui::Vec2 = vec2(1600.0, 900.0);
const FRAMES: u32 = 300;

fn main() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../sample-traces/qwen3moe-synthetic-2t.llmtrace");
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let path = argument.map_or_else(|| PathBuf::from(sample), PathBuf::from);
    let context = egui::Context::default();
    let mut app = ViewerApp::new(&context, Store::default(), Jobs::Inline);
    app.open(&context, path.clone());
    app.receive(&context);
    while app.state.open().is_none_or(|open| open.loading.is_some()) {
        app.receive(&context);
    }
    if let Some(open) = app.state.open()
        && let Some(graph) = open.trace.file.graphs.iter().max_by_key(|graph| graph.nodes)
    {
        let begin = Instant::now();
        let outline = Outline::of(&open.trace.file, graph);
        let expanded: BTreeSet<usize> = (0..outline.parts.len()).collect();
        for views in [false, true] {
            let found = visible(&open.trace.file, graph, &outline, &expanded, views);
            let placed = layout(&found, |_| (150.0, 38.0));
            println!(
                "layout: {} of {} nodes, {} edges, {:.0}×{:.0}: {:.1?}",
                found.items.len(),
                graph.nodes,
                found.edges.len(),
                placed.width,
                placed.height,
                begin.elapsed()
            );
        }
    }
    app.apply(&context, Command::Show(Page::Graph));
    let mut time = 0.0;
    let mut frame = |app: &mut ViewerApp, events: Vec<Event>| {
        time += 1.0 / 60.0;
        let screen_rect = Some(Rect::from_min_size(Pos2::ZERO, SIZE));
        let input = RawInput { screen_rect, time: Some(time), events, ..RawInput::default() };
        let begin = Instant::now();
        let output = context.run_ui(input, |ui| app.draw(ui));
        let primitives = context.tessellate(output.shapes, output.pixels_per_point);
        assert!(!primitives.is_empty());
        let mut textures = output.textures_delta;
        textures.clear();
        begin.elapsed()
    };
    frame(&mut app, Vec::new());
    app.apply(&context, Command::ExpandGraph);
    let first: Duration = (0..3).map(|_| frame(&mut app, Vec::new())).max().unwrap_or_default();
    println!("expanded: {first:.1?} with its layout");
    let button = |pos, pressed| Event::PointerButton {
        pos,
        button: PointerButton::Primary,
        pressed,
        modifiers: Modifiers::NONE,
    };
    for (name, zoom) in [("all in sight", 1.0), ("half readable", 1.02), ("readable", 1.03)] {
        let at = pos2(500.0, 450.0);
        frame(&mut app, vec![Event::PointerMoved(at)]);
        for _ in 0..120 {
            if zoom > 1.0 {
                frame(&mut app, vec![Event::Zoom(zoom)]);
            }
        }
        frame(&mut app, vec![button(at, true)]);
        let mut times: Vec<Duration> = (0..FRAMES)
            .map(|step| {
                let x = at.x + (step as f32 / 9.0).sin() * 60.0;
                frame(&mut app, vec![Event::PointerMoved(pos2(x, at.y + step as f32 % 50.0 * 2.0))])
            })
            .collect();
        frame(&mut app, vec![button(at, false)]);
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        println!("pan, {name}: p50 {:.2?}, p99 {:.2?}", at(50), at(99));
    }
}
