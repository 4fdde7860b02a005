//! Where ceilings are kept: one small file in the user's cache, for the CPU that it names.

use anyhow::{Context as _, Result};
use llmtrace_format::meta::Ceilings;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

/// Real ones take some kilobytes.
const MOST_BYTES: u64 = 1 << 20;

/// Keeps ceilings for this host; gives the file.
pub(super) fn save(ceilings: &Ceilings) -> Result<PathBuf> {
    let path = paths().into_iter().next().context("there is no folder for cached files")?;
    let text = serde_json::to_vec_pretty(ceilings)?;
    let cannot = || format!("cannot keep what was measured: {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(cannot)?;
    }
    // Whoever reads meanwhile sees the old file or the new one.
    let new = path.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).with_context(cannot)?;
    Ok(path)
}

/// What was kept for this host; `None` when nothing was, or for another CPU.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux records"))]
pub(crate) fn load() -> Option<Ceilings> {
    let read = |path: PathBuf| {
        let mut text = Vec::new();
        fs::File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut text).ok()?;
        parse(&text, &cpu_model())
    };
    paths().into_iter().find_map(read)
}

fn parse(text: &[u8], cpu_model: &str) -> Option<Ceilings> {
    let found: Ceilings = serde_json::from_slice(text).ok()?;
    (found.cpu_model == cpu_model && found.rates.len() <= 1000).then_some(found)
}

/// Our own cache first, then that of the user who called sudo.
fn paths() -> Vec<PathBuf> {
    let name = "ceilings.json";
    let ours = directories::ProjectDirs::from("", "", "llmtrace").map(|dirs| dirs.cache_dir().join(name));
    let mut paths: Vec<PathBuf> = ours.into_iter().collect();
    #[cfg(target_os = "linux")]
    if let Some(user) = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok())
        && let Ok(Some(user)) = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(user))
    {
        paths.push(user.dir.join(".cache/llmtrace").join(name));
    }
    paths
}

/// The CPU's name; empty where the system does not tell.
pub(super) fn cpu_model() -> String {
    field("/proc/cpuinfo", "model name").unwrap_or_else(|| {
        // Windows tells it so; elsewhere the architecture has to do.
        std::env::var("PROCESSOR_IDENTIFIER").unwrap_or_else(|_| std::env::consts::ARCH.to_owned())
    })
}

/// Bytes of memory; `None` where the system does not tell.
pub(super) fn memory_bytes() -> Option<u64> {
    let kib: u64 = field("/proc/meminfo", "MemAvailable")?.split(' ').next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

fn field(path: &str, key: &str) -> Option<String> {
    let content = fs::read_to_string(path).ok()?;
    let line = content.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_of_another_cpu_are_not_used() {
        let kept = Ceilings { cpu_model: "A".into(), simd: "avx2".into(), ..Ceilings::default() };
        let text = serde_json::to_vec(&kept).unwrap_or_default();
        assert_eq!(parse(&text, "A"), Some(kept));
        assert_eq!(parse(&text, "B"), None);
        assert_eq!(parse(b"{}", "A"), None);
    }
}
