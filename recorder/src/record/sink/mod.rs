//! Where rows go: between the session and the files.
//!
//! ```text
//!                   ┌─ Files ─► Segment ─► NAME.llmtrace, or NAME-0001, NAME-0002 …
//! session ─► Sink ──┤              ▲
//!             │     └─ Ring ─► chunks ─► (trigger, end) Dump ─► NAME-1 …, NAME.llmtrace
//!             └─ Live: strings, graphs, threads, levels
//! ```
//!
//! Ids of strings, graphs and threads hold in all files of a recording: each file
//! begins with the strings, and gets graphs and threads when it first refers to
//! them. A graph that runs while a file ends has its row in both.

mod chunk;
mod disk;
mod files;
mod held;
mod live;
mod long;
mod outputs;
mod ring;
mod segment;
mod watch;

pub(super) use live::Totals;
pub(crate) use long::{Long, seconds};
pub(super) use outputs::Outputs;

use super::experts::Selected;
use anyhow::Result;
use files::Files;
use live::Live;
use llmtrace_format::counters::{OpCounter, ProcessSample, SystemSample};
use llmtrace_format::inference::InferenceRow;
use llmtrace_format::machine::MachineRow;
use llmtrace_format::meta::{Ending, Graph, Recording, StrId};
use llmtrace_format::offload::OffloadRow;
use llmtrace_format::tables::{Decode, GraphSpan, LevelChange, Loss, Mark, Thread, Ubatch};
use llmtrace_format::{Header, OpSpan};
use ring::Ring;
use std::path::PathBuf;

/// Why a recording ends by itself.
pub(super) const SIZE: &str = "size reached";
/// Why a recording ends by itself.
pub(super) const TRIGGERS: &str = "triggers reached";
/// Saves after which a recording ends.
const DEFAULT_SAVES: u32 = 10;

/// Takes rows as a `Writer` does.
pub(super) struct Sink {
    live: Live,
    out: Out,
}

enum Out {
    Files(Box<Files>),
    Ring(Box<Ring>),
}

impl Sink {
    /// Begins the first file, or a ring.
    pub(super) fn begin(outputs: Outputs, long: &Long, header: Header) -> Result<Self> {
        let live = Live::default();
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let out = match long.ring() {
            Some(length) => {
                let threshold = long.trigger_tpot.map(nanos);
                let saves = long.triggers.unwrap_or(DEFAULT_SAVES);
                Out::Ring(Box::new(Ring::begin(outputs, nanos(length), threshold, saves, header, &live)?))
            }
            None => Out::Files(Box::new(Files::begin(outputs, long, header, &live)?)),
        };
        Ok(Self { live, out })
    }

    /// The id of a string, which is added when it is new.
    pub(super) fn string(&mut self, text: &str) -> StrId {
        let (id, new) = self.live.string(text);
        if let (true, Out::Files(files)) = (new, &mut self.out) {
            files.segment.string(text);
        }
        id
    }

