//! What the machine is, and whether it can record.

use anyhow::{Result, bail};
use llmtrace_format::meta::Host;
use nix::unistd::Uid;
use std::fs;
use std::path::Path;

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_SYS_PTRACE: u64 = 1 << 19;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Describes this machine.
pub(super) fn describe() -> Host {
    let uname = nix::sys::utsname::uname().ok();
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    let field = |path: &str, key: &str| {
        let content = fs::read_to_string(path).unwrap_or_default();
        let line = content.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory_kib =
        field("/proc/meminfo", "MemTotal").and_then(|v| v.split(' ').next()?.parse::<u64>().ok());
    Host {
        name: uname.as_ref().map(|u| text(u.nodename())).unwrap_or_default(),
        kernel: uname.as_ref().map(|u| text(u.release())).unwrap_or_default(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu_model: field("/proc/cpuinfo", "model name").unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        memory_bytes: memory_kib.unwrap_or(0) * 1024,
    }
}

/// Says what is missing to record here.
///
/// # Errors
/// One that names the first missing thing, and what to do about it.
pub(super) fn check() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("recording needs an x86-64 machine; traces can be read here");
    }
    let missing = missing_capabilities();
    if !missing.is_empty() {
        let who = if Uid::effective().is_root() { "root here lacks" } else { "recording needs root or" };
        bail!("{who} {}: run it as `sudo llmtrace record …`", missing.join(", "));
    }
    if !has_btf() {
        bail!("the kernel has no type information (CONFIG_DEBUG_INFO_BTF), which recording needs: {BTF}");
    }
    Ok(())
}

/// Whether we see the ids of processes that BPF programs see, those of the initial
/// namespace (PROC_PID_INIT_INO); not so inside of most containers.
pub(super) fn initial_pids() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace == Path::new("pid:[4026531836]"))
}

/// Whether the kernel has type information.
pub(super) fn has_btf() -> bool {
    Path::new(BTF).exists()
}

/// Names of the capabilities that recording needs and we lack.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    let capabilities = effective_capabilities();
    [
        (CAP_BPF | CAP_SYS_ADMIN, "CAP_BPF"),
        (CAP_PERFMON | CAP_SYS_ADMIN, "CAP_PERFMON"),
        (CAP_SYS_PTRACE, "CAP_SYS_PTRACE"),
    ]
    .into_iter()
    .filter(|(any, _)| capabilities & any == 0)
    .map(|(_, name)| name)
    .collect()
}

fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
