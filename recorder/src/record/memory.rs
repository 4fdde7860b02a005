//! Reads the target's memory.

use crate::binary::Memory;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::io::IoSliceMut;

/// The kernel takes at most this many pieces a call.
const MAX_PIECES: usize = 1024;

/// Memory of a running process.
#[derive(Clone, Copy)]
pub(super) struct ProcessMemory {
    pid: Pid,
}

impl ProcessMemory {
    pub(super) fn new(pid: u32) -> Self {
        Self { pid: Pid::from_raw(pid as i32) }
    }

    /// `count` words at `address`; `None` unless all can be read.
    pub(super) fn read_words(&self, address: u64, count: usize) -> Option<Vec<u64>> {
        let mut bytes = vec![0; count * 8];
        self.read(address, &mut bytes).then_some(())?;
        Some(
            bytes
                .chunks_exact(8)
                .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
                .collect(),
        )
    }

    /// `len` bytes at each address, one after the other; `None` unless all can
    /// be read.
    pub(super) fn read_records(&self, addresses: &[u64], len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; addresses.len() * len];
        for (piece, addresses) in bytes.chunks_mut(MAX_PIECES * len).zip(addresses.chunks(MAX_PIECES)) {
            let remote: Vec<RemoteIoVec> =
                addresses.iter().map(|&address| RemoteIoVec { base: address as usize, len }).collect();
            let want = piece.len();
            let read = process_vm_readv(self.pid, &mut [IoSliceMut::new(piece)], &remote);
            if read != Ok(want) {
                return None;
            }
        }
        Some(bytes)
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let (base, len) = (address as usize, buffer.len());
        process_vm_readv(self.pid, &mut [IoSliceMut::new(buffer)], &[RemoteIoVec { base, len }]) == Ok(len)
    }
}
