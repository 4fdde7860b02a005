//! The file as the loader would map it at address 0.

use object::LittleEndian as LE;
use object::elf::{self, Rela64};

use super::elf::Object;
use super::symbols::all_of;
use super::tables::Memory;

/// Most relocations worth keeping; libraries with CUDA have some hundred thousand.
const MAX_RELOCATION_BYTES: u64 = 16 << 20;
/// Longest `read`.
const MAX_READ_BYTES: usize = 1 << 20;

/// Memory of a process that has not started: file content with relative relocations applied.
///
/// Addresses are vaddrs (load bias 0). `DT_RELR` needs no work at that bias, since its addends
/// are stored in place; symbolic relocations are left alone, as no table of ggml has them.
#[derive(Debug)]
pub(crate) struct FileImage<'a> {
    object: &'a Object,
    /// Place and value of each 8-byte pointer, sorted by place.
    pointers: Vec<(u64, u64)>,
}

impl<'a> FileImage<'a> {
    /// Reads the relocations of `object`; a damaged table counts as empty.
    pub(crate) fn new(object: &'a Object) -> Self {
        let pointers = read_pointers(object).unwrap_or_default();
        Self { object, pointers }
    }
}

impl Memory for FileImage<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> bool {
        if buf.len() > MAX_READ_BYTES {
            return false;
        }
        let Some(bytes) = self.object.bytes_at_vaddr(address, buf.len() as u64) else {
            return false;
        };
        buf.copy_from_slice(&bytes);
        let end = address.saturating_add(buf.len() as u64);
        // A pointer may begin up to seven bytes before the range.
        let first = self.pointers.partition_point(|&(place, _)| place.saturating_add(8) <= address);
        for &(place, value) in self.pointers.iter().skip(first) {
            if place >= end {
                break;
            }
            for (place, byte) in (place..).zip(value.to_le_bytes()) {
                let index = place.checked_sub(address).and_then(|i| usize::try_from(i).ok());
                if let Some(slot) = index.and_then(|i| buf.get_mut(i)) {
                    *slot = byte;
                }
            }
        }
        true
    }
}

fn read_pointers(object: &Object) -> Option<Vec<(u64, u64)>> {
    let dynamic = object.dynamic_entries();
    let value_of = |tag| dynamic.iter().find(|&&(t, _)| t == tag).map(|&(_, value)| value);
    let len = value_of(elf::DT_RELASZ)?.min(MAX_RELOCATION_BYTES);
    let bytes = object.bytes_at_vaddr(value_of(elf::DT_RELA)?, len)?;
    let mut pointers: Vec<(u64, u64)> = all_of::<Rela64<LE>>(&bytes)
        .iter()
        .filter(|rela| rela.r_type(LE, false) == elf::R_X86_64_RELATIVE)
        .map(|rela| (rela.r_offset.get(LE), rela.r_addend.get(LE).cast_unsigned()))
        .collect();
    pointers.sort_unstable();
    Some(pointers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::BinaryError;
    use crate::binary::fixtures::tiny_elf;

    #[test]
    fn pointers_are_relocated_even_when_read_in_part() -> Result<(), BinaryError> {
        let object = Object::parse(&tiny_elf(), &|_| true)?;
        let image = FileImage::new(&object);
        // The file of `tiny_elf` relocates 0x2008 to 0x1122334455667788.
        let mut whole = [0; 8];
        assert!(image.read(0x2008, &mut whole));
        assert_eq!(u64::from_le_bytes(whole), 0x1122_3344_5566_7788);
        let mut part = [0; 4];
        assert!(image.read(0x200a, &mut part));
        assert_eq!(part, [0x66, 0x55, 0x44, 0x33]);
        let mut before = [0; 8];
        assert!(image.read(0x2004, &mut before));
        assert_eq!(before, [0xd4, 0xd5, 0xd6, 0xd7, 0x88, 0x77, 0x66, 0x55]);
        Ok(())
    }

    #[test]
    fn addresses_outside_the_file_are_unreadable() -> Result<(), BinaryError> {
        let object = Object::parse(&tiny_elf(), &|_| true)?;
        let image = FileImage::new(&object);
        assert!(!image.read(0x5000, &mut [0; 8]));
        assert!(!image.read(u64::MAX, &mut [0; 8]));
        Ok(())
    }
}
