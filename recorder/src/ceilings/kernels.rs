//! The loops that are measured, compiled for several instruction sets and chosen when
//! the program runs.
//!
//! Reading and floating point are plain Rust that the compiler vectorises, the same
//! source for each instruction set; dot products of bytes need their own instructions.
//! What is unsafe is to call a function that was compiled for instructions which the
//! CPU might lack; all of it stands here.

/// Bytes of the first operand of dot products; the second has twice as many. Both fit into any
/// first cache.
pub(super) const OPERAND_BYTES: usize = 4096;
/// How often one call goes through its operands, so that starting it costs nothing.
pub(super) const PASSES: usize = 32;
/// Vectors of the first operand, and of the second, that are loaded at a time. Each is
/// multiplied with each, as in a matrix product that keeps what it loaded: else loads, not
/// products, would be measured. As many sums are independent, so that instructions overlap.
const ROWS: usize = 2;
const COLUMNS: usize = 4;
/// Products of each element of the first operand in one pass.
pub(super) const PRODUCTS: usize = COLUMNS;

/// A loop that reads.
type Read = fn(&[u64]) -> u64;
/// A loop of dot products of floats.
type DotF32 = fn(&[f32], &[f32]) -> f32;
/// A loop of dot products of bytes: unsigned times signed, as quantised weights are. Operands
/// of more than 7 bits may saturate.
type DotInt8 = fn(&[u8], &[u8]) -> i32;

/// The loops for one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    pub(super) name: &'static str,
    pub(super) read: Read,
    pub(super) f32: DotF32,
    /// `None` where the CPU has no instruction for it.
    pub(super) int8: Option<DotInt8>,
}

