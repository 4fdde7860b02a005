//! Which file an address is of, by `/proc/PID/maps` at that time, and what lies in it.

use super::super::maps::{self, Mapping, Region};
use super::faults::Place;
use super::gguf;
use llmtrace_format::constants::NONE;
use llmtrace_format::meta::{MappedFile, Recording};
use std::time::{Duration, Instant};

/// Mappings change while a model is loaded.
const STALE: Duration = Duration::from_millis(100);
/// Files remembered; more are unknown.
const MAX_FILES: usize = 256;

/// Of one process.
pub(super) struct Files {
    pid: u32,
    /// By address.
    regions: Vec<Region>,
    read: Option<Instant>,
    known: Vec<Known>,
}

struct Known {
    mapping: Mapping,
    /// Index into the recording's files, once it is there.
    index: Option<u32>,
}

impl Files {
    pub(super) fn new(pid: u32) -> Self {
        Self { pid, regions: Vec::new(), read: None, known: Vec::new() }
    }

    /// Where an address is.
    pub(super) fn find(&mut self, address: u64) -> Place {
        let fresh = self.read.is_some_and(|read| read.elapsed() < STALE);
        if !fresh || self.region(address).is_none() {
            self.read = Some(Instant::now());
            if let Ok(regions) = maps::regions(self.pid) {
                self.regions = regions;
            }
        }
        let Some(region) = self.region(address) else { return Place::Unknown };
        let Some(mapping) = &region.mapping else { return Place::Anonymous { mapping: region.start } };
        let offset = mapping.file_offset.wrapping_sub(mapping.start);
        if let Some(file) = self.known.iter().position(|known| known.mapping.file == mapping.file) {
            return Place::File { file, offset };
        }
        if self.known.len() >= MAX_FILES {
            return Place::Unknown;
        }
        self.known.push(Known { mapping: mapping.clone(), index: None });
        Place::File { file: self.known.len() - 1, offset }
    }

    fn region(&self, address: u64) -> Option<&Region> {
        let after = self.regions.partition_point(|region| region.start <= address);
        self.regions.get(after.checked_sub(1)?).filter(|region| address < region.end)
    }

    /// The number of a file in the recording, to which it is added when it is new.
    pub(super) fn index(&mut self, file: Option<usize>, recording: &mut Recording) -> u32 {
        let Some(known) = file.and_then(|file| self.known.get_mut(file)) else { return NONE };
        if let Some(index) = known.index {
            return index;
        }
        let described = describe(&known.mapping, self.pid);
        // Another process may have the same file mapped.
        let there = recording.files.iter().position(|other| *other == described);
        let index = there.unwrap_or_else(|| {
            recording.files.push(described);
            recording.files.len() - 1
        }) as u32;
        known.index = Some(index);
        index
    }
}

/// What is told of a file: its name, and the tensors in it.
fn describe(mapping: &Mapping, pid: u32) -> MappedFile {
    let name = mapping.base_name();
    let Ok(file) = mapping.open(pid) else { return MappedFile { name, ..MappedFile::default() } };
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let tensors = gguf::tensors(file, bytes).unwrap_or_else(|error| {
        log::debug!("the tensors of {name} are not known: {error}");
        Vec::new()
    });
    MappedFile { name, bytes, tensors }
}

#[cfg(test)]
mod tests {
    use super::*;

    static CONSTANT: [u8; 5000] = [7; 5000];

    #[test]
    fn our_own_memory_is_found() {
        let mut files = Files::new(std::process::id());
        let address = std::ptr::from_ref(&CONSTANT) as u64;
        let Place::File { file, offset } = files.find(address) else { panic!("it is of our executable") };
        let exe = std::env::current_exe().expect("we are one");
        let mut recording = Recording::default();
        assert_eq!(files.index(Some(file), &mut recording), 0);
        assert_eq!(files.index(Some(file), &mut recording), 0);
        let described = recording.files.first().expect("a file");
        assert_eq!(Some(described.name.as_str()), exe.file_name().and_then(|name| name.to_str()));
        let content = std::fs::read(&exe).expect("we can read it");
        assert_eq!(described.bytes, content.len() as u64);
        let at = address.wrapping_add(offset) as usize;
        assert_eq!(content.get(at..at + 5000), Some(&CONSTANT[..]));
        let local = 5u8;
        assert!(matches!(files.find(std::ptr::from_ref(&local) as u64), Place::Anonymous { .. }));
        assert_eq!(files.find(8), Place::Unknown);
    }
}
