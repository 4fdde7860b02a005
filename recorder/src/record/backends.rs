//! Which backends a program has: their names, their functions, their memory.
//!
//! A backend is a table of functions, most of them `static` in a library that may be
//! stripped. We read the table from the target's memory, find the functions in the mapped
//! files, attach to them there, and read along in the ones that tell names. Where that
//! says nothing, the file's name stands for the backend's, and is marked as such.

use super::memory::ProcessMemory;
use super::objects::Objects;
use super::offload::{End, Told};
use super::plan::{Call, Point, Program};
use crate::binary::{
    Arg, BackendLayout, Learned, Memory as _, MemoryLayout, Symbol, probe_site, return_site, returned,
    returned_text,
};
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{Backend, NameSource};
use std::collections::HashMap;

/// A scheduler has at most so many.
const MAX_BACKENDS: u32 = 16;
/// Of `struct ggml_backend_sched`, since March 2024.
const COUNT_IN_SCHEDULER: u64 = 4;
const LIST_IN_SCHEDULER: u64 = 8;
/// Remembered: backends of one process, and kinds of memory.
const MAX_KNOWN: usize = 256;

/// A kind of memory, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryKind {
    /// As the target names it; empty when unknown.
    pub(super) name: String,
    pub(super) is_host: Option<bool>,
    /// Address of the device that it is of; 0 when unknown.
    device: u64,
}

struct Known {
    index: u32,
    device: u64,
    functions: [u64; 4],
}

/// Backends of one process, and what its memory is called.
pub(super) struct Backends {
    memory: ProcessMemory,
    process: u32,
    /// By address.
    known: HashMap<u64, Known>,
    /// By address of the `ggml_backend_buffer_type`, which stay.
    kinds: HashMap<u64, MemoryKind>,
}

/// What was found out about backends.
#[derive(Default)]
pub(super) struct Found {
    /// To be appended to those of the recording.
    pub(super) backends: Vec<Backend>,
    /// What to attach to, by place in [`Objects::loaded`].
    pub(super) points: Vec<(Point, usize)>,
}

impl Backends {
    pub(super) fn new(memory: ProcessMemory, process: u8) -> Self {
        Self { memory, process: process.into(), known: HashMap::new(), kinds: HashMap::new() }
    }

    /// Looks at backends; `first` is the place of the next new one in the recording.
    pub(super) fn meet(&mut self, told: &[Told], learned: &Learned, objects: &Objects, first: u32) -> Found {
        let mut found = Found::default();
        let Some(layout) = learned.backend else { return found };
        let addresses: Vec<u64> = told.iter().flat_map(|told| self.addresses(*told)).collect();
        for address in addresses {
            let Some(functions) = self.functions(address, &layout) else { continue };
            // Another one may lie where one was freed.
            if self.known.get(&address).is_some_and(|known| known.functions == functions) {
                continue;
            }
            if self.known.len() >= MAX_KNOWN {
                self.known.clear();
            }
            let device = self.device(address, &layout);
            let is_code = |function: u64| objects.at(function).is_some();
            // One that was freed meanwhile has kept all but its first words.
            let [name, rest @ ..] = functions;
            let same = |known: &&Known| {
                let [known_name, known_rest @ ..] = known.functions;
                known_rest == rest && known.device == device && (known_name == name || !is_code(name))
            };
            // Each context has its own backends of the same devices; one row is enough.
            let known = self.known.values().find(same).map(|known| (known.index, known.functions));
            if known.is_none() && !is_code(name) {
                continue;
            }
            let (index, functions) = known.unwrap_or_else(|| {
                let backend = self.describe(address, functions, device, &layout, objects);
                let index = first + found.backends.len() as u32;
                log::debug!(
                    "backend {} at {address:x}: functions {functions:x?}, device {device:x}",
                    backend.name
                );
                found.points.extend(points(&backend.name, functions, objects));
                found.backends.push(backend);
                (index, functions)
            });
            self.known.insert(address, Known { index, device, functions });
        }
        found
    }

    /// The place of a backend in the recording.
    pub(super) fn index(&self, address: u64) -> u32 {
        self.known.get(&address).map_or(NONE, |known| known.index)
    }

    /// The backend whose device a kind of memory is of.
    pub(super) fn of_memory(&self, kind: &MemoryKind) -> u32 {
        let mut of_it = self.known.values().filter(|known| kind.device != 0 && known.device == kind.device);
        // Several backends may share a device; the first one is the program's.
        of_it.by_ref().map(|known| known.index).min().unwrap_or(NONE)
    }

    /// What memory one end of a copy is in.
    pub(super) fn memory_of(&mut self, end: End, learned: Option<&Learned>, objects: &Objects) -> MemoryKind {
        let buffer = match end {
            End::Unknown => return MemoryKind::default(),
            End::Program => return MemoryKind { is_host: Some(true), ..MemoryKind::default() },
            End::Buffer(buffer) => buffer,
        };
        let Some(layout) = learned.and_then(|learned| learned.memory) else { return MemoryKind::default() };
        let Some(kind) = self.word(buffer, layout.buffer_type) else { return MemoryKind::default() };
        if let Some(known) = self.kinds.get(&kind) {
            return known.clone();
        }
        let described = self.kind(kind, &layout, objects);
        // What cannot be named may be no kind at all, and is not remembered.
        if !described.name.is_empty() && self.kinds.len() < MAX_KNOWN {
            self.kinds.insert(kind, described.clone());
        }
        described
    }