/// Sums words, so that each has to be read.
#[inline(always)]
fn read_words(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

#[inline(always)]
fn dot_f32_of<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [[[0f32; 16]; COLUMNS]; ROWS];
    for _ in 0..PASSES {
        let (a, _) = a.as_chunks::<16>().0.as_chunks::<ROWS>();
        let (b, _) = b.as_chunks::<16>().0.as_chunks::<COLUMNS>();
        for (a, b) in a.iter().zip(b) {
            for (sums, a) in sums.iter_mut().zip(a) {
                for (sums, b) in sums.iter_mut().zip(b) {
                    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                        *sum = if FUSED { a.mul_add(*b, *sum) } else { a * b + *sum };
                    }
                }
            }
        }
    }
    let mut all = [0f32; 16];
    for sums in sums.iter().flatten() {
        all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
    }
    all.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{COLUMNS, DotInt8, Kernels, PASSES, ROWS, dot_f32_of, read_words};
    use std::arch::is_x86_feature_detected as has;
    use std::arch::x86_64::*;

    /// Compiles a dot product of bytes: `$step` adds the products of two vectors to a sum.
    macro_rules! int8 {
        ($name:ident, $features:literal, $bytes:literal, $zero:ident, $load:ident, $step:expr, $words:ident) => {
            #[target_feature(enable = $features)]
            fn $name(a: &[u8], b: &[u8]) -> i32 {
                let mut sums = [[$zero(); COLUMNS]; ROWS];
                for _ in 0..PASSES {
                    let (a, _) = a.as_chunks::<$bytes>().0.as_chunks::<ROWS>();
                    let (b, _) = b.as_chunks::<$bytes>().0.as_chunks::<COLUMNS>();
                    for (a, b) in a.iter().zip(b) {
                        for (sums, a) in sums.iter_mut().zip(a) {
                            for (sum, b) in sums.iter_mut().zip(b) {
                                *sum = $step(*sum, $load(a), $load(b));
                            }
                        }
                    }
                }
                sums.into_iter().flatten().fold(0i32, |all, sum| all.wrapping_add($words(sum)))
            }
        };
    }

    /// The compiler makes one load of it.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_256(bytes: &[u8; 32]) -> __m256i {
        let (words, _) = bytes.as_chunks::<8>();
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| words.get(at).map_or(0, |word| i64::from_le_bytes(*word)));
        _mm256_setr_epi64x(a, b, c, d)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_512(bytes: &[u8; 64]) -> __m512i {
        let (words, _) = bytes.as_chunks::<8>();
        let word = |at: usize| words.get(at).map_or(0, |word| i64::from_le_bytes(*word));
        let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(word);
        _mm512_setr_epi64(a, b, c, d, e, f, g, h)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn words_256(sum: __m256i) -> i32 {
        let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let (low, high) = (_mm_cvtsi128_si64(half), _mm_extract_epi64::<1>(half));
        [low, low >> 32, high, high >> 32].into_iter().fold(0, |all: i32, word| all.wrapping_add(word as i32))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn words_512(sum: __m512i) -> i32 {
        _mm512_reduce_add_epi32(sum)
    }

    /// Two instructions and an addition, as CPUs without VNNI need.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn step_256(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(a, b);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    int8!(int8_avx2, "avx2", 32, _mm256_setzero_si256, load_256, step_256, words_256);
    int8!(
        int8_avx_vnni,
        "avx2,avxvnni",
        32,
        _mm256_setzero_si256,
        load_256,
        _mm256_dpbusd_avx_epi32,
        words_256
    );
    int8!(
        int8_avx512_vnni,
        "avx512f,avx512vnni",
        64,
        _mm512_setzero_si512,
        load_512,
        _mm512_dpbusd_epi32,
        words_512
    );

    #[target_feature(enable = "avx2,fma")]
    fn read_avx2(words: &[u64]) -> u64 {
        read_words(words)
    }

    #[target_feature(enable = "avx2,fma")]
    fn f32_avx2(a: &[f32], b: &[f32]) -> f32 {
        dot_f32_of::<true>(a, b)
    }

    #[target_feature(enable = "avx512f,fma")]
    fn read_avx512(words: &[u64]) -> u64 {
        read_words(words)
    }

    #[target_feature(enable = "avx512f,fma")]
    fn f32_avx512(a: &[f32], b: &[f32]) -> f32 {
        dot_f32_of::<true>(a, b)
    }

    /// What the CPU has, the widest last.
    #[expect(unsafe_code, reason = "calls functions that are compiled for CPUs which have more")]
    pub(super) fn found() -> Vec<Kernels> {
        let mut found = Vec::new();
        if has!("avx2") && has!("fma") {
            // SAFETY: the CPU has avx2, which was just seen.
            let plain: DotInt8 = |a, b| unsafe { int8_avx2(a, b) };
            // SAFETY: only taken when the CPU has avxvnni.
            let vnni: DotInt8 = |a, b| unsafe { int8_avx_vnni(a, b) };
            let (name, int8) =
                if has!("avxvnni") { ("avx2, fma, avxvnni", vnni) } else { ("avx2, fma", plain) };
            found.push(Kernels {
                name,
                // SAFETY: the CPU has avx2 and fma.
                read: |words| unsafe { read_avx2(words) },
                // SAFETY: as above.
                f32: |a, b| unsafe { f32_avx2(a, b) },
                int8: Some(int8),
            });
        }
        if has!("avx512f") && has!("fma") {
            // SAFETY: only taken when the CPU has avx512vnni.
            let vnni: DotInt8 = |a, b| unsafe { int8_avx512_vnni(a, b) };
            let has_vnni = has!("avx512vnni");
            found.push(Kernels {
                name: if has_vnni { "avx512, avx512vnni" } else { "avx512" },
                // SAFETY: the CPU has avx512f and fma.
                read: |words| unsafe { read_avx512(words) },
                // SAFETY: as above.
                f32: |a, b| unsafe { f32_avx512(a, b) },
                int8: has_vnni.then_some(vnni),
            });
        }
        found
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{DotInt8, Kernels, PASSES, PRODUCTS, dot_f32_of, read_words};

    /// The compiler makes the instruction of it; its operands are both signed.
    #[target_feature(enable = "neon,dotprod")]
    fn int8(a: &[u8], b: &[u8]) -> i32 {
        let mut all = 0i32;
        // Each element with as many of the second operand as elsewhere.
        let parts = b.chunks_exact((b.len() / PRODUCTS).max(1));
        for _ in 0..PASSES {
            for b in parts.clone() {
                for a in a.chunks_exact(b.len().max(1)) {
                    let products = a.iter().zip(b).map(|(a, b)| i32::from(*a as i8) * i32::from(*b as i8));
                    all = products.fold(all, i32::wrapping_add);
                }
            }
        }
        all
    }

    #[expect(unsafe_code, reason = "calls a function that is compiled for CPUs which have more")]
    pub(super) fn found() -> Vec<Kernels> {
        // SAFETY: only taken when the CPU has dotprod.
        let dot: DotInt8 = |a, b| unsafe { int8(a, b) };
        let has = std::arch::is_aarch64_feature_detected!("dotprod");
        // NEON is part of the architecture.
        let name = if has { "neon, dotprod" } else { "neon" };
        vec![Kernels { name, read: read_words, f32: dot_f32_of::<true>, int8: has.then_some(dot) }]
    }
}

/// All that this CPU has, with what every CPU has first.
pub(super) fn found() -> Vec<Kernels> {
    let plain = Kernels { name: "plain", read: read_words, f32: dot_f32_of::<false>, int8: None };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let more = Vec::new();
    #[cfg(target_arch = "x86_64")]
    let more = x86::found();
    #[cfg(target_arch = "aarch64")]
    let more = arm::found();
    std::iter::once(plain).chain(more).collect()
}

/// The widest instruction set that is measured.
pub(super) fn simd() -> String {
    found().last().map_or_else(String::new, |kernels| kernels.name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_computes_the_same() {
        let words: Vec<u64> = (0..5000u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let a: Vec<f32> = (0..1024).map(|n| (n % 7) as f32).collect();
        let b: Vec<f32> = (0..2048).map(|n| (n % 5) as f32).collect();
        let c: Vec<u8> = (0..OPERAND_BYTES).map(|n| (n * 7 % 128) as u8).collect();
        // The second operand is signed: 192 is -64.
        let d: Vec<u8> =
            (0..OPERAND_BYTES * 2).map(|n| if n % 3 == 0 { 192 } else { (n % 60) as u8 }).collect();
        let sum = words.iter().fold(0u64, |all, word| all.wrapping_add(*word));
        for kernels in found() {
            let name = kernels.name;
            assert_eq!((kernels.read)(&words), sum, "{name}");
            // Whole numbers this small are exact, in any order.
            let floats = slow(&a, &b, 16, |a, b| f64::from(a * b)) as f32;
            assert_eq!((kernels.f32)(&a, &b).to_bits(), floats.to_bits(), "{name}");
            if cfg!(target_arch = "x86_64")
                && let Some(int8) = kernels.int8
            {
                let lanes = if name.contains("512") { 64 } else { 32 };
                let bytes = slow(&c, &d, lanes, |c, d| f64::from(c) * f64::from(d as i8));
                assert_eq!(int8(&c, &d), bytes as i32, "{name}");
            }
        }
    }

    /// Each vector of two with each of four, element by element.
    fn slow<T: Copy>(a: &[T], b: &[T], lanes: usize, product: impl Fn(T, T) -> f64) -> f64 {
        let mut sum = 0.0;
        for (a, b) in a.chunks(ROWS * lanes).zip(b.chunks(COLUMNS * lanes)) {
            for a in a.chunks(lanes) {
                for b in b.chunks(lanes) {
                    sum += a.iter().zip(b).map(|(a, b)| product(*a, *b)).sum::<f64>();
                }
            }
        }
        sum * PASSES as f64
    }
}
