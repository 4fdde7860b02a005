//! What the targets share.

/// Mutates a trace: in half of the cases inside its blocks, with right checksums
/// ([`llmtrace_testing::mutate()`]), else as libFuzzer does.
pub fn mutate(data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    if seed.is_multiple_of(2) {
        return libfuzzer_sys::fuzzer_mutate(data, size, most);
    }
    let mut random = llmtrace_testing::Random::new(seed.into());
    let changed = llmtrace_testing::mutate(&data[..size], &mut random, most);
    data[..changed.len()].copy_from_slice(&changed);
    changed.len()
}

/// Has a target use [`mutate`].
#[macro_export]
macro_rules! structured {
    () => {
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            llmtrace_fuzz::mutate(data, size, max_size, seed)
        });
    };
}
