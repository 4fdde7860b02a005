//! Saves a range of the open trace as a trace of its own, in the background.
//! The file is there whole or not at all: it is written beside its final name and
//! renamed, and removed when saving is cancelled or fails.

use crate::memo::{Cancel, Going, Jobs};
use crossbeam_channel::{Receiver, Sender, unbounded};
use llmtrace_analysis::cut::cut;
use llmtrace_analysis::format::Error;
use llmtrace_analysis::{TimeRange, Trace};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// How far saving has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Saving {
    /// It goes on, from 0 to 1.
    Progress(f32),
    /// The file is there, with so many bytes.
    Done(u64),
    /// It could not be written.
    Failed(String),
    /// The user has cancelled it; nothing is left of it.
    Cancelled,
}

/// A range being saved. Dropping it cancels it, and waits until nothing is left
/// of the file.
pub(crate) struct Saver {
    pub(crate) news: Receiver<Saving>,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Saver {
    /// Starts to save; `context` is asked to repaint on news.
    pub(crate) fn start(
        trace: Arc<Trace>,
        range: TimeRange,
        path: PathBuf,
        jobs: Jobs,
        context: egui::Context,
    ) -> Self {
        let (sender, news) = unbounded();
        let cancel = Cancel::default();
        let going = cancel.going();
        let failed = sender.clone();
        let work = move || {
            let news = save(&trace, range, &path, &going, &sender, &context);
            // Nobody waits for it any more when this fails.
            let _ = sender.send(news);
            context.request_repaint();
        };
        let mut thread = None;
        match jobs {
            Jobs::Inline => work(),
            Jobs::Threads => match std::thread::Builder::new().name("save".into()).spawn(work) {
                Ok(started) => thread = Some(started),
                Err(error) => drop(failed.send(Saving::Failed(error.to_string()))),
            },
        }
        Self { news, cancel, thread }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            // It ends with the block that it writes.
            let _ = thread.join();
        }
    }
}

fn save(
    trace: &Trace,
    range: TimeRange,
    path: &Path,
    going: &Going,
    sender: &Sender<Saving>,
    context: &egui::Context,
) -> Saving {
    let Some(name) = path.file_name() else { return Saving::Failed("not a name for a file".into()) };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.partial", std::process::id()));
    let temporary = path.with_file_name(hidden);
    let mut shown = 0.0;
    let mut progress = |done: f32| {
        if done - shown > 0.01 {
            shown = done;
            let _ = sender.send(Saving::Progress(done));
            context.request_repaint();
        }
        going.on()
    };
    let written = File::create_new(&temporary).map_err(Error::from).and_then(|file| {
        let file = BufWriter::with_capacity(1 << 20, file);
        let (file, _) = cut(trace, range, file, &mut progress)?;
        let file = file.into_inner().map_err(|error| Error::from(error.into_error()))?;
        file.sync_all()?;
        let len = file.metadata()?.len();
        drop(file);
        std::fs::rename(&temporary, path)?;
        Ok(len)
    });
    if written.is_err() {
        // Nothing can be done if it cannot be removed.
        let _ = std::fs::remove_file(&temporary);
    }
    match written {
        Ok(len) => Saving::Done(len),
        Err(Error::Cancelled) => Saving::Cancelled,
        Err(error) => Saving::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmtrace_analysis::format::Source;
    use llmtrace_analysis::synth::{Options, bytes};

    fn trace(spans: u64) -> Arc<Trace> {
        let bytes = bytes(&Options::new(spans, 2, 1)).unwrap();
        Arc::new(Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap())
    }

    #[test]
    fn a_saved_range_opens_and_a_cancelled_one_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part.llmtrace");
        let trace = trace(150_000);
        let range = trace.tokens[3].range;
        let context = egui::Context::default();
        let start = |jobs| Saver::start(Arc::clone(&trace), range, path.clone(), jobs, context.clone());
        let saver = start(Jobs::Inline);
        let Some(Saving::Done(len)) = saver.news.try_iter().last() else { panic!("not saved") };
        assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
        let part = Trace::open(Source::from_file(File::open(&path).unwrap()), &mut |_| true).unwrap();
        assert_eq!(part.graph_spans.len(), 1);
        std::fs::remove_file(&path).unwrap();
        // Cancelled at once, at whatever point that is.
        drop(start(Jobs::Threads));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert!(left.is_empty() || path.exists() && left.len() == 1, "{left:?}");
        let cancel = Cancel::default();
        cancel.cancel();
        let (sender, _news) = unbounded();
        let _ = std::fs::remove_file(&path);
        assert_eq!(save(&trace, range, &path, &cancel.going(), &sender, &context), Saving::Cancelled);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = folder.path().join("no/such/folder.llmtrace");
        let failed = save(&trace, range, &nowhere, &Going::default(), &sender, &context);
        assert!(matches!(failed, Saving::Failed(_)));
    }
}
