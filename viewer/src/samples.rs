//! Traces that come with the app: beside the program, where a package puts them, or in the
//! repository that it was built in.

use std::path::{Path, PathBuf};

/// Most that are offered.
const MOST: usize = 12;

/// What the samples show, by the names of their files.
const KNOWN: [(&str, &str); 11] = [
    ("gemma3-270m-2t", "Gemma 3 270M on two threads"),
    ("gemma3-270m-1t", "The same on one thread"),
    ("gemma3-270m-preempted-2t", "Two threads that other programs keep from their CPUs"),
    ("gemma3-270m-undisturbed-2t", "The same, undisturbed"),
    ("gemma3-270m-q8-2t", "The same model with weights of 8 bits"),
    ("gemma3-270m-cold-1t", "A model that is not in memory yet: page faults"),
    ("gemma3-270m-warm-1t", "The same model in memory"),
    ("gemma3-270m-counters-2t", "Counters of each node on each thread"),
    ("gemma3-270m-server-1t", "A server with several requests"),
    ("gemma3-270m-vulkan9-2t", "Layers offloaded to Vulkan"),
    ("qwen3moe-synthetic-2t", "A mixture of experts"),
];

/// A trace to look at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// What it shows; the file's name for one that is not known.
    pub shows: String,
}

/// The samples that are there, the plainest first.
pub fn find() -> Vec<Sample> {
    let program = std::env::current_exe().and_then(|path| path.canonicalize());
    folders(program.ok().as_deref())
        .iter()
        .map(|folder| in_folder(folder))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// Where samples may be for a program at a path.
fn folders(program: Option<&Path>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(folder) = program.and_then(Path::parent) {
        folders.push(folder.join("samples"));
        folders.extend(folder.parent().map(|prefix| prefix.join("share/llmtrace/samples")));
        // target/debug/deps of a repository is the deepest.
        folders.extend(folder.ancestors().skip(1).take(3).map(|folder| folder.join("sample-traces")));
    }
    folders
}

/// The traces of a folder.
pub fn in_folder(folder: &Path) -> Vec<Sample> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let stem =
        |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let rank = |stem: &str| KNOWN.iter().position(|(name, _)| *name == stem).unwrap_or(KNOWN.len());
    let traces = paths.filter(|path| path.extension().is_some_and(|extension| extension == "llmtrace"));
    let mut found: Vec<(usize, Sample)> = traces
        .map(|path| {
            let stem = stem(&path);
            let rank = rank(&stem);
            let shows = KNOWN.get(rank).map_or(stem, |(_, shows)| (*shows).to_owned());
            (rank, Sample { path, shows })
        })
        .collect();
    found.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
    found.into_iter().map(|(_, sample)| sample).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_the_repository_have_a_line_each() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-traces");
        let found = in_folder(&folder);
        assert!(found.len() >= KNOWN.len());
        for sample in &found {
            assert!(sample.shows.contains(' '), "{} has no line in KNOWN", sample.path.display());
        }
        assert!(found[0].path.ends_with("gemma3-270m-2t.llmtrace"));
        assert!(in_folder(Path::new("/no/such/folder")).is_empty());
    }

    #[test]
    fn they_are_where_a_package_puts_them() {
        let all = folders(Some(Path::new("/usr/bin/llmtrace-viewer")));
        assert!(all.contains(&PathBuf::from("/usr/share/llmtrace/samples")));
        let all = folders(Some(Path::new("/a/target/debug/llmtrace-viewer")));
        assert!(all.contains(&PathBuf::from("/a/sample-traces")));
        assert!(folders(None).is_empty());
    }
}
