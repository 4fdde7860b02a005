//! A place of its own for an engine or a recorder: a mount namespace in which
//! what the test needs lies in one folder, open to whom it shall be.

use crate::workload::{generate, var};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Nobody, by the number that every Linux gives them.
pub(crate) const NOBODY: u32 = 65534;
/// What recording cannot do without, for `setpriv`.
pub(crate) const THREE: [&str; 3] = ["bpf", "perfmon", "sys_ptrace"];

/// Mounts each source on a folder, then becomes the command.
const MOUNT: &str = r#"while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; shift; exec "$@""#;

/// The folder, and what lies where.
pub(crate) struct Elsewhere {
    mounts: Vec<(PathBuf, PathBuf)>,
    pub(crate) engine: [String; 3],
    packages: String,
    pub(crate) recorder: String,
}

impl Elsewhere {
    /// Under `folder`, which must exist. It is empty for everybody else.
    pub(crate) fn new(folder: &Path) -> Self {
        let ask = "import sys, xllamacpp; print(sys.base_prefix); print(xllamacpp.__path__[0])";
        let said = Command::new(var("LLMTRACE_TEST_PYTHON")).args(["-c", ask]).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let (base, package) = said.trim().split_once('\n').expect("two paths");
        let mut mounts = Vec::new();
        let mut mount = |source: &Path, name: &str| {
            let place = folder.join(name);
            fs::create_dir(&place).unwrap();
            mounts.push((source.to_owned(), place.clone()));
            place
        };
        let parent_of = |path: &str| fs::canonicalize(path).unwrap().parent().unwrap().to_owned();
        let base_name = |path: &str| Path::new(path).file_name().unwrap().to_owned();
        let model = var("LLMTRACE_TEST_MODEL");
        let script = var("LLMTRACE_TEST_GENERATE");
        let recorder = env!("CARGO_BIN_EXE_llmtrace");
        let python = mount(Path::new(base), "python").join("bin/python3");
        let packages = mount(&parent_of(package), "packages");
        let script = mount(&parent_of(&script), "tools").join(base_name(&script));
        let model = mount(&parent_of(&model), "models").join(base_name(&model));
        let recorder = mount(&parent_of(recorder), "recorder").join(base_name(recorder));
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let engine = [text(python), text(script), text(model)];
        Self { mounts, engine, packages: text(packages), recorder: text(recorder) }
    }

    /// The start of a command there, to which the rest is added as arguments.
    /// `unshare` takes more options, as for a pid namespace.
    pub(crate) fn command(&self, unshare: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.arg("--mount").args(unshare).args(["sh", "-euc", MOUNT, "sh"]);
        for (source, place) in &self.mounts {
            command.arg(source).arg(place);
        }
        command.arg("--").env("PYTHONPATH", &self.packages).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env_remove("SUDO_UID").env_remove("SUDO_GID");
        command
    }

    /// The command that generates there.
    pub(crate) fn generate(&self, threads: u32, tokens: u32) -> Vec<String> {
        generate(&self.engine, threads, tokens)
    }
}

/// The start of a command as nobody who has these capabilities.
pub(crate) fn as_nobody(capabilities: &[&str]) -> Vec<String> {
    let id = NOBODY.to_string();
    let list = |sign: &str| capabilities.iter().map(|name| format!(",{sign}{name}")).collect::<String>();
    ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("--inh-caps=-all{}", list("+")), format!("--ambient-caps=-all{}", list("+"))])
        .collect()
}
