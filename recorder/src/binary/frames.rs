//! Where the function around an address begins and ends.
//!
//! Call frame information is part of what gets loaded, since C++ exceptions need it, so it tells
//! the bounds of `static` functions even in a stripped file.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, UnwindSection};

use super::elf::Object;

/// How every linker encodes the count and the table of `.eh_frame_hdr`: 4 bytes, and 4 + 4 bytes
/// relative to the header. With others gimli 0.34 may overflow on hostile numbers.
const COUNT_AND_TABLE_ENCODING: [u8; 2] = [0x03, 0x3b];

/// The call frame information of one object.
#[derive(Debug)]
pub(super) struct Frames {
    header_vaddr: u64,
    header: Vec<u8>,
    frames_vaddr: u64,
    frames: Vec<u8>,
}

impl Frames {
    /// Reads `.eh_frame_hdr` and `.eh_frame`; `None` if the object has none.
    pub(super) fn read(object: &Object) -> Option<Self> {
        let (header_vaddr, header) = object.unwind_header()?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header_vaddr);
        let parsed = EhFrameHdr::new(&header, LittleEndian).parse(&bases, 8).ok()?;
        let frames_vaddr = parsed.eh_frame_ptr().direct().ok()?;
        let frames = object.rest_of_segment(frames_vaddr)?;
        Some(Self { header_vaddr, header, frames_vaddr, frames })
    }

    /// The function, or the part that the compiler left in one piece, that `vaddr` lies in.
    pub(super) fn function_at(&self, vaddr: u64) -> Option<Range<u64>> {
        if self.header.get(2..4)? != COUNT_AND_TABLE_ENCODING {
            return None;
        }
        let bases =
            BaseAddresses::default().set_eh_frame_hdr(self.header_vaddr).set_eh_frame(self.frames_vaddr);
        let parsed = EhFrameHdr::new(&self.header, LittleEndian).parse(&bases, 8).ok()?;
        let entry_vaddr = parsed.table()?.lookup(vaddr, &bases).ok()?.direct().ok()?;
        let offset = usize::try_from(entry_vaddr.checked_sub(self.frames_vaddr)?).ok()?;
        let frames: EhFrame<EndianSlice<'_, _>> = EhFrame::new(&self.frames, LittleEndian);
        let entry = frames.fde_from_offset(&bases, offset.into(), EhFrame::cie_from_offset).ok()?;
        // The table gives the nearest entry, which need not reach as far as `vaddr`.
        entry.contains(vaddr).then(|| entry.initial_address()..entry.end_address())
    }
}

/// The same from symbols, for code compiled without unwind tables.
pub(super) fn symbol_at(object: &Object, vaddr: u64) -> Option<Range<u64>> {
    let (_, symbol) = object
        .symbols_matching_unsorted(|_| true)
        .find(|(_, symbol)| vaddr.checked_sub(symbol.vaddr).is_some_and(|delta| delta < symbol.size))?;
    Some(symbol.vaddr..symbol.vaddr.checked_add(symbol.size)?)
}
