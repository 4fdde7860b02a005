//! The machine under the inference: what the kernel did with the target's threads and memory.

use crate::block::BlockHead;
use crate::column::Preference;
use crate::constants::{NO_LANE, kind};
use crate::offload::{WriteBlock, rows};
use crate::tables::{self, ColumnSet, ColumnSpec, Table, convert, table};
use crate::{BlockInfo, Nanos, Result, TimeRange, TraceFile};

table! {
    /// What threads of the target were doing, as the kernel's scheduler sees it.
    ThreadStates of
    /// A thread was in one state for a while. Where a thread has no row, its state is unknown.
    ThreadState, kind::THREAD_STATES, "thread states";
    /// When the state began.
    0 begin: Nanos as Delta,
    /// When the next one did.
    1 end: Nanos as Delta,
    /// Kernel thread.
    2 tid: u32 as Planes,
    /// Index into [`crate::meta::Recording::processes`].
    3 process: u32 as Runs,
    /// [`State`] as a number.
    4 state: u8 as Planes,
    /// CPU that it ran on, or was on last; [`crate::constants::NONE`] when unknown.
    5 cpu: u32 as Planes,
    /// Of a preempted thread: the kernel thread that runs in its place; of a woken one: that which
    /// woke it by a system call. [`crate::constants::NONE`] when unknown or of another state.
    6 other_tid: u32 as Planes,
    /// The process of that; the same.
    7 other_pid: u32 as Planes,
    /// Its name: index into the strings; 0 when unknown.
    8 other: u32 as Runs,
    /// 1 when the row goes on from the thread's row before, with the same state.
    9 continues: u8 as Runs,
    /// 1 when events of its time were lost.
    10 touched_by_loss: u8 as Runs,
}

table! {
    /// How fast CPUs ran, where the kernel reports it.
    Frequencies of
    /// One sample.
    Frequency, kind::FREQUENCIES, "CPU frequencies";
    /// When the sample before was taken.
    0 begin: Nanos as Delta,
    /// When it was taken.
    1 end: Nanos as Delta,
    /// The CPU.
    2 cpu: u32 as Planes,
    /// Kilohertz that the kernel reported.
    3 khz: u32 as Planes,
    /// Always 0: samples are not lost.
    4 touched_by_loss: u8 as Runs,
}

table! {
    /// Page faults of the target.
    Faults of
    /// Faults of one thread that follow each other in one mapping, within one operator.
    Fault, kind::FAULTS, "page faults";
    /// When the first one began.
    0 begin: Nanos as Delta,
    /// When the last one began, or the last wait for one of them ended.
    1 end: Nanos as Delta,
    /// Kernel thread.
    2 tid: u32 as Planes,
    /// Index into [`crate::meta::Recording::processes`].
    3 process: u32 as Runs,
    /// How many; those without an address included.
    4 count: u32 as Planes,
    /// How many of them had to wait for a disk, as the kernel counts them;
    /// [`crate::constants::NONE`] when the kernel's count could not be read.
    5 major: u32 as Planes,
    /// How many of them system calls made for the thread, such as `mmap` with `MAP_POPULATE`:
    /// their addresses are not known.
    6 unaddressed: u32 as Planes,
    /// Nanoseconds that the thread slept in them; 0 when thread states are not recorded.
    7 wait: u64 as Planes,
    /// Lowest address, rounded down to a page of 4 KiB.
    8 address: u64 as Planes,
    /// Bytes from there to the end of the highest page.
    9 bytes: u64 as Planes,
    /// Index into [`crate::meta::Recording::files`]; [`crate::constants::NONE`] for memory
    /// that is of no file, or when unknown.
    10 file: u32 as Runs,
    /// Where in the file the lowest address lies.
    11 offset: u64 as Planes,
    /// 1 when the mapping is known.
    12 known: u8 as Runs,
    /// 1 when events of its time were lost.
    13 touched_by_loss: u8 as Runs,
}

table! {
    /// Reads from disks that threads of the target asked for.
    BlockReads of
    /// One request of a file system to a block device; reading ahead is part of it.
    BlockRead, kind::BLOCK_READS, "block reads";
    /// When it was asked for.
    0 begin: Nanos as Delta,
    /// When it was done.
    1 end: Nanos as Delta,
    /// Kernel thread that asked.
    2 tid: u32 as Planes,
    /// Index into [`crate::meta::Recording::processes`].
    3 process: u32 as Runs,
    /// Bytes.
    4 bytes: u32 as Planes,
    /// Major number of the device in the upper 12 bits, minor number in the lower 20.
    5 device: u32 as Runs,
    /// 1 when events of its time were lost.
    6 touched_by_loss: u8 as Runs,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Not known.
    Unknown = 0,
    /// Runs on a CPU.
    Running = 1,
    /// Could run, but another thread was put in its place.
    Preempted = 2,
    /// Could run since it was woken, but is not on a CPU yet.
    Woken = 3,
    /// Sleeps until something wakes it.
    Sleeping = 4,
    /// Sleeps and cannot be interrupted, as those do that wait for a disk.
    Uninterruptible = 5,
    /// Sleeps in a page fault.
    Faulting = 6,
}

impl State {
    /// All of them, by number.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Running,
        Self::Preempted,
        Self::Woken,
        Self::Sleeping,
        Self::Uninterruptible,
        Self::Faulting,
    ];

    /// From the number in [`ThreadState::state`].
    pub fn from_u8(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Running => "on CPU",
            Self::Preempted => "preempted",
            Self::Woken => "woken, not on CPU yet",
            Self::Sleeping => "sleeping",
            Self::Uninterruptible => "sleeping, uninterruptible",
            Self::Faulting => "sleeping in a page fault",
        }
    }

    /// Whether it could run, but does not.
    pub fn is_runnable(self) -> bool {
        matches!(self, Self::Preempted | Self::Woken)
    }

    /// Whether it sleeps.
    pub fn is_asleep(self) -> bool {
        matches!(self, Self::Sleeping | Self::Uninterruptible | Self::Faulting)
    }
}

rows! {
    MachineRow, MachineTables;
    State states: ThreadState of ThreadStates, kind::THREAD_STATES;
    Frequency frequencies: Frequency of Frequencies, kind::FREQUENCIES;
    Fault faults: Fault of Faults, kind::FAULTS;
    Read reads: BlockRead of BlockReads, kind::BLOCK_READS;
}
