//! A sample in the app, without a display.

mod texts;

use egui::vec2;
use egui_kittest::Harness;
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::command::Command;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use llmtrace_viewer::state::Page;
use std::path::Path;
pub(crate) use texts::texts;

/// A page of a sample.
pub(crate) fn harness(sample: &str, page: Page, height: f32) -> Harness<'static, ViewerApp> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces").join(sample);
    harness_of(&path, page, height)
}

/// A page of a file.
pub(crate) fn harness_of(path: &Path, page: Page, height: f32) -> Harness<'static, ViewerApp> {
    let mut harness = Harness::builder()
        .with_size(vec2(1280.0, height))
        .with_max_steps(60)
        .build_eframe(|creation| ViewerApp::new(&creation.egui_ctx, Store::default(), Jobs::Inline));
    let context = harness.ctx.clone();
    harness.state_mut().open(&context, path.to_owned());
    harness.run_steps(3);
    harness.state_mut().apply(&context, Command::Show(page));
    harness.run_steps(3);
    harness
}
