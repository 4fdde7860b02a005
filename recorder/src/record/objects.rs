//! The objects that the target maps, as they get loaded.

use super::maps::{self, Mapping};
use super::memory::ProcessMemory;
use super::plan;
use crate::binary::{BinaryError, FileImage, Learned, Located, Object, field_read, learn};
use std::collections::HashSet;
use std::io;

/// A mapped object with functions worth probing.
pub(super) struct Loaded {
    pub(super) object: Object,
    pub(super) mapping: Mapping,
}

/// All objects seen so far.
pub(super) struct Objects {
    pid: u32,
    seen: HashSet<(String, u64)>,
    pub(super) loaded: Vec<Loaded>,
    /// Files that we may not open.
    pub(super) refused: Vec<Mapping>,
}

impl Objects {
    pub(super) fn new(pid: u32) -> Self {
        Self { pid, seen: HashSet::new(), loaded: Vec::new(), refused: Vec::new() }
    }

    /// Number of mapped files looked into.
    pub(super) fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Looks for objects loaded since the last call; returns the index of the
    /// first new one.
    ///
    /// # Errors
    /// When the process is gone or may not be looked at.
    pub(super) fn scan(&mut self) -> io::Result<usize> {
        let first_new = self.loaded.len();
        for mapping in maps::executable(self.pid)? {
            if !self.seen.insert(mapping.file.clone()) {
                continue;
            }
            let file = match mapping.open(self.pid) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.refused.push(mapping);
                    continue;
                }
                Err(_) => {
                    // Engines load libraries to choose one, and unload the others.
                    self.seen.remove(&mapping.file);
                    log::debug!("gone before it could be searched: {}", mapping.path.display());
                    continue;
                }
            };
            match Object::open(file, &plan::keep) {
                Ok(object) => {
                    if object.symbols_matching_unsorted(plan::keep).next().is_some() {
                        self.loaded.push(Loaded { object, mapping });
                    }
                }
                // Fonts, locale archives and foreign code are mapped, too.
                Err(error) => log::debug!("not searched: {error}: {}", mapping.path.display()),
            }
        }
        Ok(first_new)
    }

    /// Whether any object has this symbol.
    pub(super) fn has(&self, symbol: &str) -> bool {
        self.loaded.iter().any(|loaded| loaded.object.symbol(symbol).is_some())
    }

    /// Where a context has the address of its KV cache; `None` when the build does not tell.
    pub(super) fn memory_offset(&self) -> Option<u32> {
        let code = |loaded: &Loaded| {
            let symbol = loaded.object.symbol(plan::MEMORY_OF_CONTEXT)?;
            Some((loaded.object.code(symbol)?, symbol.vaddr))
        };
        let (code, vaddr) = self.loaded.iter().find_map(code)?;
        field_read(&code, vaddr)
    }

    /// Which object has code at an address, and where in it: its place in `loaded`, and the
    /// address as linked.
    pub(super) fn at(&self, address: u64) -> Option<(usize, u64)> {
        // The newest first: an older one may have been unloaded.
        self.loaded.iter().enumerate().rev().find_map(|(index, loaded)| {
            let mapping = &loaded.mapping;
            let bias = loaded.object.load_bias(mapping.start, mapping.file_offset, true)?;
            let inside = (mapping.start..mapping.end).contains(&address);
            inside.then(|| (index, address.wrapping_sub(bias)))
        })
    }

    /// Learns the target's tables from its memory, or, while it is not yet
    /// relocated, from the file.
    ///
    /// # Errors
    /// When a table is missing or implausible.
    pub(super) fn learn(&self, memory: &ProcessMemory) -> Result<Learned, BinaryError> {
        let find = |name: &str| {
            self.loaded.iter().find_map(|loaded| {
                let symbol = loaded.object.symbol(name)?;
                let mapping = &loaded.mapping;
                let bias = loaded.object.load_bias(mapping.start, mapping.file_offset, true)?;
                Some(Located {
                    code: loaded.object.code(symbol)?,
                    vaddr_runtime: symbol.vaddr.wrapping_add(bias),
                })
            })
        };
        learn(&find, memory).or_else(|error| {
            let Some(loaded) = self.loaded.iter().find(|l| l.object.symbol("ggml_op_name").is_some()) else {
                return Err(error);
            };
            let find = |name: &str| {
                let symbol = loaded.object.symbol(name)?;
                Some(Located { code: loaded.object.code(symbol)?, vaddr_runtime: symbol.vaddr })
            };
            learn(&find, &FileImage::new(&loaded.object))
        })
    }
}
