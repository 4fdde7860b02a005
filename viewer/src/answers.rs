//! What limits the run: computed once for an open trace, shown on several pages.

use crate::memo::Memo;
use crate::panel::Cx;
use egui::{ProgressBar, Ui};
use llmtrace_analysis::explain::{Explanation, explain};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The answers about the open trace, or how far they are.
#[derive(Default)]
pub struct Answers {
    memo: Memo<(), Arc<Explanation>>,
    /// Bits of an `f32` from 0 to 1.
    progress: Arc<AtomicU32>,
}

impl Answers {
    /// The answers; draws how far they are until they are there.
    pub(crate) fn get_ui(&mut self, ui: &mut Ui, cx: &Cx<'_>) -> Option<Arc<Explanation>> {
        let trace = Arc::clone(&cx.open.trace);
        let progress = Arc::clone(&self.progress);
        let context = ui.ctx().clone();
        let answer = self.memo.get(&(), cx.jobs, ui.ctx(), move |going| {
            let report = |part: f32| {
                progress.store(part.to_bits(), Ordering::Relaxed);
                context.request_repaint();
                going.on()
            };
            explain(&trace, &report).ok().map(Arc::new)
        });
        if let Some((answer, _)) = answer {
            return Some(Arc::clone(answer));
        }
        let part = f32::from_bits(self.progress.load(Ordering::Relaxed));
        ui.add(ProgressBar::new(part).desired_width(240.0).text("looking at every op span"));
        None
    }
}
