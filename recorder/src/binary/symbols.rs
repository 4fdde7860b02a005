//! Names and addresses of functions and data objects.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CStr;

use object::LittleEndian as LE;
use object::elf::{self, Sym64};
use object::pod::{Pod, slice_from_bytes};

/// C++ names are long, but not that long. Bounds the work when names overlap.
const MAX_NAME_BYTES: usize = 4096;
/// All kept names together; a hostile table can name the same bytes again and again.
const MAX_KEPT_NAME_BYTES: usize = 32 << 20;

/// Where a function or a data object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// Address as linked, before the load bias.
    pub(crate) vaddr: u64,
    /// Length in bytes; 0 if the linker did not know.
    pub(crate) size: u64,
}

/// The kept symbols of one file, by name.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    by_name: HashMap<Box<str>, Symbol>,
    name_bytes: usize,
}

impl Symbols {
    pub(super) fn get(&self, name: &str) -> Option<Symbol> {
        self.by_name.get(name).copied()
    }

    pub(super) fn iter_unsorted(&self) -> impl Iterator<Item = (&str, Symbol)> {
        self.by_name.iter().map(|(name, &symbol)| (&**name, symbol))
    }

    /// Adds what `keep` accepts from one ELF symbol table; a name already known stays.
    ///
    /// Entries from `first_global` on go first: a global function must win over `static` ones
    /// of the same name.
    pub(super) fn add_table(
        &mut self,
        symbols: &[u8],
        strings: &[u8],
        first_global: usize,
        keep: &dyn Fn(&str) -> bool,
    ) {
        let symbols = all_of::<Sym64<LE>>(symbols);
        let (locals, globals) = symbols.split_at(first_global.min(symbols.len()));
        for symbol in globals.iter().chain(locals) {
            let Some(name) = defined_name(symbol, strings) else { continue };
            if keep(name) {
                self.insert(name, symbol);
            }
        }
    }

    fn insert(&mut self, name: &str, symbol: &Sym64<LE>) {
        if self.name_bytes + name.len() > MAX_KEPT_NAME_BYTES {
            return;
        }
        if let Entry::Vacant(entry) = self.by_name.entry(name.into()) {
            self.name_bytes += name.len();
            entry.insert(Symbol { vaddr: symbol.st_value.get(LE), size: symbol.st_size.get(LE) });
        }
    }
}

/// The name of a function or data object that this file defines.
///
/// Thread-local objects have no address, and the address of an indirect function is that of its
/// resolver; neither can be used. GCC's `f.cold` is typed as a function, but is the unlikely part
/// of `f`, which a search for names beginning with `f` must not find.
fn defined_name<'a>(symbol: &Sym64<LE>, strings: &'a [u8]) -> Option<&'a str> {
    let usable = matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_OBJECT)
        && symbol.st_shndx.get(LE) != elf::SHN_UNDEF;
    if !usable {
        return None;
    }
    let tail = strings.get(symbol.st_name.get(LE) as usize..)?;
    let window = tail.get(..MAX_NAME_BYTES).unwrap_or(tail);
    let name = CStr::from_bytes_until_nul(window).ok()?.to_str().ok()?;
    (!name.is_empty() && !name.contains(".cold")).then_some(name)
}

/// Views `bytes` as an array, without a partial element at the end.
pub(super) fn all_of<T: Pod>(bytes: &[u8]) -> &[T] {
    // The types of `object::elf` have alignment 1, so only the length could be wrong, and is not.
    slice_from_bytes(bytes, bytes.len() / size_of::<T>()).map_or(&[], |(items, _)| items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: u32, info: u8, section: u16, vaddr: u64) -> Vec<u8> {
        let mut bytes = name.to_le_bytes().to_vec();
        bytes.extend([info, 0]);
        bytes.extend(section.to_le_bytes());
        bytes.extend(vaddr.to_le_bytes());
        bytes.extend(8u64.to_le_bytes());
        bytes
    }

    const STRINGS: &[u8] = b"\0alpha\0beta\0alpha.cold\0unterminated";

    #[test]
    fn globals_win_over_locals_and_undefined_ones_are_skipped() {
        let table = [
            entry(1, 0x02, 1, 0x10), // local function alpha
            entry(1, 0x12, 1, 0x20), // global function alpha
            entry(7, 0x12, 0, 0),    // undefined beta
            entry(7, 0x16, 1, 0x30), // thread-local beta
        ]
        .concat();
        let mut symbols = Symbols::default();
        symbols.add_table(&table, STRINGS, 1, &|_| true);
        assert_eq!(symbols.get("alpha"), Some(Symbol { vaddr: 0x20, size: 8 }));
        assert_eq!(symbols.get("beta"), None);
    }

    #[test]
    fn hostile_entries_are_ignored() {
        let table = [
            entry(u32::MAX, 0x12, 1, 1), // outside the strings
            entry(23, 0x12, 1, 2),       // without an end
            entry(0, 0x12, 1, 3),        // empty
            vec![1, 2, 3],               // partial
        ]
        .concat();
        let mut symbols = Symbols::default();
        symbols.add_table(&table, STRINGS, usize::MAX, &|_| true);
        assert_eq!(symbols.iter_unsorted().count(), 0);
    }

    #[test]
    fn the_filter_decides_what_is_kept_and_cold_parts_are_not() {
        let table = [entry(1, 0x12, 1, 1), entry(7, 0x11, 1, 2), entry(12, 0x02, 1, 3)].concat();
        let mut symbols = Symbols::default();
        symbols.add_table(&table, STRINGS, 0, &|name| name != "alpha");
        let names: Vec<&str> = symbols.iter_unsorted().map(|(name, _)| name).collect();
        assert_eq!(names, ["beta"]);
    }
}
