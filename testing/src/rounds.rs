//! The short run: so many changed copies of each seed, the same ones every time.

use crate::{Random, mutate};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a target on each seed and on changed copies of them. A changed copy is changed again in
/// one case of three, so that some go far.
///
/// # Panics
/// When the target does; says which copy, and leaves it in the folder for temporary files.
pub fn run(name: &str, target: fn(&[u8]), seeds: &[Vec<u8>], rounds: usize, seed: u64) {
    for bytes in seeds {
        attempt(name, target, bytes);
    }
    let mut random = Random::new(seed);
    let mut before: Option<Vec<u8>> = None;
    for _ in 0..rounds {
        let from = match before.take().filter(|_| random.one_in(3)) {
            Some(before) => before,
            None => random.pick(seeds).cloned().unwrap_or_default(),
        };
        let changed = mutate(&from, &mut random, 1 << 20);
        attempt(name, target, &changed);
        before = Some(changed);
    }
}

fn attempt(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        let file = std::env::temp_dir().join(format!("llmtrace-{name}-{:08x}", crc32fast::hash(bytes)));
        match std::fs::write(&file, bytes) {
            Ok(()) => eprintln!("{name} fails on {}", file.display()),
            Err(error) => eprintln!("{name} fails, and its input cannot be kept: {error}"),
        }
        std::panic::resume_unwind(panic);
    }
}
