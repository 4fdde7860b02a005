//! Slow answers. A panel asks for the answer to a key on every frame; it gets
//! the newest one that is ready while the next is computed on another thread.
//! Requests that came in between are forgotten, and the work for an answer that
//! nobody wants any more is cancelled.

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How work off the interface's thread is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jobs {
    /// On a thread of its own.
    #[default]
    Threads,
    /// At once, in tests and screenshots.
    Inline,
}

/// Whether somebody still waits for work. Dropping the other end cancels it.
#[derive(Clone, Debug, Default)]
pub struct Going(Arc<AtomicBool>);

impl Going {
    /// Whether to go on.
    pub fn on(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// Cancels work when it is dropped.
#[derive(Debug, Default)]
pub struct Cancel(Going);

impl Cancel {
    /// What the work looks at.
    pub fn going(&self) -> Going {
        self.0.clone()
    }

    /// Cancels the work.
    pub fn cancel(&self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The last answer and the one being computed.
#[derive(Debug)]
pub struct Memo<K, V> {
    answer: Option<(K, V)>,
    running: Option<(K, Receiver<Option<V>>, Cancel)>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self { answer: None, running: None }
    }
}

impl<K: PartialEq + Clone, V: Send + 'static> Memo<K, V> {
    /// The answer for `key`, or for an earlier key while it is computed; the
    /// flag says whether it is the right one. `compute` gives nothing when it
    /// was cancelled.
    pub fn get(
        &mut self,
        key: &K,
        jobs: Jobs,
        context: &egui::Context,
        compute: impl FnOnce(&Going) -> Option<V> + Send + 'static,
    ) -> Option<(&V, bool)> {
        self.receive();
        let known = self.answer.as_ref().is_some_and(|(answered, _)| answered == key);
        match &self.running {
            Some((wanted, _, cancel)) if wanted != key => cancel.cancel(),
            Some(_) => {}
            None if known => {}
            None => match jobs {
                Jobs::Inline => {
                    self.answer = compute(&Going::default()).map(|value| (key.clone(), value));
                }
                Jobs::Threads => self.start(key.clone(), context.clone(), compute),
            },
        }
        self.answer.as_ref().map(|(answered, value)| (value, answered == key))
    }

    /// The newest answer, whatever it answers.
    pub fn last(&mut self) -> Option<&V> {
        self.receive();
        self.answer.as_ref().map(|(_, value)| value)
    }

    /// The newest answer that was asked for, whatever it answers.
    pub fn known(&self) -> Option<&V> {
        self.answer.as_ref().map(|(_, value)| value)
    }

    fn receive(&mut self) {
        let Some((key, receiver, cancel)) = self.running.take() else { return };
        match receiver.try_recv() {
            Ok(Some(value)) => self.answer = Some((key, value)),
            Err(TryRecvError::Empty) => self.running = Some((key, receiver, cancel)),
            Ok(None) | Err(TryRecvError::Disconnected) => {}
        }
    }

    fn start(
        &mut self,
        key: K,
        context: egui::Context,
        compute: impl FnOnce(&Going) -> Option<V> + Send + 'static,
    ) {
        let (sender, receiver) = bounded(1);
        let cancel = Cancel::default();
        let going = cancel.going();
        let work = move || {
            // Nobody waits for it any more when this fails.
            let _ = sender.send(compute(&going));
            context.request_repaint();
        };
        match std::thread::Builder::new().name("answer".into()).spawn(work) {
            Ok(_) => self.running = Some((key, receiver, cancel)),
            Err(error) => log::warn!("No thread for a calculation: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previous_answer_stays_and_unwanted_work_is_cancelled() {
        let context = egui::Context::default();
        let mut memo = Memo::<u32, u32>::default();
        assert_eq!(memo.get(&1, Jobs::Inline, &context, |_| Some(10)), Some((&10, true)));
        let until_cancelled = |going: &Going| {
            while going.on() {
                std::thread::yield_now();
            }
            None
        };
        assert_eq!(memo.get(&2, Jobs::Threads, &context, until_cancelled), Some((&10, false)));
        // A newer request ends the work for the one before, then is computed.
        loop {
            if memo.get(&3, Jobs::Threads, &context, |_| Some(30)) == Some((&30, true)) {
                break;
            }
            std::thread::yield_now();
        }
    }
}