    fn kind(&self, address: u64, layout: &MemoryLayout, objects: &Objects) -> MemoryKind {
        let name = self.text(address, self.word(address, layout.get_name), objects);
        if name.is_empty() {
            return MemoryKind::default();
        }
        let is_host = match self.word(address, layout.is_host) {
            Some(0) => Some(false),
            Some(function) => code(objects, function)
                .and_then(|code| returned(&code, function, address, &self.memory))
                .map(|value| value & 0xff != 0),
            None => None,
        };
        MemoryKind { name, is_host, device: self.word(address, layout.device).unwrap_or(0) }
    }

    fn addresses(&self, told: Told) -> Vec<u64> {
        let (list, count) = match told {
            Told::Backend(address) => return vec![address],
            Told::List(list, count) => (list, count),
            Told::Scheduler(scheduler) => {
                let Some(word) = self.memory.read_words(scheduler + COUNT_IN_SCHEDULER - 4, 1) else {
                    return Vec::new();
                };
                let count = word.first().map_or(0, |word| (word >> 32) as u32);
                (scheduler + LIST_IN_SCHEDULER, count)
            }
        };
        if count > MAX_BACKENDS {
            return Vec::new();
        }
        self.memory.read_words(list, count as usize).unwrap_or_default()
    }

    /// The functions of a backend: name, copy, wait, compute. `None` when it is none.
    fn functions(&self, address: u64, layout: &BackendLayout) -> Option<[u64; 4]> {
        let at = |offset| self.word(address, offset);
        let functions = [
            at(layout.get_name)?,
            at(layout.copy_tensor())?,
            at(layout.synchronize)?,
            at(layout.graph_compute)?,
        ];
        let [name, _, _, compute] = functions;
        (name != 0 && compute != 0).then_some(functions)
    }

    fn device(&self, address: u64, layout: &BackendLayout) -> u64 {
        layout.device.and_then(|[device, ..]| self.word(address, device)).unwrap_or(0)
    }

    fn describe(
        &self,
        address: u64,
        [get_name, _, synchronize, compute]: [u64; 4],
        device: u64,
        layout: &BackendLayout,
        objects: &Objects,
    ) -> Backend {
        let object = objects.at(compute).and_then(|(at, _)| objects.loaded.get(at));
        let object = object.map(|loaded| loaded.mapping.base_name()).unwrap_or_default();
        let told = self.text(address, Some(get_name), objects);
        let (name, name_source) = named(told, &object);
        let of_device = |function: usize| {
            let offset = layout.device.and_then(|offsets| offsets.get(function).copied());
            let function = offset.filter(|_| device != 0).and_then(|offset| self.word(device, offset));
            self.text(device, function, objects)
        };
        Backend {
            name,
            name_source,
            device: of_device(1),
            description: of_device(2),
            object,
            process: self.process,
            synchronizes: synchronize != 0,
        }
    }

    /// What a function that tells a name says of `argument`; empty when that cannot be told.
    fn text(&self, argument: u64, function: Option<u64>, objects: &Objects) -> String {
        let text = function
            .and_then(|function| returned_text(&code(objects, function)?, function, argument, &self.memory));
        text.unwrap_or_default()
    }

    fn word(&self, address: u64, offset: u32) -> Option<u64> {
        let mut word = [0; 8];
        let at = address.checked_add(u64::from(offset))?;
        self.memory.read(at, &mut word).then_some(u64::from_le_bytes(word))
    }
}

fn code(objects: &Objects, function: u64) -> Option<Vec<u8>> {
    let (index, vaddr) = objects.at(function)?;
    objects.loaded.get(index)?.object.code(Symbol { vaddr, size: 0 })
}

/// Where to attach to a backend's functions.
fn points(name: &str, [_, copy, wait, compute]: [u64; 4], objects: &Objects) -> Vec<(Point, usize)> {
    const FOUR: &[Arg] = &[Arg::Rdx, Arg::Rcx];
    let functions = [
        (copy, "cpy_tensor_async", Program::CopyBegin, Program::CopyEnd, FOUR, Call::ByBackend.cookie()),
        (wait, "synchronize", Program::WaitBegin, Program::WaitEnd, &[Arg::Rdi][..], 0),
        (compute, "graph_compute", Program::SplitBegin, Program::SplitEnd, &[Arg::Rdi, Arg::Rsi], 0),
    ];
    let mut points = Vec::new();
    for (function, what, begin, end, args, cookie) in functions {
        let Some((index, vaddr)) = objects.at(function).filter(|_| function != 0) else { continue };
        let Some(object) = objects.loaded.get(index).map(|loaded| &loaded.object) else { continue };
        let Some(code) = object.code(Symbol { vaddr, size: 0 }) else { continue };
        let sites = [(begin, probe_site(&code, vaddr, args)), (end, return_site(&code, vaddr))];
        for (program, site) in sites {
            let offset = object.file_offset(vaddr + u64::from(site.offset_in_function));
            let symbol = format!("{what} of {name}");
            points.extend(
                offset.map(|file_offset| (Point { program, symbol, file_offset, cookie, site }, index)),
            );
        }
    }
    points
}

/// The name of a backend: what the target says, else the file with its code.
fn named(told: String, object: &str) -> (String, NameSource) {
    match (told.is_empty(), object.is_empty()) {
        (false, _) => (told, NameSource::Target),
        (true, false) => (object.to_owned(), NameSource::File),
        (true, true) => (String::new(), NameSource::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_without_a_name_has_that_of_its_file_or_none() {
        assert_eq!(named("CUDA0".into(), "libggml-cuda.so"), ("CUDA0".into(), NameSource::Target));
        assert_eq!(named(String::new(), "libggml-x.so"), ("libggml-x.so".into(), NameSource::File));
        assert_eq!(named(String::new(), ""), (String::new(), NameSource::Unknown));
    }
}
