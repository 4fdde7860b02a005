//! The loops that are measured, compiled for several instruction sets and chosen when
//! the program runs.
//!
//! The loops themselves are plain Rust that the compiler vectorises; the same source is
//! compiled once for each instruction set. Calling a function that is compiled for
//! instructions which the CPU might lack is what is unsafe, and all of it stands here.

/// Bytes of each operand of a dot product: two fit into any first cache.
pub(super) const OPERAND_BYTES: usize = 4096;

/// Sums 64-bit words, so that each has to be read.
#[inline(always)]
fn read_words(words: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    let (chunks, rest) = words.as_chunks::<32>();
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().chain(rest).fold(0, |all, sum| all.wrapping_add(*sum))
}

/// Sums of an unrolled loop: independent, so that additions overlap.
const LANES_F32: usize = 128;

#[inline(always)]
fn dot_f32_of<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES_F32];
    let (a, _) = a.as_chunks::<LANES_F32>();
    let (b, _) = b.as_chunks::<LANES_F32>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = if FUSED { a.mul_add(*b, *sum) } else { a * b + *sum };
        }
    }
    sums.iter().sum()
}

/// As quantised weights are: unsigned times signed, summed in 32 bits.
const LANES_INT8: usize = 256;

#[inline(always)]
fn dot_int8_of(a: &[u8], b: &[i8]) -> i32 {
    let mut sum = 0i32;
    let (a, _) = a.as_chunks::<LANES_INT8>();
    let (b, _) = b.as_chunks::<LANES_INT8>();
    for (a, b) in a.iter().zip(b) {
        let products = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b));
        sum = sum.wrapping_add(products.sum::<i32>());
    }
    sum
}

/// The loops for one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// Reads.
    pub(super) read: fn(&[u64]) -> u64,
    /// Dot product of floats.
    pub(super) f32: fn(&[f32], &[f32]) -> f32,
    /// Dot product of bytes; `None` where the CPU has no instruction for it.
    pub(super) int8: Option<fn(&[u8], &[i8]) -> i32>,
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernels, dot_f32_of, dot_int8_of, read_words};
    use std::arch::is_x86_feature_detected as has;

    /// Compiles the loops for some features, and gives functions that any code may call.
    macro_rules! compiled {
        ($name:ident, $features:literal) => {
            pub(super) mod $name {
                #[target_feature(enable = $features)]
                fn read(words: &[u64]) -> u64 {
                    super::read_words(words)
                }
                #[target_feature(enable = $features)]
                fn f32(a: &[f32], b: &[f32]) -> f32 {
                    super::dot_f32_of::<true>(a, b)
                }
                #[target_feature(enable = $features)]
                fn int8(a: &[u8], b: &[i8]) -> i32 {
                    super::dot_int8_of(a, b)
                }
                /// Only for who has seen that the CPU has these features.
                pub(in super::super) fn kernels() -> super::Kernels {
                    #[expect(unsafe_code, reason = "calls functions that were compiled for other CPUs, too")]
                    {
                        super::Kernels {
                            // SAFETY: `choose` gives these kernels only when the CPU has the features.
                            read: |words| unsafe { read(words) },
                            // SAFETY: as above.
                            f32: |a, b| unsafe { f32(a, b) },
                            // SAFETY: as above.
                            int8: Some(|a, b| unsafe { int8(a, b) }),
                        }
                    }
                }
            }
        };
    }

    compiled!(avx2, "avx2,fma");
    compiled!(avx_vnni, "avx2,fma,avxvnni");
    compiled!(avx512, "avx512f,avx512bw,avx512vl,fma");
    compiled!(avx512_vnni, "avx512f,avx512bw,avx512vl,avx512vnni,fma");

    /// What the CPU has, the best last.
    pub(super) fn found() -> Vec<(&'static str, Kernels)> {
        let mut found = Vec::new();
        if has!("avx2") && has!("fma") {
            found.push(("avx2, fma", avx2::kernels()));
            if has!("avxvnni") {
                found.push(("avx2, fma, avxvnni", avx_vnni::kernels()));
            }
        }
        if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("fma") {
            found.push(("avx512", avx512::kernels()));
            if has!("avx512vnni") {
                found.push(("avx512, avx512vnni", avx512_vnni::kernels()));
            }
        }
        found
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{Kernels, dot_f32_of, dot_int8_signed, read_words};

    #[target_feature(enable = "neon,dotprod")]
    fn int8(a: &[u8], b: &[i8]) -> i32 {
        dot_int8_signed(a, b)
    }

    pub(super) fn found() -> Vec<(&'static str, Kernels)> {
        // NEON is part of the architecture.
        let plain = Kernels { read: read_words, f32: dot_f32_of::<true>, int8: None };
        let mut found = vec![("neon", plain)];
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            #[expect(unsafe_code, reason = "calls a function that was compiled for other CPUs, too")]
            // SAFETY: the CPU has the feature.
            let int8: fn(&[u8], &[i8]) -> i32 = |a, b| unsafe { int8(a, b) };
            found.push(("neon, dotprod", Kernels { int8: Some(int8), ..plain }));
        }
        found
    }
}

/// The instruction has signed operands only.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn dot_int8_signed(a: &[u8], b: &[i8]) -> i32 {
    let (a, _) = a.as_chunks::<LANES_INT8>();
    let (b, _) = b.as_chunks::<LANES_INT8>();
    a.iter().zip(b).fold(0i32, |sum, (a, b)| {
        let products = a.iter().zip(b).map(|(a, b)| i32::from(*a as i8) * i32::from(*b));
        sum.wrapping_add(products.sum::<i32>())
    })
}

/// All that this CPU has, with what every CPU has first.
pub(super) fn found() -> Vec<(&'static str, Kernels)> {
    let plain = Kernels { read: read_words, f32: dot_f32_of::<false>, int8: None };
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(unused_mut, reason = "other CPUs have no more")
    )]
    let mut found = vec![("plain", plain)];
    #[cfg(target_arch = "x86_64")]
    found.extend(x86::found());
    #[cfg(target_arch = "aarch64")]
    found.extend(arm::found());
    found
}

/// The instruction sets that are measured.
pub(super) fn simd() -> String {
    found().last().map_or_else(String::new, |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_computes_the_same() {
        let words: Vec<u64> = (0..5000u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let a: Vec<f32> = (0..1024).map(|n| (n % 17) as f32).collect();
        let b: Vec<f32> = (0..1024).map(|n| (n % 13) as f32).collect();
        let c: Vec<u8> = (0..4096).map(|n| (n * 7 % 256) as u8).collect();
        let d: Vec<i8> = (0..4096).map(|n| (n * 5 % 256) as u8 as i8).collect();
        let sum = words.iter().fold(0u64, |all, word| all.wrapping_add(*word));
        let floats: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        let bytes: i32 = c.iter().zip(&d).map(|(c, d)| i32::from(*c) * i32::from(*d)).sum();
        for (name, kernels) in found() {
            assert_eq!((kernels.read)(&words), sum, "{name}");
            // Whole numbers this small are exact, in any order.
            assert_eq!((kernels.f32)(&a, &b).to_bits(), floats.to_bits(), "{name}");
            if cfg!(target_arch = "x86_64")
                && let Some(int8) = kernels.int8
            {
                assert_eq!(int8(&c, &d), bytes, "{name}");
            }
        }
    }
}
