//! What `llmtrace doctor` says of the host: one line for each thing that decides
//! whether and how recording works here.

use super::attach::Way;
use super::counters::{self, Counters};
use super::host;
use super::kernel::{Kernel, Room, Wanted};
use super::privileges::{self, NEEDED};
use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;
use std::fs;

/// One property of the host.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) found: String,
    /// What to do; empty when it is well.
    pub(super) advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Limited,
    Problem,
}

impl Check {
    fn new(name: &str, well: bool, otherwise: Status, found: &str, advice: &str) -> Self {
        Self {
            name: name.to_owned(),
            status: if well { Status::Ok } else { otherwise },
            found: found.to_owned(),
            advice: if well { String::new() } else { advice.to_owned() },
        }
    }

    /// One that is never wrong: what was found says what it means.
    fn note(name: &str, found: &str) -> Self {
        Self::new(name, true, Status::Ok, found, "")
    }
}

/// All checks, in the order in which they matter.
pub(super) fn host_checks() -> Vec<Check> {
    let btf = host::has_btf();
    let loaded = (btf && privileges::missing().is_empty())
        .then(|| Kernel::load(Room::default(), Wanted::default(), &Counters::default()));
    let mut checks = vec![
        Check::new(
            "machine",
            cfg!(target_arch = "x86_64"),
            Status::Problem,
            std::env::consts::ARCH,
            "recording needs x86-64; traces can be read here",
        ),
        Check::note("kernel", &host::describe().kernel),
        Check::new(
            "BTF",
            btf,
            Status::Problem,
            if btf { "present" } else { "absent" },
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions build theirs",
        ),
    ];
    checks.extend(capabilities());
    checks.push(match &loaded {
        None => Check::new(
            "BPF programs",
            false,
            Status::Limited,
            "not tried, for what is missing above",
            "see to that first",
        ),
        Some(Ok(_)) => Check::note("BPF programs", "the kernel takes them"),
        Some(Err(error)) => Check::new(
            "BPF programs",
            false,
            Status::Problem,
            &format!("{error:#}"),
            "see the checks of lockdown and seccomp, or use a newer kernel",
        ),
    });
    if let Some(Ok(kernel)) = &loaded {
        checks.push(Check::new(
            "uprobe_multi",
            kernel.way() == Way::Multi,
            Status::Limited,
            &format!("probes are attached by {}", kernel.way().name()),
            "hits cost more; Linux 6.10 or later, or 6.6.33, attaches them at once",
        ));
    }
    let (all, found) = counters::pmu();
    let otherwise = "what the kernel counts itself is counted everywhere; for cycles and the like, use a machine with a PMU";
    checks.push(Check::new("counters", all, Status::Limited, &found, otherwise));
    checks.extend(restrictions());
    checks
}

fn capabilities() -> impl Iterator<Item = Check> {
    NEEDED.iter().map(|need| {
        let held = privileges::has(need.capability);
        let found = format!("{}: {}", if held { "held" } else { "missing" }, need.what_for);
        let advice = if need.always { privileges::HOW } else { privileges::SUDO };
        let otherwise = if need.always { Status::Problem } else { Status::Limited };
        Check::new(&need.capability.to_string(), held, otherwise, &found, advice)
    })
}

/// Settings by which a host forbids things; most concern those without our
/// capabilities only.
fn restrictions() -> Vec<Check> {
    let lockdown = host::lockdown();
    let filtered = host::seccomp_filtered();
    let setting = |path: &str| {
        fs::read_to_string(path).map_or_else(|_| "not known".to_owned(), |text| text.trim().to_owned())
    };
    let mounted = fs::exists("/sys/kernel/tracing/events").unwrap_or(false)
        || fs::exists("/sys/kernel/debug/tracing/events").unwrap_or(false);
    // Processors with two kinds of cores have one for each.
    let pmu = ["cpu", "cpu_core"]
        .iter()
        .any(|name| fs::exists(format!("/sys/bus/event_source/devices/{name}")).unwrap_or(false));
    vec![
        Check::new(
            "lockdown",
            !lockdown.confidential,
            Status::Problem,
            if lockdown.mode.is_empty() { "none" } else { &lockdown.mode },
            "lockdown=confidentiality forbids BPF programs to read memory; boot with lockdown=integrity or none",
        ),
        Check::new(
            "seccomp",
            !filtered,
            Status::Limited,
            if filtered { "system calls are filtered" } else { "no filter" },
            "if recording is refused, allow bpf() and perf_event_open(), as with \
             `docker run --security-opt seccomp=unconfined`",
        ),
        Check::note(
            "perf_event_paranoid",
            &format!("{}; does not bind CAP_PERFMON", setting("/proc/sys/kernel/perf_event_paranoid")),
        ),
        Check::note(
            "unprivileged_bpf_disabled",
            &format!("{}; does not bind CAP_BPF", setting("/proc/sys/kernel/unprivileged_bpf_disabled")),
        ),
        Check::note(
            "kptr_restrict",
            &format!("{}; no address of the kernel is needed", setting("/proc/sys/kernel/kptr_restrict")),
        ),
        Check::note("memlock", &format!("{}; kernels since 5.11 do not count BPF to it", memlock())),
        Check::note(
            "tracefs",
            if mounted {
                "mounted; not needed"
            } else {
                "not mounted; not needed: probes are attached by bpf()"
            },
        ),
        Check::new(
            "PMU",
            pmu,
            Status::Limited,
            if pmu { "present" } else { "absent" },
            "hardware counters are not to be had here; everything else is recorded",
        ),
    ]
}

fn memlock() -> String {
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((nix::sys::resource::RLIM_INFINITY, _)) => "unlimited".to_owned(),
        Ok((bytes, _)) => format!("{bytes} bytes"),
        Err(_) => "not known".to_owned(),
    }
}
