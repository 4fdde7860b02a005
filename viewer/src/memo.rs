//! Slow answers. A panel asks for the answer to a key on every frame; it gets
//! the newest one that is ready while the next is computed on another thread.
//! Requests that came in between are forgotten.

use crossbeam_channel::{Receiver, TryRecvError, bounded};

/// How work off the interface's thread is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jobs {
    /// On a thread of its own.
    #[default]
    Threads,
    /// At once, in tests and screenshots.
    Inline,
}

/// The last answer and the one being computed.
#[derive(Debug)]
pub struct Memo<K, V> {
    answer: Option<(K, V)>,
    running: Option<(K, Receiver<V>)>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self { answer: None, running: None }
    }
}

impl<K: PartialEq + Clone, V: Send + 'static> Memo<K, V> {
    /// The answer for `key`, or for an earlier key while it is computed; the
    /// flag says whether it is the right one.
    pub fn get(
        &mut self,
        key: &K,
        jobs: Jobs,
        context: &egui::Context,
        compute: impl FnOnce() -> V + Send + 'static,
    ) -> Option<(&V, bool)> {
        self.receive();
        let known = self.answer.as_ref().is_some_and(|(answered, _)| answered == key);
        if !known && self.running.is_none() {
            match jobs {
                Jobs::Inline => self.answer = Some((key.clone(), compute())),
                Jobs::Threads => self.start(key.clone(), context.clone(), compute),
            }
        }
        self.answer.as_ref().map(|(answered, value)| (value, answered == key))
    }

    /// The newest answer, whatever it answers.
    pub fn last(&mut self) -> Option<&V> {
        self.receive();
        self.answer.as_ref().map(|(_, value)| value)
    }

    fn receive(&mut self) {
        let Some((key, receiver)) = self.running.take() else { return };
        match receiver.try_recv() {
            Ok(value) => self.answer = Some((key, value)),
            Err(TryRecvError::Empty) => self.running = Some((key, receiver)),
            Err(TryRecvError::Disconnected) => {}
        }
    }

    fn start(&mut self, key: K, context: egui::Context, compute: impl FnOnce() -> V + Send + 'static) {
        let (sender, receiver) = bounded(1);
        let work = move || {
            // Nobody waits for it any more when this fails.
            let _ = sender.send(compute());
            context.request_repaint();
        };
        match std::thread::Builder::new().name("answer".into()).spawn(work) {
            Ok(_) => self.running = Some((key, receiver)),
            Err(error) => log::warn!("No thread for a calculation: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previous_answer_stays_until_the_next_is_ready() {
        let context = egui::Context::default();
        let mut memo = Memo::<u32, u32>::default();
        let (go, wait) = bounded::<()>(0);
        assert_eq!(memo.get(&1, Jobs::Inline, &context, || 10), Some((&10, true)));
        let slow = move || {
            wait.recv().unwrap();
            20
        };
        assert_eq!(memo.get(&2, Jobs::Threads, &context, slow), Some((&10, false)));
        // A newer request while one runs is not started yet.
        assert_eq!(memo.get(&3, Jobs::Threads, &context, || 30), Some((&10, false)));
        go.send(()).unwrap();
        loop {
            if memo.get(&3, Jobs::Threads, &context, || 30) == Some((&30, true)) {
                break;
            }
            std::thread::yield_now();
        }
    }
}
