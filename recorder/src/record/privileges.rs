//! What the recorder may do, and what it gives up.
//!
//! ```text
//! start            root, or the capabilities of NEEDED
//! output file      opened with the rights of the caller alone: as_caller
//! command          runs as the caller, without our capabilities: leave_to_command
//! attached         only what KEPT says, as the caller, for ever: drop_after_attach
//! ```

use super::attach::Way;
use super::maps::Mapping;
use super::target::Caller;
use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::prctl;
use nix::unistd::{
    AccessFlags, Gid, Uid, User, faccessat, getgroups, setfsgid, setfsuid, setgroups, setresgid, setresuid,
};
use std::path::Path;

/// A capability, and what it is for.
pub(super) struct Need {
    pub(super) capability: Capability,
    pub(super) what_for: &'static str,
    /// Whether nothing can be recorded without it.
    pub(super) always: bool,
}

/// What recording needs. `CAP_SYS_ADMIN` stands for the first two.
pub(super) const NEEDED: [Need; 5] = [
    Need { capability: Capability::CAP_BPF, what_for: "loads the programs", always: true },
    Need { capability: Capability::CAP_PERFMON, what_for: "attaches them to a process", always: true },
    Need {
        capability: Capability::CAP_SYS_PTRACE,
        what_for: "reads the process's mappings and the names of its nodes",
        always: true,
    },
    Need {
        capability: Capability::CAP_DAC_READ_SEARCH,
        what_for: "opens libraries of other users, where only they may read",
        always: false,
    },
    Need {
        capability: Capability::CAP_CHECKPOINT_RESTORE,
        what_for: "opens libraries that were replaced on disk while in use",
        always: false,
    },
];

/// What to do, for the end of a message.
pub(super) const SUDO: &str = "run it as `sudo llmtrace …`";

/// How to get them, for the end of a message.
pub(super) const HOW: &str = "run it as `sudo llmtrace …`, or give them to the program once: \
     `sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_checkpoint_restore+ep $(which llmtrace)`";

/// Whether we may use a capability now.
pub(super) fn has(capability: Capability) -> bool {
    let effective = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let implied = matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON);
    effective(capability) || implied && effective(Capability::CAP_SYS_ADMIN)
}

/// Names of those that recording cannot do without and we lack.
pub(super) fn missing() -> Vec<String> {
    let missing = NEEDED.iter().filter(|need| need.always && !has(need.capability));
    missing.map(|need| need.capability.to_string()).collect()
}

/// Why mapped files could not be opened, and what to do; empty when all could.
pub(super) fn refusal(refused: &[Mapping]) -> Option<String> {
    refusal_to(refused, has)
}

fn refusal_to(refused: &[Mapping], has: impl Fn(Capability) -> bool) -> Option<String> {
    let first = refused.first()?;
    let others = match refused.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let why = if first.deleted() { "was replaced or removed on disk" } else { "may not be read by us" };
    // A name leads to any file, with the right to read it; only `map_files`, a folder of the
    // process's user, leads to one without a name.
    let by_name =
        (!first.deleted()).then_some(Capability::CAP_DAC_READ_SEARCH).filter(|by_name| !has(*by_name));
    let takes = by_name
        .map_or(vec![Capability::CAP_CHECKPOINT_RESTORE, Capability::CAP_DAC_READ_SEARCH], |it| vec![it]);
    let lacking: Vec<String> = takes.into_iter().filter(|it| !has(*it)).map(|it| it.to_string()).collect();
    Some(format!(
        "a mapped file {why}, which takes root or {}: run it as `sudo llmtrace …`: {}{others}",
        lacking.join(" and "),
        first.path.display()
    ))
}

/// What later attaching and reading the target needs. An object may be loaded at
/// any time, from any place.
fn kept(way: Way) -> CapsHashSet {
    let mut kept: CapsHashSet = NEEDED.iter().map(|need| need.capability).collect();
    let lacks = |capability| !caps::has_cap(None, CapSet::Permitted, capability).unwrap_or(false);
    if way == Way::Single || lacks(Capability::CAP_BPF) || lacks(Capability::CAP_PERFMON) {
        kept.insert(Capability::CAP_SYS_ADMIN);
    }
    kept
}

/// Gives up, for good, everything but what later attaching and reading the
/// target needs. Somebody who called sudo runs the rest as themselves, so that
/// files which are created from now on are theirs.
///
/// Such files go beside `output`, or here without one: root itself keeps the right
/// to write there if it has it by privilege only.
///
/// Capabilities are those of a thread: call it before others are started.
///
/// # Errors
/// When the kernel refuses, which it does not to one that only gives up.
pub(super) fn drop_after_attach(caller: Caller, output: Option<&Path>, way: Way) -> Result<()> {
    let folder = output.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let kept = kept(way);
    if caller.is_other() {
        prctl::set_keepcaps(true).context("cannot keep capabilities across a change of user")?;
        caller.take_groups()?;
        setresgid(caller.gid, caller.gid, caller.gid).context("cannot become the caller's group")?;
        setresuid(caller.uid, caller.uid, caller.uid).context("cannot become the caller")?;
        prctl::set_keepcaps(false).context("cannot end keeping capabilities")?;
    }
    let permitted = caps::read(None, CapSet::Permitted).context("cannot read our capabilities")?;
    let mut left: CapsHashSet = permitted.intersection(&kept).copied().collect();
    caps::set(None, CapSet::Effective, &left).context("cannot give up capabilities")?;
    let writable = faccessat(AT_FDCWD, folder, AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS);
    if Uid::effective().is_root() && writable.is_err() && permitted.contains(&Capability::CAP_DAC_OVERRIDE) {
        left.insert(Capability::CAP_DAC_OVERRIDE);
    }
    bound(&permitted, &left);
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).context("cannot give up inherited capabilities")?;
    }
    caps::set(None, CapSet::Effective, &left).context("cannot give up capabilities")?;
    caps::set(None, CapSet::Permitted, &left).context("cannot give up capabilities")?;
    prctl::set_no_new_privs().context("cannot forbid ourselves new privileges")
}

