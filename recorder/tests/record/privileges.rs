//! Recording without root, and what the recorder gives up.

use crate::elsewhere::{Elsewhere, NOBODY, THREE, as_nobody};
use crate::errors::error;
use crate::invariants::check_whole;
use crate::workload::{self, Engine, Run, open, record_some, recorder};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

/// CAP_SYS_PTRACE, CAP_PERFMON and CAP_BPF; CAP_DAC_READ_SEARCH and
/// CAP_CHECKPOINT_RESTORE, for libraries.
const NEEDED: u64 = 1 << 19 | 1 << 38 | 1 << 39;
const FOR_FILES: u64 = 1 << 2 | 1 << 40;
const SYS_ADMIN: u64 = 1 << 21;

/// `llmtrace record` there, as nobody with these capabilities.
fn nobodys_recorder(run: &Run, there: &Elsewhere, capabilities: &[&str], arguments: &[&str]) -> Command {
    let mut command = there.command(&[]);
    command.args(as_nobody(capabilities)).arg(&there.recorder).arg("record");
    command.arg("-o").arg(&run.trace).args(arguments);
    command
}

fn shared(run: &Run) -> Elsewhere {
    run.open_to_everybody();
    Elsewhere::new(run.folder())
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn three_capabilities_record_ones_own_process() {
    let (run, engines) = (Run::new(), Run::new());
    let (there, home) = (shared(&run), shared(&engines));
    let mut command = home.command(&[]);
    let mut engine = Engine::start_as(command.args(as_nobody(&[])).args(home.generate(1, 16)));
    let arguments = ["-q", "-p", &engine.pid().to_string()];
    record_some(&run, &mut nobodys_recorder(&run, &there, &THREE, &arguments));
    check_whole(&open(&run), 1);
    assert_eq!(run.trace.metadata().unwrap().uid(), NOBODY);
    engine.generates_on();
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn three_capabilities_record_a_command_which_gets_none_of_them() {
    let run = Run::new();
    let there = shared(&run);
    let mut command = nobodys_recorder(&run, &there, &THREE, &["-q", "--"]);
    assert!(command.args(there.generate(2, 8)).status().unwrap().success());
    check_whole(&open(&run), 2);
    let mut command = nobodys_recorder(&run, &there, &THREE, &["-q", "--"]);
    let output = command.args(["grep", "^Cap[^B]", "/proc/self/status"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.lines().all(|line| line.ends_with("\t0000000000000000")), "{text}");
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn process_of_somebody_else_takes_one_more_where_its_files_are_private() {
    let (run, engines) = (Run::new(), Run::new());
    let there = shared(&run);
    // Libraries in a folder that only root may enter.
    let home = Elsewhere::new(engines.folder());
    fs::set_permissions(engines.folder(), fs::Permissions::from_mode(0o700)).unwrap();
    let engine = Engine::start_as(home.command(&[]).args(home.generate(1, 16)));
    let arguments = ["-q", "-p", &engine.pid().to_string()];
    let text = error(&mut nobodys_recorder(&run, &there, &THREE, &arguments));
    assert!(text.contains("may not be read by us, which takes root or CAP_DAC_READ_SEARCH:"), "{text}");
    assert!(!run.trace.exists());
    let four = [&THREE[..], &["dac_read_search"]].concat();
    record_some(&run, &mut nobodys_recorder(&run, &there, &four, &arguments));
    check_whole(&open(&run), 1);
}

#[test]
#[ignore = "needs root"]
fn each_missing_capability_is_named() {
    let run = Run::new();
    let there = shared(&run);
    for missing in THREE {
        let others: Vec<&str> = THREE.into_iter().filter(|name| *name != missing).collect();
        let text = error(&mut nobodys_recorder(&run, &there, &others, &["-p", "1"]));
        let name = format!("CAP_{}", missing.to_uppercase());
        assert!(text.contains(&format!("recording needs root or {name}: run it as `sudo")), "{text}");
        assert!(text.contains("setcap"), "{text}");
    }
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn capabilities_of_the_file_do_and_leave_the_commands_environment_alone() {
    let run = Run::new();
    let there = shared(&run);
    let copy = run.folder().join("llmtrace");
    fs::copy(env!("CARGO_BIN_EXE_llmtrace"), &copy).unwrap();
    let grants = "cap_bpf,cap_perfmon,cap_sys_ptrace+ep";
    assert!(Command::new("setcap").arg(grants).arg(&copy).status().unwrap().success());
    let record = |quiet: &str| {
        let mut command = there.command(&[]);
        command.args(as_nobody(&[])).arg(&copy).args(["record", quiet, "-o"]).arg(&run.trace).arg("--");
        command
    };
    assert!(record("-q").args(there.generate(1, 8)).status().unwrap().success());
    check_whole(&open(&run), 1);
    // The C library takes this one from a program with capabilities.
    let script = "echo $LD_LIBRARY_PATH; grep CapEff /proc/self/status";
    let mut command = record("-q");
    let output = command.env("LD_LIBRARY_PATH", "/opt/lib").args(["sh", "-c", script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "/opt/lib\nCapEff:\t0000000000000000\n");
}

/// A field of a process's status, of each of its threads.
fn status(pid: u32, field: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("status")).unwrap();
    let find = |status: String| status.lines().find_map(|line| line.strip_prefix(field).map(str::to_owned));
    threads.map(|thread| find(status(thread.unwrap())).unwrap().trim().to_owned()).collect()
}

fn assert_capabilities(pid: u32, expected: u64) {
    for field in ["CapEff:", "CapPrm:", "CapBnd:"] {
        for thread in status(pid, field) {
            let found = u64::from_str_radix(&thread, 16).unwrap();
            assert_eq!(found, expected, "{field} {found:x}, not {expected:x}");
        }
    }
    for field in ["CapInh:", "CapAmb:"] {
        assert!(status(pid, field).iter().all(|thread| thread == "0000000000000000"));
    }
    assert!(status(pid, "NoNewPrivs:").iter().all(|thread| thread == "1"));
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn root_keeps_what_attaching_and_reading_take() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    let pid = engine.pid().to_string();
    for (way, kept) in [("multi", NEEDED | FOR_FILES), ("single", NEEDED | FOR_FILES | SYS_ADMIN)] {
        let run = Run::new();
        let mut child = recorder(&run, &["-q", "-p", &pid]).env("LLMTRACE_UPROBES", way).spawn().unwrap();
        workload::wait_until_it_writes(&run, &mut child, 32_000);
        assert_capabilities(child.id(), kept);
        assert!(status(child.id(), "Uid:").iter().all(|ids| ids == "0\t0\t0\t0"));
        workload::signal(child.id(), "INT");
        assert!(child.wait().unwrap().success());
        check_whole(&open(&run), 1);
    }
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn root_may_go_on_writing_where_only_privilege_lets_it() {
    let run = Run::new();
    let engine = Engine::start(&run, 1);
    std::os::unix::fs::chown(run.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut child = recorder(&run, &["-q", "-p", &engine.pid().to_string()]).spawn().unwrap();
    workload::wait_until_it_writes(&run, &mut child, 32_000);
    assert_capabilities(child.id(), NEEDED | FOR_FILES | 1 << 1);
    workload::signal(child.id(), "INT");
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn caller_of_sudo_records_as_themselves() {
    let run = Run::new();
    let there = shared(&run);
    let id = NOBODY.to_string();
    let mut command = there.command(&[]);
    command.env("SUDO_UID", &id).env("SUDO_GID", &id);
    command.arg(&there.recorder).args(["record", "-q", "-o"]).arg(&run.trace).arg("--");
    // Its library is loaded after we have become nobody.
    let mut child = command.args(there.generate(1, 200)).spawn().unwrap();
    workload::wait_until_it_writes(&run, &mut child, 32_000);
    assert_capabilities(child.id(), NEEDED | FOR_FILES);
    for field in ["Uid:", "Gid:"] {
        assert!(status(child.id(), field).iter().all(|ids| ids.split('\t').all(|it| it == id)));
    }
    assert!(status(child.id(), "Groups:").iter().all(|groups| groups.is_empty() || *groups == id));
    assert!(child.wait().unwrap().success());
    check_whole(&open(&run), 1);
    let owner = run.trace.metadata().unwrap();
    assert_eq!((owner.uid(), owner.gid()), (NOBODY, NOBODY));
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn probes_attached_one_by_one_see_the_same() {
    let counts = |way: &str| {
        let run = Run::new();
        let mut command = recorder(&run, &["-q", "--exact-begins"]);
        let status = command.env("LLMTRACE_UPROBES", way).arg("--").args(run.generate(1, 12)).status();
        assert!(status.unwrap().success());
        let trace = open(&run);
        check_whole(&trace, 1);
        let mut nodes = std::collections::BTreeMap::<u32, usize>::new();
        for span in trace.lanes().iter().flat_map(|lane| trace.spans(lane.id)) {
            *nodes.entry(span.node).or_default() += 1;
        }
        (trace.file.ending.as_ref().unwrap().lost, trace.graph_spans.len(), nodes)
    };
    let single = counts("single");
    assert_eq!(single.0, 0);
    assert!(single.2.values().sum::<usize>() > 1000);
    assert_eq!(single, counts("multi"));
}
