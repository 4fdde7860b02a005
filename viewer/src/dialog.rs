//! The system's file dialogs. It is created where the system wants it, on the
//! interface's thread, and waited for on another.

use crossbeam_channel::{Receiver, bounded};
use llmtrace_analysis::TimeRange;
use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// What a dialog asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Purpose {
    /// A trace to open.
    Open,
    /// Which trace to compare with.
    Compare,
    /// Where to save a range.
    Save(TimeRange),
    /// Where to save a report.
    Report,
    /// Where to save a picture.
    Picture,
}

/// A dialog that is shown.
pub(crate) struct Dialog {
    pub(crate) purpose: Purpose,
    answer: Receiver<Option<PathBuf>>,
}

impl Dialog {
    /// Asks; `name` is that of the open trace, and `context` is asked to repaint
    /// on the answer.
    pub(crate) fn ask(purpose: Purpose, name: &str, context: egui::Context) -> Self {
        let dialog = rfd::AsyncFileDialog::new();
        let traces = |dialog: rfd::AsyncFileDialog| dialog.add_filter("llmtrace", &["llmtrace"]);
        let stem = name.strip_suffix(".llmtrace").unwrap_or(name).to_owned();
        let asked: Pin<Box<dyn Future<Output = Option<rfd::FileHandle>> + Send>> = match purpose {
            Purpose::Open | Purpose::Compare => {
                let title = if purpose == Purpose::Open { "Open trace" } else { "Compare with" };
                Box::pin(traces(dialog).set_title(title).add_filter("All files", &["*"]).pick_file())
            }
            Purpose::Save(_) => {
                let name = format!("{stem}-part.llmtrace");
                Box::pin(traces(dialog).set_title("Save selection").set_file_name(name).save_file())
            }
            Purpose::Report => {
                let dialog = dialog.add_filter("HTML", &["html"]).set_title("Save report");
                Box::pin(dialog.set_file_name(format!("{stem}.html")).save_file())
            }
            Purpose::Picture => {
                let dialog = dialog.add_filter("PNG", &["png"]).set_title("Save picture");
                Box::pin(dialog.set_file_name(format!("{stem}.png")).save_file())
            }
        };
        let (sender, answer) = bounded(1);
        let wait = move || {
            let picked = block_on(asked).map(|file| file.path().to_owned());
            let _ = sender.send(picked);
            context.request_repaint();
        };
        if let Err(error) = thread::Builder::new().name("dialog".into()).spawn(wait) {
            log::warn!("No thread for the file dialog: {error}");
        }
        Self { purpose, answer }
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