/// Nothing that we might run gains more. Takes `CAP_SETPCAP`; without it there is
/// no_new_privs all the same.
fn bound(permitted: &CapsHashSet, left: &CapsHashSet) {
    if !permitted.contains(&Capability::CAP_SETPCAP)
        || caps::raise(None, CapSet::Effective, Capability::CAP_SETPCAP).is_err()
    {
        return;
    }
    for capability in caps::runtime::thread_all_supported() {
        if !left.contains(&capability) {
            let _ = caps::drop(None, CapSet::Bounding, capability);
        }
    }
}

/// Does something with the rights of the caller and no others: their user,
/// group and groups, and none of our capabilities. Root that nobody called by
/// sudo is its own caller.
///
/// # Errors
/// When the kernel refuses the change, or those of `action`.
pub(super) fn as_caller<T>(caller: Caller, action: impl FnOnce() -> Result<T>) -> Result<T> {
    if caller.uid.is_root() {
        return action();
    }
    let effective = caps::read(None, CapSet::Effective).context("cannot read our capabilities")?;
    let before = if caller.is_other() {
        let groups = getgroups().context("cannot read our groups")?;
        caller.take_groups()?;
        Some((groups, setfsgid(caller.gid), setfsuid(caller.uid)))
    } else {
        None
    };
    caps::clear(None, CapSet::Effective).context("cannot set our capabilities aside")?;
    let result = action();
    caps::set(None, CapSet::Effective, &effective).context("cannot take our capabilities back")?;
    if let Some((groups, gid, uid)) = before {
        setfsuid(uid);
        setfsgid(gid);
        setgroups(&groups).context("cannot take our groups back")?;
        // The change of user took those that concern files, and gave them back as they are permitted.
        caps::set(None, CapSet::Effective, &effective).context("cannot take our capabilities back")?;
    }
    result
}

impl Caller {
    /// Makes the supplementary groups theirs, in place of root's.
    pub(super) fn take_groups(self) -> Result<()> {
        let account = User::from_uid(self.uid).ok().flatten();
        let Some(account) = account else {
            return setgroups(&[self.gid]).context("cannot leave root's groups");
        };
        let name = std::ffi::CString::new(account.name.as_bytes())?;
        nix::unistd::initgroups(&name, self.gid).context("cannot take the user's groups")
    }
}

/// Takes from a command that is about to run what recording needs. It would
/// inherit them from somebody who gave them to us as ambient capabilities.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn leave_to_command() -> Result<()> {
    if Uid::effective().is_root() {
        // Root's command is root's.
        return Ok(());
    }
    for need in &NEEDED {
        for set in [CapSet::Ambient, CapSet::Inheritable] {
            caps::drop(None, set, need.capability)
                .context("cannot keep our capabilities from the command")?;
        }
    }
    Ok(())
}

/// Becomes a user for good, as the command to record does.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn become_user(uid: Uid, gid: Gid) -> Result<()> {
    Caller { uid, gid }.take_groups()?;
    nix::unistd::setgid(gid).context("cannot become the user's group")?;
    nix::unistd::setuid(uid).context("cannot become the user")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_refused_file_is_named_with_what_it_takes() {
        let mapping = |path: &str| Mapping {
            start: 0,
            end: 1,
            file_offset: 0,
            file: ("fe:00".to_owned(), 1),
            path: PathBuf::from(path),
        };
        assert_eq!(refusal(&[]), None);
        let text = refusal_to(&[mapping("/srv/libggml.so")], |_| false).expect("refused");
        assert!(text.contains("may not be read by us, which takes root or CAP_DAC_READ_SEARCH:"), "{text}");
        assert!(text.ends_with("/srv/libggml.so"), "{text}");
        let reads_all = |it| it == Capability::CAP_DAC_READ_SEARCH;
        let text = refusal_to(&[mapping("/srv/a.so (deleted)"), mapping("/b")], reads_all).expect("refused");
        assert!(
            text.contains("replaced or removed on disk, which takes root or CAP_CHECKPOINT_RESTORE:"),
            "{text}"
        );
        assert!(text.ends_with("and 1 more"), "{text}");
    }

    #[test]
    fn the_callers_rights_are_taken_for_one_action_and_given_back() -> Result<()> {
        let before = (caps::read(None, CapSet::Effective)?, getgroups()?);
        let caller = Caller { uid: Uid::effective(), gid: Gid::effective() };
        let within = as_caller(caller, || Ok(caps::read(None, CapSet::Effective)?))?;
        // Root is its own caller; anybody else has nothing but their own rights.
        assert_eq!(within.is_empty(), !caller.uid.is_root() || before.0.is_empty());
        assert_eq!((caps::read(None, CapSet::Effective)?, getgroups()?), before);
        Ok(())
    }
}
