//! Numbers that look random and are the same on every machine.

/// `splitmix64`.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.u64() % (limit.max(1) as u64)) as usize
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several; `None` when there is none.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }

    /// A number of the kind that breaks programs: near a power of two, or near another number.
    pub fn odd(&mut self, near: u64) -> u64 {
        let step = self.below(3) as u64;
        match self.below(6) {
            0 => step,
            1 => u64::MAX - step,
            2 => (1u64 << self.below(64)).wrapping_add(step).wrapping_sub(1),
            3 => near.wrapping_add(step).wrapping_sub(1),
            4 => near ^ (1 << self.below(64)),
            _ => self.u64() >> self.below(64),
        }
    }
}
