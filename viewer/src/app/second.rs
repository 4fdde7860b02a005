//! What the app does about a second trace beside the open one.

use super::ViewerApp;
use crate::command::{self, Effect};
use crate::compare::{ComparePage, Second};
use crate::loader::Message;
use crate::seek::Seeking;
use crate::session::ComparedWith;
use egui::Context;
use llmtrace_analysis::fetch::Fetcher;
use std::sync::Arc;

impl ViewerApp {
    /// What a command about the second trace needs.
    pub(super) fn second_effect(&mut self, context: &Context, effect: Effect) {
        let Some(open) = self.state.second.open() else { return };
        match effect {
            Effect::SaveSession => self.store.save_session(&open.path, &open.session),
            Effect::Seek(seek) => {
                let trace = Arc::clone(&open.trace);
                self.second.seeking = Some(Seeking::start(seek, trace, self.jobs, context.clone()));
                self.receive_found(context);
            }
            _ => {}
        }
    }

    /// What the panels know is of the other trace now.
    pub(super) fn swap_sides(&mut self) {
        let fetcher = std::mem::replace(&mut self.fetcher, self.second.fetcher.take());
        let answers = std::mem::replace(&mut self.answers, std::mem::take(&mut self.second.answers));
        std::mem::swap(&mut self.loader, &mut self.second.loader);
        let of_first = (self.fetcher.take(), std::mem::take(&mut self.answers));
        self.forget_panels();
        (self.fetcher, self.answers) = of_first;
        (self.second.fetcher, self.second.answers, self.second.seeking) = (fetcher, answers, None);
        for open in [self.state.second.open(), self.state.document.open()].into_iter().flatten() {
            self.store.save_session(&open.path, &open.session);
            self.state.settings.add_recent(&open.path);
        }
        self.store.save(&self.state.settings);
    }

    pub(super) fn forget_second(&mut self) {
        self.second = Second::default();
        self.compare = ComparePage::default();
        self.share_memory();
    }

    /// Two open traces share the memory for decoded op spans.
    pub(super) fn share_memory(&self) {
        let bytes = self.state.settings.cache_bytes();
        let pair = [self.state.document.open(), self.state.second.open()];
        let open = pair.iter().flatten().count().max(1);
        pair.iter().flatten().for_each(|trace| trace.trace.set_cache_bytes(bytes / open));
    }

    pub(super) fn receive_second(&mut self, message: Message, context: &Context) {
        let opened = self.state.second.receive(message);
        let Some(open) = self.state.second.open_mut().filter(|_| opened) else { return };
        open.session = self.store.load_session(&open.path);
        let context = context.clone();
        let arrived = move || context.request_repaint();
        self.second.fetcher = Some(Fetcher::new(Arc::clone(&open.trace), arrived));
        self.share_memory();
        self.pair_up();
    }

    /// Once both are open: aligned as they were before, or by token.
    pub(super) fn pair_up(&mut self) {
        let (Some(a), Some(b)) = (self.state.document.open(), self.state.second.open()) else { return };
        let same = |kept: &&ComparedWith| {
            kept.path == b.path || std::path::absolute(&b.path).is_ok_and(|path| kept.path == path)
        };
        let aligned = a.session.compared.as_ref().filter(same).map(|kept| kept.aligned);
        self.state.align(aligned.unwrap_or_default());
        command::keep_pair(&mut self.state);
        self.save_session();
        if let Some(open) = self.state.open_mut() {
            open.view = open.view.whole_with_room();
        }
    }

    /// Whether the comparison of the two open traces is there.
    pub fn is_compared(&mut self) -> bool {
        self.compare.is_compared()
    }
}
