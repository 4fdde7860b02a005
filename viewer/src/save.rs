//! Saves in the background: a range of the open trace as a trace of its own, a report, a picture.
//! The file is there whole or not at all: it is written beside its final name and
//! renamed, and removed when saving is cancelled or fails.

use crate::memo::{Cancel, Going, Jobs};
use crossbeam_channel::{Receiver, Sender, unbounded};
use image::ImageEncoder as _;
use llmtrace_analysis::cut::cut;
use llmtrace_analysis::format::Error;
use llmtrace_analysis::report;
use llmtrace_analysis::{TimeRange, Trace};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
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

/// What is saved.
pub(crate) enum What {
    /// A range, as a trace.
    Range(Arc<Trace>, TimeRange),
    /// A report of a trace, whose file has this name.
    Report(Arc<Trace>, String),
    /// A picture, as PNG.
    Picture(Arc<egui::ColorImage>),
}

/// Something being saved. Dropping it cancels it, and waits until nothing is left
/// of the file.
pub(crate) struct Saver {
    pub(crate) news: Receiver<Saving>,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Saver {
    /// Starts to save; `context` is asked to repaint on news.
    pub(crate) fn start(what: What, path: PathBuf, jobs: Jobs, context: egui::Context) -> Self {
        let (sender, news) = unbounded();
        let cancel = Cancel::default();
        let going = cancel.going();
        let failed = sender.clone();
        let work = move || {
            let news = save(&what, &path, &going, &sender, &context);
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

fn save(what: &What, path: &Path, going: &Going, sender: &Sender<Saving>, context: &egui::Context) -> Saving {
    let Some(name) = path.file_name() else { return Saving::Failed("not a name for a file".into()) };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.partial", std::process::id()));
    let temporary = path.with_file_name(hidden);
    let shown = Mutex::new(0.0);
    let progress = |done: f32| {
        // Only one thread tells at a time; another one's news are as good.
        if let Ok(mut shown) = shown.try_lock()
            && done - *shown > 0.01
        {
            *shown = done;
            let _ = sender.send(Saving::Progress(done));
            context.request_repaint();
        }
        going.on()
    };
    let written = File::create_new(&temporary).map_err(Error::from).and_then(|file| {
        let file = BufWriter::with_capacity(1 << 20, file);
        let file = match what {
            What::Range(trace, range) => cut(trace, *range, file, &mut |done| progress(done))?.0,
            What::Report(trace, name) => {
                let page = report::html(trace, name, &progress)?;
                let mut file = file;
                file.write_all(page.as_bytes())?;
                file
            }
            What::Picture(image) => png(image, file)?,
        };
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

fn png(image: &egui::ColorImage, file: BufWriter<File>) -> Result<BufWriter<File>, Error> {
    let [width, height] = image.size.map(|side| u32::try_from(side).unwrap_or(0));
    let bytes: Vec<u8> = image.pixels.iter().flat_map(|pixel| pixel.to_srgba_unmultiplied()).collect();
    let mut file = file;
    let written = image::codecs::png::PngEncoder::new(&mut file).write_image(
        &bytes,
        width,
        height,
        image::ExtendedColorType::Rgba8,
    );
    written.map_err(|error| Error::from(std::io::Error::other(error)))?;
    Ok(file)
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
        let what = || What::Range(Arc::clone(&trace), range);
        let start = |jobs| Saver::start(what(), path.clone(), jobs, context.clone());
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
        assert_eq!(save(&what(), &path, &cancel.going(), &sender, &context), Saving::Cancelled);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = folder.path().join("no/such/folder.llmtrace");
        let failed = save(&what(), &nowhere, &Going::default(), &sender, &context);
        assert!(matches!(failed, Saving::Failed(_)));
    }

    #[test]
    fn a_report_and_a_picture_are_saved_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, _news) = unbounded();
        let context = egui::Context::default();
        let save = |what: What, name: &str| {
            let saved = save(&what, &folder.path().join(name), &Going::default(), &sender, &context);
            let Saving::Done(_) = saved else { panic!("{saved:?}") };
        };
        save(What::Report(trace(5_000), "a.llmtrace".into()), "a.html");
        let page = std::fs::read_to_string(folder.path().join("a.html")).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains("a.llmtrace"));
        let pixels = vec![egui::Color32::RED, egui::Color32::BLUE];
        let picture = egui::ColorImage::new([2, 1], pixels);
        save(What::Picture(Arc::new(picture)), "a.png");
        let read = image::open(folder.path().join("a.png")).unwrap().into_rgba8();
        assert_eq!((read.dimensions(), read.get_pixel(1, 0).0), ((2, 1), [0, 0, 255, 255]));
    }
}
