//! The system's file dialog. It is created where the system wants it, on the
//! interface's thread, and waited for on another.

use crossbeam_channel::{Receiver, bounded};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// A dialog that is shown.
pub(crate) struct Dialog {
    answer: Receiver<Option<PathBuf>>,
}

impl Dialog {
    /// Asks for a trace to open; `context` is asked to repaint on the answer.
    pub(crate) fn open(context: egui::Context) -> Self {
        let (sender, answer) = bounded(1);
        let asked = rfd::AsyncFileDialog::new()
            .set_title("Open trace")
            .add_filter("llmtrace", &["llmtrace"])
            .add_filter("All files", &["*"])
            .pick_file();
        let wait = move || {
            let picked = block_on(asked).map(|file| file.path().to_owned());
            let _ = sender.send(picked);
            context.request_repaint();
        };
        if let Err(error) = thread::Builder::new().name("dialog".into()).spawn(wait) {
            log::warn!("No thread for the file dialog: {error}");
        }
        Self { answer }
    }

    /// The answer, once there is one: a file, or none when it was cancelled.
    pub(crate) fn answer(&self) -> Option<Option<PathBuf>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(crossbeam_channel::TryRecvError::Empty) => None,
            Err(crossbeam_channel::TryRecvError::Disconnected) => Some(None),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
