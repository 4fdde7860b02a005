//! A hostile binary through everything that we ask of one.

use super::{
    Arg, FileImage, Located, Object, barrier_sites, learn, probe_site, return_instructions, return_site,
    returned, returned_text,
};

/// Functions of a binary whose code is looked at.
const FUNCTIONS: usize = 64;

/// Reads a binary as the recorder does when it attaches.
pub fn fuzz_binary(bytes: &[u8]) {
    let Ok(object) = Object::parse(bytes, &|_| true) else { return };
    let image = FileImage::new(&object);
    let mut symbols: Vec<_> = object.symbols_matching_unsorted(|_| true).collect();
    symbols.sort_unstable_by_key(|&(name, _)| name);
    for (_, symbol) in symbols.into_iter().take(FUNCTIONS) {
        let _ = (object.file_offset(symbol.vaddr), object.load_bias(symbol.vaddr, symbol.size, true));
        let Some(code) = object.code(symbol) else { continue };
        for site in [
            probe_site(&code, symbol.vaddr, &[Arg::Rdi, Arg::Rsi, Arg::Rdx]),
            return_site(&code, symbol.vaddr),
        ] {
            assert!((site.offset_in_function as usize) < code.len().max(1), "{site:?} lies outside");
        }
        for site in return_instructions(&code, symbol.vaddr) {
            assert!((site.offset_in_function as usize) < code.len(), "{site:?} lies outside");
        }
        let _ = (returned(&code, symbol.vaddr, 8, &image), returned_text(&code, symbol.vaddr, 8, &image));
    }
    let find = |name: &str| {
        let symbol = object.symbol(name)?;
        Some(Located { code: object.code(symbol)?, vaddr_runtime: symbol.vaddr })
    };
    let _ = (learn(&find, &image), object.build_id(), object.stripped());
    if let Some(found) = barrier_sites(&object) {
        assert!(!found.sites.is_empty(), "a loop without barriers");
    }
}

#[cfg(test)]
mod tests {
    use super::fuzz_binary;
    use crate::binary::fixtures::{random_code, tiny_elf};

    #[test]
    fn changed_binaries_do_no_harm() {
        let mut seeds = vec![tiny_elf()];
        // The same with other code in place of the function.
        for code in random_code().take(4) {
            let mut file = tiny_elf();
            file.splice(0x400..0x400 + code.len().min(0x100), code.iter().copied().take(0x100));
            seeds.push(file);
        }
        llmtrace_testing::rounds::run("binary", fuzz_binary, &seeds, 4000, 11);
    }
}
