//! Decodes in the background what a picture lacks.
//!
//! Each frame says all that it misses; what earlier frames missed and this one
//! does not is forgotten, so that nothing is decoded for a place that the user
//! has left.

use crate::Trace;
use crate::cache::Part;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Decodes parts of one trace on the rayon pool. Dropping it stops the work.
pub struct Fetcher(Arc<Shared>);

struct Shared {
    trace: Arc<Trace>,
    /// Called when something new can be shown.
    arrived: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is wanted, the most urgent last.
    wanted: Vec<Part>,
    running: HashSet<Part>,
}

impl Fetcher {
    /// For a trace; `arrived` is called on other threads when a part was decoded.
    pub fn new(trace: Arc<Trace>, arrived: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { trace, arrived: Box::new(arrived), state: Mutex::default() }))
    }

    /// Wants these parts, the first ones first, and no others.
    pub fn want(&self, parts: &[Part]) {
        let mut state = self.0.state();
        state.wanted.clear();
        let mut seen = state.running.clone();
        let new = parts.iter().filter(|part| seen.insert(**part)).copied();
        let new: Vec<Part> = new.collect();
        state.wanted.extend(new.into_iter().rev());
        let idle = rayon::current_num_threads().saturating_sub(state.running.len());
        for _ in 0..idle.min(state.wanted.len()) {
            let shared = Arc::clone(&self.0);
            rayon::spawn(move || shared.work());
        }
    }

    /// Whether something is being decoded.
    pub fn is_busy(&self) -> bool {
        let state = self.0.state();
        !state.running.is_empty() || !state.wanted.is_empty()
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.0.state().wanted.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decodes one part, then makes room for other work of the pool and goes on.
    fn work(self: Arc<Self>) {
        let part = {
            let mut state = self.state();
            let Some(part) = state.wanted.pop() else { return };
            state.running.insert(part);
            part
        };
        self.trace.decode(part);
        let more = {
            let mut state = self.state();
            state.running.remove(&part);
            !state.wanted.is_empty()
        };
        (self.arrived)();
        if more {
            rayon::spawn(move || self.work());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::fold;
    use llmtrace_format::Source;
    use std::sync::mpsc::channel;

    #[test]
    fn what_a_picture_lacks_arrives() {
        let (_, bytes) = crate::rows::tests::random_lane(4, 200_000);
        let trace = Arc::new(Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap());
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let fetcher = Fetcher::new(Arc::clone(&trace), move || {
            let _ = sender.lock().unwrap().send(());
        });
        loop {
            let (mut bars, mut missing) = (Vec::new(), Vec::new());
            fold(&trace, &trace.lanes()[0], trace.range(), 100, &mut bars, &mut missing);
            if missing.is_empty() {
                break;
            }
            fetcher.want(&missing);
            receiver.recv().unwrap();
        }
        assert!(trace.cache_bytes() > 200_000);
        fetcher.want(&[]);
        while fetcher.is_busy() {
            std::thread::yield_now();
        }
    }
}
