//! The command line.

use clap::{Parser, Subcommand};

/// Profiles LLM inference: records a running llama.cpp with eBPF, without
/// patching it, and reads what was recorded.
///
/// The desktop app `llmtrace-viewer` opens the same files.
#[derive(Parser)]
#[command(name = "llmtrace", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(target_os = "linux")]
    Record(Box<linux::Record>),
    #[cfg(target_os = "linux")]
    Doctor(linux::Doctor),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Launch(linux::Launch),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Hammer,
    Calibrate(crate::ceilings::Calibrate),
    #[command(flatten)]
    Read(crate::read::Read),
}

impl Cli {
    /// Runs the command; returns the exit code.
    pub(crate) fn run(self) -> anyhow::Result<i32> {
        match self.command {
            #[cfg(target_os = "linux")]
            Command::Record(record) => record.run(),
            #[cfg(target_os = "linux")]
            Command::Doctor(doctor) => doctor.run(),
            #[cfg(target_os = "linux")]
            Command::Launch(launch) => Err(launch.run()),
            #[cfg(target_os = "linux")]
            Command::Hammer => crate::record::hammer().map(|()| 0),
            Command::Calibrate(calibrate) => calibrate.run(),
            Command::Read(read) => read.run(),
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::record::{
        Long, Machine, Moe, Options, Question, Room, Sources, counters_help, doctor, launch, run, seconds,
    };
    use clap::{Args, ValueEnum};
    use llmtrace_format::meta;
    use std::ffi::OsString;
    use std::path::PathBuf;
    use std::time::Duration;

    /// Record a process into a .llmtrace file
    ///
    /// Attaches eBPF probes to the llama.cpp (or any ggml program) in a process,
    /// which runs on unchanged. Ends when the process exits, after --duration,
    /// or with Ctrl-C. Needs root, as with `sudo llmtrace
    /// record …`, or the capabilities that docs/recording.md names.
    #[derive(Args)]
    #[command(after_help = "\
Examples:
  sudo llmtrace record -o slow.llmtrace -p $(pidof llama-server) -d 30
  sudo llmtrace record -n llama-server -d 10
  sudo llmtrace record -- llama-cli -m model.gguf -p hi

Exit code: that of COMMAND, else 0; 2 when recording fails.")]
    pub(super) struct Record {
        /// Write here [default: NAME-DATE-TIME.llmtrace]; an earlier trace is
        /// replaced
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Record the running process PID; several, as in `-p 12,34`, into one file
        #[arg(short, long, value_name = "PID", value_delimiter = ',', conflicts_with_all = ["name", "command"])]
        pid: Vec<u32>,
        /// Record the running processes with this name
        #[arg(short, long, value_name = "NAME", conflicts_with = "command")]
        name: Option<String>,
        /// Wait until the process (with -n) runs, and until it loads its llama.cpp
        #[arg(short, long, conflicts_with = "command")]
        wait: bool,
        /// Stop after this many seconds
        #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
        duration: Option<Duration>,
        /// How much to record; each level includes those before it
        #[arg(long, value_enum, default_value = "thread")]
        level: Level,
        /// Always probe the begin of each node, too
        ///
        /// Once the order of a graph's nodes is known, arrivals at barriers tell
        /// them apart, and probes at their begins are detached: a node then begins
        /// when the last thread arrived at the barrier before. With this option
        /// begins are seen, at twice the cost.
        #[arg(long)]
        exact_begins: bool,
        /// Record no splits, copies and waits of backends
        ///
        /// From level graph on they are: what the scheduler gives to which backend,
        /// what is copied for it, and how long the program waits for it.
        #[arg(long)]
        no_offload: bool,
        /// Record what each thread does: on a CPU, runnable, asleep; who preempted it
        ///
        /// From the kernel's scheduler, which then asks for each switch on the host whether it
        /// is the process's. And the CPUs' frequencies, where the kernel reports them.
        #[arg(long)]
        sched: bool,
        /// Record page faults, with file and tensor, and reads from disks
        #[arg(long)]
        faults: bool,
        /// Percent of the target's time that probes may take
        ///
        /// Above it, operators are recorded for fewer tokens, or not at all; each
        /// change is in the trace, with its reason. 100 for no limit.
        #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent)]
        max_overhead: f64,
        /// Record the operators of one token in N
        ///
        /// In runs of some tokens each, between which their probes are detached. All
        /// tokens are timed.
        #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        window: u32,
        /// Whether to record which experts tokens are sent to
        #[arg(long, value_enum, value_name = "WHERE", default_value = "auto", default_missing_value = "auto", num_args = 0..=1, require_equals = true)]
        moe: Experts,
        /// Record the router's weights of these experts, too
        #[arg(long)]
        moe_weights: bool,
        /// Leave out what goes on around graphs: `sequences` of micro-batches,
        /// operations on the `kv` cache, `calls` such as sampling and loading, or
        /// `samples` of memory and CPU time
        #[arg(long, value_enum, value_name = "SOURCE", value_delimiter = ',')]
        without: Vec<Source>,
        /// Count for each node on each thread: a list such as `page-faults,task-clock,cycles`,
        /// or `help` for what there is
        ///
        /// What the kernel counts for each thread costs little. Events of a PMU are taken by
        /// name, by number (r01c2) or as perf writes them (cpu/event=0x3c/). What this machine
        /// cannot count is said, and the rest is counted.
        #[arg(long, value_name = "LIST")]
        counters: Option<String>,
        /// Record the ids of all tokens, from which prompts and answers can be read
        ///
        /// Off by default. The trace says that it has them.
        #[arg(long)]
        tokens: bool,
        /// Measure first what this host can do at most, as `llmtrace calibrate` does
        ///
        /// Without it, the trace carries what was measured on this host before, if it was.
        #[arg(long)]
        calibrate: bool,
        /// Bytes of the rings between kernel and recorder; for tests
        #[arg(long, hide = true)]
        ring_bytes: Option<u64>,
        /// Bytes of the bulk channel, unless as of the rings; for tests
        #[arg(long, hide = true)]
        bulk_bytes: Option<u64>,
        #[command(flatten)]
        long: Long,
        /// Print nothing but errors
        #[arg(short, long)]
        quiet: bool,
        /// Run this command, as the user who called sudo, and record it
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    }

    #[derive(Clone, Copy, ValueEnum)]
    enum Level {
        /// Decode calls and ubatches: tokens, and how long each took
        Token,
        /// And graph computations
        Graph,
        /// And every operator on every thread
        Op,
        /// And waiting at barriers
        Thread,
    }

    #[derive(Clone, Copy, ValueEnum)]
    enum Experts {
        /// Where a model has experts: a probe where the weights of those chosen are
        /// gathered, once a layer
        Auto,
        /// A probe at each node, also for builds in which that function is not found
        Nodes,
        /// Not at all
        Off,
    }

    #[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
    enum Source {
        /// Which sequences each micro-batch has
        Sequences,
        /// Removals, copies and shifts in the KV cache
        Kv,
        /// Sampling, tokenising, loading, drafting
        Calls,
        /// Memory and CPU time of processes, energy and memory traffic of the machine
        Samples,
    }

    impl Record {
        pub(super) fn run(self) -> anyhow::Result<i32> {
            if self.counters.as_deref() == Some("help") {
                counters_help(&mut std::io::stdout().lock())?;
                return Ok(0);
            }
            let options = Options {
                output: self.output,
                pids: self.pid,
                name: self.name,
                wait: self.wait,
                command: self.command,
                duration: self.duration,
                level: match self.level {
                    Level::Token => meta::Level::Token,
                    Level::Graph => meta::Level::Graph,
                    Level::Op => meta::Level::Op,
                    Level::Thread => meta::Level::Thread,
                },
                exact_begins: self.exact_begins,
                sources: Sources {
                    sequences: !self.without.contains(&Source::Sequences),
                    kv: !self.without.contains(&Source::Kv),
                    calls: !self.without.contains(&Source::Calls),
                    tokens: self.tokens,
                },
                offload: !self.no_offload,
                machine: Machine { sched: self.sched, faults: self.faults },
                max_overhead: (self.max_overhead < 100.0).then_some(self.max_overhead),
                window: self.window,
                moe: match self.moe {
                    Experts::Auto => Moe::Auto,
                    Experts::Nodes => Moe::Nodes,
                    Experts::Off => Moe::Off,
                },
                moe_weights: self.moe_weights,
                counters: self.counters,
                samples: !self.without.contains(&Source::Samples),
                calibrate: self.calibrate,
                room: Room { rings: self.ring_bytes, bulk: self.bulk_bytes.or(self.ring_bytes) },
                long: self.long,
                quiet: self.quiet,
            };
            options.check()?;
            run(&options)
        }
    }

    fn percent(text: &str) -> Result<f64, String> {
        let percent: f64 = text.parse().map_err(|_| "not a number of percent".to_owned())?;
        if percent > 0.0 && percent <= 100.0 { Ok(percent) } else { Err("not between 0 and 100".to_owned()) }
    }

    /// Check whether this host can record, and what a target would give
    ///
    /// Looks at the kernel and our privileges, measures what a probe costs here,
    /// and, for a process or for files, finds every probe point: in which object,
    /// at which instruction, and which levels it would give. Attaches nothing to
    /// the process.
    ///
    /// Exit code: 0 when the host can record and the target gives operators, else
    /// 1; 2 on errors.
    #[derive(Args)]
    pub(super) struct Doctor {
        /// Look at the running process PID
        #[arg(short, long, value_name = "PID")]
        pid: Option<u32>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Look at these libraries or programs, taken together
        #[arg(value_name = "FILE", conflicts_with = "pid")]
        files: Vec<PathBuf>,
    }

    impl Doctor {
        pub(super) fn run(self) -> anyhow::Result<i32> {
            doctor(&Question { pid: self.pid, files: self.files, json: self.json })
        }
    }

    /// Becomes a command once the recorder is ready; for `record` only.
    #[derive(Args)]
    pub(super) struct Launch {
        #[arg(long)]
        user: Option<u32>,
        #[arg(long)]
        group: Option<u32>,
        #[arg(last = true)]
        command: Vec<OsString>,
    }

    impl Launch {
        pub(super) fn run(self) -> anyhow::Error {
            launch(self.user, self.group, &self.command)
        }
    }
}