    /// Takes what is known of the recording; may be called again.
    pub(super) fn write_recording(&mut self, recording: &Recording) -> Result<()> {
        self.live.recording = recording.clone();
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.recording(recording)),
            Out::Ring(_) => Ok(()),
        }
    }

    /// Takes a graph, which comes before its graph spans.
    pub(super) fn write_graph(&mut self, graph: &Graph) -> Result<()> {
        self.live.add_graph(graph)
    }

    /// Takes a thread, which comes before its op spans.
    pub(super) fn push_thread(&mut self, row: Thread) {
        self.live.add_thread(row);
    }

    pub(super) fn push_decode(&mut self, row: Decode) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.decode(row))?,
            Out::Ring(ring) => ring.decode(row),
        }
        Ok(())
    }

    pub(super) fn push_ubatch(&mut self, row: Ubatch) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.ubatch(row))?,
            Out::Ring(ring) => ring.ubatch(row),
        }
        Ok(())
    }

    /// Takes a graph span, which comes before its op spans.
    pub(super) fn push_graph_span(&mut self, row: GraphSpan) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.graph_span(row, &mut self.live),
            Out::Ring(ring) => ring.graph_span(row, &self.live),
        }
    }

    pub(super) fn push_op_span(&mut self, lane: u32, span: OpSpan) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.op_span(lane, span, &self.live)?,
            Out::Ring(ring) => ring.op_span(lane, span),
        }
        Ok(())
    }

    /// Takes what was counted for an op span, behind that.
    pub(super) fn push_op_counter(&mut self, lane: u32, row: OpCounter) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.op_counter(lane, row, &self.live)?,
            Out::Ring(ring) => ring.open.op_counters.push((lane, row)),
        }
        Ok(())
    }

    pub(super) fn push_process_sample(&mut self, row: ProcessSample) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.process_sample(row))?,
            Out::Ring(ring) => ring.open.process_samples.push(row),
        }
        Ok(())
    }

    pub(super) fn push_system_sample(&mut self, row: SystemSample) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.system_sample(row))?,
            Out::Ring(ring) => ring.open.system_samples.push(row),
        }
        Ok(())
    }

    /// Takes a selection of experts, which comes after its graph span.
    pub(super) fn push_selected(&mut self, selected: &Selected) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.selected(selected))?,
            Out::Ring(ring) => ring.open.selected(selected),
        }
        Ok(())
    }

    /// Takes a row of what the scheduler gives to backends; a split comes behind its graph.
    pub(super) fn push_offload(&mut self, row: OffloadRow) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.offload(row, &self.live))?,
            Out::Ring(ring) => ring.open.offload.push(row),
        }
        Ok(())
    }

    /// Takes a row of what the kernel did with threads and memory.
    pub(super) fn push_machine(&mut self, row: MachineRow) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.machine(row))?,
            Out::Ring(ring) => ring.open.machine.push(row),
        }
        Ok(())
    }

    pub(super) fn push_loss(&mut self, row: Loss) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.loss(row))?,
            Out::Ring(ring) => ring.open.losses.push(row),
        }
        Ok(())
    }

    pub(super) fn push_inference(&mut self, row: InferenceRow) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.inference(row))?,
            Out::Ring(ring) => ring.open.inference.push(row),
        }
        Ok(())
    }

    pub(super) fn push_level_change(&mut self, row: LevelChange) -> Result<()> {
        self.live.levels.insert(row.process, row);
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.level_change(row))?,
            Out::Ring(ring) => ring.open.level_changes.push(row),
        }
        Ok(())
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "only slow tokens are marked yet"))]
    pub(super) fn push_mark(&mut self, row: Mark) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.put(&self.live, |segment| segment.mark(row))?,
            Out::Ring(ring) => ring.open.marks.push(row),
        }
        Ok(())
    }

    /// Writes everything complete; a ring compresses it.
    pub(super) fn flush(&mut self) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.segment.flush(),
            Out::Ring(ring) => ring.seal(&self.live),
        }
    }

    /// Says how far the recording has come; called often, between calls that add
    /// rows. Begins new files, and saves what triggers ask for.
    pub(super) fn tick(&mut self, totals: Totals) -> Result<()> {
        match &mut self.out {
            Out::Files(files) => files.tick(totals, &self.live),
            Out::Ring(ring) => ring.tick(totals, &mut self.live),
        }
    }

    /// Saves the last seconds, when they are kept.
    pub(super) fn save(&mut self, reason: &str) {
        if let Out::Ring(ring) = &mut self.out {
            ring.trigger_now(reason, &mut self.live);
        }
    }

    /// Why the recording should end by itself, once it should.
    pub(super) fn done(&self) -> Option<&'static str> {
        match &self.out {
            Out::Files(files) => files.full.then_some(SIZE),
            Out::Ring(ring) => ring.is_done().then_some(TRIGGERS),
        }
    }

    /// What the status line says of the output.
    pub(super) fn status(&self) -> String {
        match &self.out {
            Out::Files(files) => files.status(),
            Out::Ring(ring) => ring.status(),
        }
    }

    /// What there is to say since the last call.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        match &mut self.out {
            Out::Files(_) => Vec::new(),
            Out::Ring(ring) => ring.take_notes(),
        }
    }

    /// Writes what is left, and closes. Returns the file to look at.
    pub(super) fn finish(&mut self, ending: &Ending, totals: Totals) -> Result<Written> {
        match &mut self.out {
            Out::Files(files) => {
                // No new file any more, however late it is.
                files.segment.advance(totals.now);
                files.close(ending)?;
                Ok(Written { path: Some(files.segment.path.clone()), notes: files.notes() })
            }
            Out::Ring(ring) => {
                ring.tick(totals, &mut self.live)?;
                let path = ring.close(ending, &mut self.live)?;
                Ok(Written { path, notes: ring.take_notes() })
            }
        }
    }

    /// After a write failed: keeps what was written, and says what that is.
    pub(super) fn rescue(&mut self, ending: &Ending) -> String {
        let saved = match &mut self.out {
            Out::Files(files) => Some((files.segment.path.clone(), files.rescue(ending))),
            Out::Ring(ring) => ring.rescue(ending),
        };
        let Some((path, saved)) = saved else { return "nothing of it is saved".to_owned() };
        let (mega, secs) = (saved.bytes as f64 / 1e6, saved.until as f64 / 1e9);
        let how = if saved.closed { "" } else { " without a footer, which `llmtrace check --repair` adds" };
        format!("{mega:.1} MB, up to {secs:.1} s of the recording, are saved{how}: {}", path.display())
    }
}

/// What became of the output.
pub(super) struct Written {
    /// The file to look at.
    pub(super) path: Option<PathBuf>,
    /// What there is to say.
    pub(super) notes: Vec<String>,
}
