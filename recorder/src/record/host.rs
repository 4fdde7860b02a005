//! What the machine is, and whether it can record.

use super::privileges;
use anyhow::{Result, bail};
use llmtrace_format::meta::Host;
use nix::unistd::Uid;
use std::fs;
use std::path::Path;

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
    let missing = privileges::missing().join(", ");
    if !missing.is_empty() && Uid::effective().is_root() {
        bail!("root lacks {missing} here: add it to what starts us, as with `docker run --cap-add`");
    }
    if !missing.is_empty() {
        bail!("recording needs root or {missing}: {}", privileges::HOW);
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

/// What may make this kernel refuse BPF programs, the likeliest first, each with
/// what to do.
pub(super) fn why_refused() -> Vec<String> {
    let mut reasons = Vec::new();
    if lockdown().confidential {
        reasons.push(
            "the kernel is locked down (lockdown=confidentiality): boot with lockdown=integrity, or without"
                .to_owned(),
        );
    }
    if seccomp_filtered() {
        reasons.push(
            "a seccomp filter of the container or service may refuse bpf() or perf_event_open(): allow them, \
             as with `docker run --security-opt seccomp=unconfined`"
                .to_owned(),
        );
    }
    if reasons.is_empty() {
        reasons.push(format!("recording needs Linux {OLDEST} or later, this is {}", describe().kernel));
    }
    reasons
}

/// Oldest kernel that can attach a number to a probe, tell it to the program, and
/// has all the programs use.
pub(super) const OLDEST: &str = "5.15";

/// Whether BPF programs may loop without a bound known beforehand (5.17).
pub(super) fn knows_loops() -> bool {
    at_least(&describe().kernel, (5, 17))
}

/// Whether a release such as `6.1.0-18-amd64` is not older.
fn at_least(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= version
}

/// Whether system calls of ours pass a filter.
pub(super) fn seccomp_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// How far the kernel is closed to root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lockdown {
    /// The mode in force; empty when the kernel knows none.
    pub(super) mode: String,
    /// Whether memory may not be read, which BPF programs do.
    pub(super) confidential: bool,
}

/// The mode of lockdown.
pub(super) fn lockdown() -> Lockdown {
    parse_lockdown(&fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default())
}

/// A line such as `none [integrity] confidentiality`.
fn parse_lockdown(text: &str) -> Lockdown {
    let chosen = text.split_whitespace().find_map(|mode| mode.strip_prefix('[')?.strip_suffix(']'));
    let mode = chosen.unwrap_or_default().to_owned();
    Lockdown { confidential: mode == "confidentiality", mode }
}

/// Whether the kernel has type information.
pub(super) fn has_btf() -> bool {
    Path::new(BTF).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert!(at_least("5.17.0", (5, 17)) && at_least("6.8.0-45-generic", (5, 17)));
        assert!(!at_least("5.15.0-1034-aws", (5, 17)) && !at_least("unknown", (5, 17)));
    }

    #[test]
    fn lockdown_is_the_mode_in_brackets() {
        let parsed = |text| {
            let Lockdown { mode, confidential } = parse_lockdown(text);
            (mode, confidential)
        };
        assert_eq!(parsed("[none] integrity confidentiality\n"), ("none".to_owned(), false));
        assert_eq!(parsed("none [integrity] confidentiality\n"), ("integrity".to_owned(), false));
        assert_eq!(parsed("none integrity [confidentiality]\n"), ("confidentiality".to_owned(), true));
        assert_eq!(parsed(""), (String::new(), false));
    }
}
