//! Events to slices: complete ones as they are, begins and ends joined.

use super::event::{Class, Event, classify, operator};
use super::split::{Events, Next};
use anyhow::Result;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;

/// Most different operators; later ones are joined into one.
const MAX_NODES: usize = 100_000;

/// Where events happen: process and thread.
pub(super) type Track = (i64, i64);

/// What a slice is; an op with its node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Decode { is_encode: bool },
    Ubatch,
    Graph,
    Op { node: u32 },
}

/// What arguments tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) wait: Option<u64>,
    pub(super) tokens: Option<u32>,
    pub(super) sequences: Option<u32>,
    pub(super) result: u32,
    pub(super) cpu: u32,
    pub(super) phase: u8,
}

/// Something that took time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    pub(super) kind: Kind,
    pub(super) track: Track,
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) facts: Facts,
}

/// What was met on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Events in the file.
    pub(super) events: u64,
    /// Slices of other programs or functions.
    pub(super) other: u64,
    /// Events that are none, or lack their time.
    pub(super) malformed: u64,
    /// Begins without end, and ends without begin.
    pub(super) unpaired: u64,
}

/// Nodes by name, and what a name is; kept from one pass to the next.
#[derive(Default)]
pub(super) struct Names {
    nodes: HashMap<String, u32>,
    /// Operator and tensor of each node.
    pub(super) list: Vec<(String, String)>,
    /// Name of the first process that tells it.
    pub(super) process: Option<String>,
}

impl Names {
    fn kind(&mut self, name: &str, category: &str) -> Option<Kind> {
        if let Some(&node) = self.nodes.get(name) {
            return Some(Kind::Op { node });
        }
        Some(match classify(name, category)? {
            Class::Decode => Kind::Decode { is_encode: false },
            Class::Encode => Kind::Decode { is_encode: true },
            Class::Ubatch => Kind::Ubatch,
            Class::Graph => Kind::Graph,
            Class::Op if self.list.len() >= MAX_NODES => Kind::Op { node: MAX_NODES as u32 - 1 },
            Class::Op => {
                let node = self.list.len() as u32;
                let last = self.list.len() + 1 == MAX_NODES;
                let (op, tensor) = if last { ("OTHER", "") } else { operator(name) };
                self.list.push((op.to_owned(), tensor.to_owned()));
                self.nodes.insert(name.to_owned(), node);
                Kind::Op { node }
            }
        })
    }
}

/// Reads all slices of a stream. `progress` gets the bytes read so far and
/// returns `false` to cancel.
pub(super) fn read<R: Read>(
    stream: R,
    names: &mut Names,
    progress: &mut dyn FnMut(u64) -> bool,
    mut each: impl FnMut(Slice) -> Result<()>,
) -> Result<Counts> {
    let mut events = Events::new(stream);
    let mut counts = Counts::default();
    // Slices that began, by track; `None` for those of others, so that ends find theirs.
    let mut open: BTreeMap<Track, Vec<Option<Slice>>> = BTreeMap::new();
    loop {
        if counts.events.is_multiple_of(4096) && !progress(events.position()) {
            return Err(llmtrace_format::Error::Cancelled.into());
        }
        let next = events.next(|text| {
            let (event, len) = Event::read(text)?;
            Some((one(&event, names, &mut open, &mut counts), len))
        })?;
        let slice = match next {
            Next::Event(slice) => slice,
            Next::Malformed => {
                counts.malformed += 1;
                None
            }
            Next::End => break,
        };
        counts.events += 1;
        if let Some(slice) = slice {
            each(slice)?;
        }
    }
    let left = open.values().flatten().filter(|slice| slice.is_some()).count();
    counts.unpaired += left as u64;
    Ok(counts)
}

/// The slice that is complete with an event.
fn one(
    event: &Event<'_>,
    names: &mut Names,
    open: &mut BTreeMap<Track, Vec<Option<Slice>>>,
    counts: &mut Counts,
) -> Option<Slice> {
    let track = (event.pid.id(), event.tid.id());
    match &*event.ph {
        "X" | "B" => {
            let Some(begin) = event.ts.nanos() else {
                counts.malformed += 1;
                return None;
            };
            let kind = names.kind(&event.name, &event.cat);
            counts.other += u64::from(kind.is_none());
            let slice = kind.map(|kind| Slice { kind, track, begin, end: begin, facts: facts(event) });
            if event.ph == "B" {
                open.entry(track).or_default().push(slice);
                return None;
            }
            let end = begin.saturating_add(event.dur.nanos().unwrap_or(0).max(0));
            slice.map(|slice| Slice { end, ..slice })
        }
        "E" => {
            let slice = open.get_mut(&track).and_then(Vec::pop);
            let Some(end) = event.ts.nanos() else {
                counts.malformed += 1;
                return None;
            };
            counts.unpaired += u64::from(slice.is_none());
            slice.flatten().map(|slice| Slice { end: end.max(slice.begin), ..slice })
        }
        "M" if event.name == "process_name" && names.process.is_none() => {
            names.process = event.args.name.as_deref().map(str::to_owned);
            None
        }
        _ => None,
    }
}

fn facts(event: &Event<'_>) -> Facts {
    let args = &event.args;
    Facts {
        wait: args.wait.nanos().map(|wait| wait.max(0) as u64),
        tokens: args.tokens.count(),
        sequences: args.sequences.count(),
        result: args.result.count().unwrap_or(0),
        cpu: args.cpu.count().unwrap_or(0),
        phase: match args.phase.as_deref() {
            Some("prefill") => 1,
            Some("decode") => 2,
            Some("encode") => 3,
            _ => 0,
        },
    }
}
