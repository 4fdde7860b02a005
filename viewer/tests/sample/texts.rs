//! What a screen reader would read.

use egui_kittest::Harness;
use egui_kittest::kittest::NodeT;
use llmtrace_viewer::app::ViewerApp;

/// All that the page announces.
pub(crate) fn texts(harness: &Harness<'_, ViewerApp>) -> String {
    let mut all = String::new();
    let mut nodes = vec![harness.root()];
    while let Some(node) = nodes.pop() {
        let access = node.accesskit_node();
        for text in [access.label(), access.value()].into_iter().flatten() {
            all.push_str(&text);
            all.push('\n');
        }
        nodes.extend(node.children());
    }
    all
}
