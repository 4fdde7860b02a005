//! `llmtrace info`: what was recorded, where, when and how.

use super::text::{Columns, bytes, clean, count, duration, heading, known, pairs, percent, plural, three};
use super::{Input, open, print_json};
use anyhow::Result;
use jiff::{Timestamp, tz::TimeZone};
use llmtrace_analysis::Trace;
use llmtrace_format::constants::{NONE, kind};
use llmtrace_format::counters::{self, ProcessSamples};
use llmtrace_format::meta::{
    Backend, Counter, Ending, Host, Level, NameSource, Probe, ProbeCost, Process, Source, StrId, Target,
};
use llmtrace_format::tables::{
    Decodes, EVENT_KINDS, Experts, GraphSpans, LevelChanges, Losses, Marks, OpSpans, Selections, Table as _,
    Threads, Ubatches,
};
use llmtrace_format::{inference, machine, offload};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::io::Write;

/// Arguments of `info`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
}

/// Everything that `info --json` prints; `docs/cli.md` defines the fields.
#[derive(Serialize)]
struct Info<'a> {
    format_version: String,
    file_bytes: u64,
    closed: bool,
    started_unix_ns: u64,
    started_utc: Option<String>,
    duration_s: f64,
    recorder_version: Option<&'a str>,
    level: Option<Level>,
    level_asked: Option<Level>,
    level_reason: Option<&'a str>,
    host: Option<&'a Host>,
    target: Option<&'a Target>,
    processes: &'a [Process],
    contexts: usize,
    /// What the kernel did with threads and memory, in lines.
    #[serde(serialize_with = "lines")]
    machine: Vec<(&'static str, String)>,
    /// What was recorded around graphs, in lines.
    #[serde(serialize_with = "lines")]
    around: Vec<(&'static str, String)>,
    /// How many selections of experts are not whole, in words.
    #[serde(skip)]
    selections_lacking: String,
    /// How experts were recorded, or why not.
    experts: Option<&'a str>,
    max_overhead_percent: Option<f64>,
    window: u32,
    sources: &'a [Source],
    has_tokens: bool,
    backends: &'a [Backend],
    counters: &'a [Counter],
    counters_missing: &'a [Source],
    sampled: &'a [Counter],
    level_changes: Vec<LevelChangeInfo<'a>>,
    marks: Vec<MarkInfo<'a>>,
    probes: &'a [Probe],
    probe_costs: &'a [ProbeCost],
    ending: Option<&'a Ending>,
    recorder_cpu_share: Option<f64>,
    threads: usize,
    lanes: Vec<u32>,
    graphs: Vec<GraphInfo>,
    losses: Vec<LossInfo>,
    blocks: usize,
    op_spans: u64,
    bytes_per_op_span: Option<f64>,
    tables: Vec<TableInfo>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct GraphInfo {
    id: u32,
    nodes: u32,
    tensors: usize,
    runs: usize,
    ops: usize,
}

#[derive(Serialize)]
struct LevelChangeInfo<'a> {
    time_s: f64,
    process: u32,
    level: u8,
    begins: bool,
    window: u32,
    reason: &'a str,
}

#[derive(Serialize)]
struct MarkInfo<'a> {
    time_s: f64,
    label: &'a str,
}

#[derive(Serialize)]
struct LossInfo {
    event: &'static str,
    cpu: Option<u32>,
    count: u64,
    begin_s: f64,
    end_s: f64,
}

#[derive(Serialize)]
struct TableInfo {
    table: String,
    blocks: u64,
    rows: u64,
    bytes: u64,
    bytes_per_row: Option<f64>,
}

/// Lines as a list of objects.
fn lines<S: Serializer>(
    lines: &[(&'static str, String)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        name: &'static str,
        text: &'a str,
    }
    serializer.collect_seq(lines.iter().map(|(name, text)| Line { name, text }))
}

/// Prints what a trace is.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let trace = open(&args.input.file)?;
    let info = Info::of(&trace);
    if args.input.json {
        return print_json(&info, out);
    }
    info.print(out)?;
    Ok(())
}

impl<'a> Info<'a> {
    fn of(trace: &'a Trace) -> Self {
        let file = &trace.file;
        let recording = file.recording.as_ref();
        let op_spans = trace.op_span_count();
        let duration_s = trace.range().nanos() as f64 / 1e9;
        let share = |ending: &Ending| ending.recorder_cpu_nanos as f64 / 1e9 / duration_s;
        Self {
            format_version: format!("{}.{}", file.header.major, file.header.minor),
            file_bytes: file.len(),
            closed: file.ending.is_some(),
            started_unix_ns: file.header.start_unix_nanos,
            started_utc: started(trace).map(|time| time.to_string()),
            duration_s,
            recorder_version: recording.map(|recording| recording.recorder_version.as_str()),
            level: recording.map(|recording| recording.level),
            level_asked: recording.map(|recording| recording.level_asked),
            level_reason: recording.map(|r| r.level_reason.as_str()).filter(|reason| !reason.is_empty()),
            host: recording.map(|recording| &recording.host),
            target: recording.map(|recording| &recording.target),
            processes: recording.map_or(&[], |recording| &recording.processes),
            contexts: contexts(trace),
            counters: recording.map_or(&[], |recording| &recording.counters),
            counters_missing: recording.map_or(&[], |recording| &recording.counters_missing),
            sampled: recording.map_or(&[], |recording| &recording.sampled),
            machine: super::machine::info(trace),
            around: super::around::info(trace),
            selections_lacking: super::around::selections_lacking(trace),
            experts: recording.map(|r| r.experts.as_str()).filter(|how| !how.is_empty()),
            max_overhead_percent: recording
                .map(|recording| f64::from(recording.max_overhead_permille) / 10.0)
                .filter(|percent| *percent > 0.0),
            window: recording.map_or(1, |recording| recording.window.max(1)),
            sources: recording.map_or(&[], |recording| &recording.sources),
            has_tokens: !trace.inference.tokens.is_empty(),
            backends: recording.map_or(&[], |recording| &recording.backends),
            level_changes: level_changes(trace),
            marks: marks(trace),
            probes: recording.map_or(&[], |recording| &recording.probes),
            probe_costs: recording.map_or(&[], |recording| &recording.costs),
            ending: file.ending.as_ref(),
            recorder_cpu_share: file.ending.as_ref().filter(|_| duration_s > 0.0).map(share),
            threads: file.threads.len(),
            lanes: trace.lane_ids(),
            graphs: graphs(trace),
            losses: losses(trace),
            blocks: file.blocks.len(),
            op_spans,
            bytes_per_op_span: (op_spans > 0).then(|| file.len() as f64 / op_spans as f64),
            tables: tables(trace),
            warnings: trace.all_warnings().iter().map(ToString::to_string).collect(),
        }
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        pairs(&self.what(), out)?;
        heading("recording", out)?;
        pairs(&self.how(), out)?;
        self.print_changes(out)?;
        if !self.probes.is_empty() {
            heading("probes", out)?;
            let mut columns = Columns::new(&["for", "object", "function", "instruction", "kernel"], 5);
            for probe in self.probes {
                let at = if probe.offset > 0 { format!("+{}", probe.offset) } else { String::new() };
                columns.row([
                    clean(&probe.purpose),
                    clean(&probe.object),
                    format!("{}{at}{}", clean(&probe.symbol), if probe.on_return { " (return)" } else { "" }),
                    clean(&probe.instruction),
                    if probe.emulated { "emulates" } else { "single-steps" }.to_owned(),
                ]);
            }
            columns.print(out)?;
            let cost = |cost: &ProbeCost| format!("{} {}", clean(&cost.purpose), duration(cost.nanos as f64));
            let costs: Vec<String> = self.probe_costs.iter().map(cost).collect();
            if !costs.is_empty() {
                writeln!(out, "a hit costs: {}", costs.join("; "))?;
            }
            let hits = self.hits();
            if !hits.is_empty() {
                writeln!(out, "hits: {}", hits.join("; "))?;
            }
        }
        if !self.graphs.is_empty() {
            heading("graphs", out)?;
            let mut columns = Columns::new(&["id", "nodes", "tensors", "operators", "runs"], 0);
            for graph in self.graphs.iter().take(20) {
                let numbers = [graph.nodes as usize, graph.tensors, graph.ops, graph.runs];
                let cells = numbers.map(|number| count(number as u64));
                columns.row(std::iter::once(graph.id.to_string()).chain(cells));
            }
            columns.print(out)?;
            if self.graphs.len() > 20 {
                writeln!(out, "20 of {}; --json shows all", self.graphs.len())?;
            }
        }
        heading("file", out)?;
        let mut columns = Columns::new(&["table", "blocks", "rows", "bytes", "bytes a row"], 1);
        for table in &self.tables {
            columns.row([
                table.table.clone(),
                count(table.blocks),
                count(table.rows),
                count(table.bytes),
                known(table.bytes_per_row, three),
            ]);
        }
        columns.print(out)
    }

    /// Processes where there are several, and what happened to the recording.
    fn print_changes(&self, out: &mut dyn Write) -> std::io::Result<()> {
        if self.processes.len() > 1 {
            heading("processes", out)?;
            let mut columns = Columns::new(&["number", "pid", "started by", "level", "program", "models"], 4);
            for (number, process) in self.processes.iter().enumerate() {
                columns.row([
                    number.to_string(),
                    process.pid.to_string(),
                    if process.parent == 0 { "–".to_owned() } else { process.parent.to_string() },
                    process.level.name().to_owned(),
                    clean(&process.exe),
                    process.models.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", "),
                ]);
            }
            columns.print(out)?;
        }
        if !self.backends.is_empty() {
            heading("backends", out)?;
            let mut columns = Columns::new(&["name", "device", "is", "waited for", "code in"], 5);
            for backend in self.backends {
                let name = match backend.name_source {
                    NameSource::Target => clean(&backend.name),
                    NameSource::File => format!("{} (its file)", clean(&backend.name)),
                    NameSource::Unknown => "unknown".to_owned(),
                };
                let or_unknown = |text: &str| if text.is_empty() { "–".to_owned() } else { clean(text) };
                columns.row([
                    name,
                    or_unknown(&backend.device),
                    or_unknown(&backend.description),
                    if backend.synchronizes { "yes" } else { "no: computes within the call" }.to_owned(),
                    or_unknown(&backend.object),
                ]);
            }
            columns.print(out)?;
        }
        if !self.level_changes.is_empty() {
            heading("changes of what is recorded", out)?;
            for change in self.level_changes.iter().take(CHANGES) {
                let at = duration(change.time_s * 1e9);
                writeln!(out, "{at:>9}  level {}: {}", level_name(change.level), clean(change.reason))?;
            }
            if self.level_changes.len() > CHANGES {
                writeln!(out, "{CHANGES} of {}; --json shows all", self.level_changes.len())?;
            }
        }
        if !self.marks.is_empty() {
            heading("marks", out)?;
            for mark in self.marks.iter().take(CHANGES) {
                writeln!(out, "{:>9}  {}", duration(mark.time_s * 1e9), clean(mark.label))?;
            }
        }
        Ok(())
    }

    /// How experts were recorded, when there are any, and how many.
    fn experts(&self) -> String {
        let rows =
            |name: &str| self.tables.iter().find(|table| table.table == name).map_or(0, |table| table.rows);
        match (rows(Selections::NAME), self.experts) {
            (0, _) | (_, None) => String::new(),
            (selections, Some(how)) => format!(
                "{} of {}{}, {}",
                plural(rows(Experts::NAME), "expert", "experts"),
                plural(selections, "selection", "selections"),
                self.selections_lacking,
                clean(how)
            ),
        }
    }

    /// What was counted, by whom, and what was not.
    fn counted(&self) -> String {
        let name = |counter: &Counter| match counter.source.as_str() {
            "task" => clean(&counter.name),
            source => format!("{} ({}: {})", clean(&counter.name), clean(source), clean(&counter.event)),
        };
        let missing = |of: &Source| format!("not {}: {}", clean(&of.name), clean(&of.reason));
        let all = self.counters.iter().map(name).chain(self.counters_missing.iter().map(missing));
        all.collect::<Vec<_>>().join("; ")
    }

    /// How many samples there are of processes and of the machine.
    fn samples(&self) -> String {
        let rows =
            |name: &str| self.tables.iter().find(|table| table.table == name).map_or(0, |table| table.rows);
        match (rows(ProcessSamples::NAME), self.sampled) {
            (0, []) => String::new(),
            (processes, []) => format!("{} of processes", count(processes)),
            (processes, sampled) => {
                let names: Vec<String> = sampled.iter().map(|of| clean(&of.name)).collect();
                format!("{} of processes; {}", count(processes), names.join(", "))
            }
        }
    }

    /// Hits of each kind of probe, over all threads.
    fn hits(&self) -> Vec<String> {
        let mut hits: Vec<(&str, u64)> = Vec::new();
        for row in self.ending.iter().flat_map(|ending| &ending.hits) {
            match hits.iter_mut().find(|(purpose, _)| *purpose == row.purpose) {
                Some((_, all)) => *all = all.saturating_add(row.hits),
                None => hits.push((&row.purpose, row.hits)),
            }
        }
        hits.into_iter().map(|(purpose, hits)| format!("{} {}", clean(purpose), count(hits))).collect()
    }

    fn what(&self) -> Vec<(&'static str, String)> {
        let target = self.target.cloned().unwrap_or_default();
        let host = self.host.cloned().unwrap_or_default();
        let list = |names: &[String]| names.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ");
        let objects: Vec<String> = target.objects.iter().map(|object| object.name.clone()).collect();
        let how = if target.launched { "started by llmtrace" } else { "attached to" };
        let named = |name: &str, version: &str| {
            if version.is_empty() { String::new() } else { format!("{name} {}", clean(version)) }
        };
        let versions = [named("llama", &target.llama_version), named("ggml", &target.ggml_version)];
        let machine = [
            clean(&host.cpu_model),
            format!("{} CPUs", host.cpus),
            format!("{} memory", bytes(host.memory_bytes)),
        ];
        let when = Timestamp::from_nanosecond(self.started_unix_ns.into()).map(|time| {
            time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
        });
        let exe = format!("{} (pid {}, {how})", clean(&target.exe), target.pid);
        vec![
            ("model", list(&target.models)),
            ("program", self.target.map_or_else(String::new, |_| exe)),
            ("objects", list(&objects)),
            ("versions", versions.join(" ").trim().to_owned()),
            ("host", if host.name.is_empty() { String::new() } else { clean(&host.name) }),
            ("machine", self.host.map_or_else(String::new, |_| machine.join(", "))),
            ("kernel", format!("{} {}", clean(&host.kernel), clean(&host.arch)).trim().to_owned()),
            ("started", when.unwrap_or_default()),
            ("duration", duration(self.duration_s * 1e9)),
        ]
    }

    /// What was recorded beside graphs, and what was not.
    fn sources(&self) -> String {
        let source = |source: &Source| match source.recorded {
            true => clean(&source.name),
            false => format!("no {} ({})", clean(&source.name), clean(&source.reason)),
        };
        self.sources.iter().map(source).collect::<Vec<_>>().join(", ")
    }

    fn budget(&self) -> String {
        let most = self.max_overhead_percent.map(|most| format!("at most {} % overhead", three(most)));
        let window = (self.window > 1).then(|| format!("operators of one token in {}", self.window));
        most.into_iter().chain(window).collect::<Vec<_>>().join(", ")
    }

    fn how(&self) -> Vec<(&'static str, String)> {
        let level = self.level.map_or("", Level::name);
        let reason = match (self.level_reason, self.level_asked) {
            (Some(reason), Some(asked)) => format!(" ({} was asked for: {})", asked.name(), clean(reason)),
            _ => String::new(),
        };
        let ending = self.ending.cloned().unwrap_or_default();
        let exit = ending.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
        let cpu = known(self.recorder_cpu_share, percent);
        let cost = format!("{cpu} of one CPU, {} at most", bytes(ending.recorder_peak_bytes));
        let closed = |text: String| if self.ending.is_some() { text } else { String::new() };
        let per_span =
            known(self.bytes_per_op_span, |size| format!("{} bytes each in the file", three(size)));
        let ended = if self.ending.is_some() {
            format!("{}{exit}", clean(&ending.reason))
        } else {
            "not closed: the recorder was killed, or is still writing".to_owned()
        };
        let lost: u64 = self.losses.iter().map(|loss| loss.count).fold(0, u64::saturating_add);
        let lost = ending.lost.max(lost);
        let events = format!(
            "{}, {} lost, {} without a graph or call",
            count(ending.events),
            count(lost),
            count(ending.orphans)
        );
        let mut pairs = vec![
            (
                "recorder",
                self.recorder_version.map_or_else(String::new, |v| format!("llmtrace {}", clean(v))),
            ),
            ("level", format!("{level}{reason}")),
            ("budget", self.budget()),
            ("around graphs", self.sources()),
            ("token ids", if self.has_tokens { super::around::HAS_TOKENS.to_owned() } else { String::new() }),
            ("ended", ended),
            ("events", if self.ending.is_some() { events } else { format!("{} lost", count(lost)) }),
            ("cost", closed(cost)),
            ("experts", self.experts()),
            ("counters", self.counted()),
            ("samples", self.samples()),
            ("threads", format!("{} in {} places", count(self.threads as u64), self.lanes.len())),
            ("op spans", format!("{}, {per_span}", count(self.op_spans))),
            (
                "format",
                format!(
                    "version {}, {} in {} blocks",
                    self.format_version,
                    bytes(self.file_bytes),
                    count(self.blocks as u64)
                ),
            ),
        ];
        let at = pairs.iter().position(|(name, _)| *name == "experts").unwrap_or(pairs.len());
        pairs.splice(at..at, self.around.iter().cloned());
        let at = pairs.iter().position(|(name, _)| *name == "threads").unwrap_or(pairs.len());
        pairs.splice(at..at, self.machine.iter().cloned());
        pairs
    }
}

/// Changes shown as text.
const CHANGES: usize = 12;

/// Name of a level of the file.
fn level_name(number: u8) -> &'static str {
    let levels = [Level::Token, Level::Graph, Level::Op, Level::Thread];
    levels.get(usize::from(number)).map_or("unknown", |level| level.name())
}

fn level_changes(trace: &Trace) -> Vec<LevelChangeInfo<'_>> {
    let info = |row: &llmtrace_format::tables::LevelChange| LevelChangeInfo {
        time_s: row.time as f64 / 1e9,
        process: row.process,
        level: row.level,
        begins: row.begins != 0,
        window: row.window,
        reason: trace.file.string(StrId(row.reason)),
    };
    trace.level_changes.iter().map(info).collect()
}

fn marks(trace: &Trace) -> Vec<MarkInfo<'_>> {
    let info = |row: &llmtrace_format::tables::Mark| MarkInfo {
        time_s: row.time as f64 / 1e9,
        label: trace.file.string(StrId(row.label)),
    };
    trace.marks.iter().map(info).collect()
}

/// How many contexts were called.
fn contexts(trace: &Trace) -> usize {
    let contexts: std::collections::HashSet<u32> =
        trace.decodes.iter().map(|row| row.context).filter(|context| *context != NONE).collect();
    contexts.len()
}

fn started(trace: &Trace) -> Option<Timestamp> {
    Timestamp::from_nanosecond(trace.file.header.start_unix_nanos.into()).ok()
}

fn graphs(trace: &Trace) -> Vec<GraphInfo> {
    let mut runs: BTreeMap<u32, usize> = BTreeMap::new();
    for span in &trace.graph_spans {
        *runs.entry(span.graph).or_default() += 1;
    }
    let info = |graph: &llmtrace_format::meta::Graph| {
        let nodes = graph.tensors.iter().take(graph.nodes as usize);
        let mut ops: Vec<_> = nodes.map(|tensor| (tensor.op, tensor.variant)).collect();
        ops.sort_unstable();
        ops.dedup();
        GraphInfo {
            id: graph.id,
            nodes: graph.nodes,
            tensors: graph.tensors.len(),
            runs: runs.get(&graph.id).copied().unwrap_or(0),
            ops: ops.len(),
        }
    };
    trace.file.graphs.iter().map(info).collect()
}

fn losses(trace: &Trace) -> Vec<LossInfo> {
    let info = |loss: &llmtrace_format::tables::Loss| LossInfo {
        event: EVENT_KINDS.get(loss.event as usize).copied().unwrap_or("unknown"),
        cpu: Some(loss.cpu).filter(|cpu| *cpu != NONE),
        count: loss.count,
        begin_s: loss.begin as f64 / 1e9,
        end_s: loss.end as f64 / 1e9,
    };
    trace.losses.iter().map(info).collect()
}

fn tables(trace: &Trace) -> Vec<TableInfo> {
    let mut tables: BTreeMap<u16, TableInfo> = BTreeMap::new();
    for block in &trace.file.blocks {
        let table = tables.entry(block.kind).or_insert_with(|| TableInfo {
            table: table_name(block.kind),
            blocks: 0,
            rows: 0,
            bytes: 0,
            bytes_per_row: None,
        });
        table.blocks += 1;
        table.rows += u64::from(block.rows);
        table.bytes = table.bytes.saturating_add(block.file_len());
    }
    for table in tables.values_mut() {
        table.bytes_per_row = (table.rows > 0).then(|| table.bytes as f64 / table.rows as f64);
    }
    tables.into_values().collect()
}

fn table_name(number: u16) -> String {
    let name = match number {
        kind::RECORDING => "recording",
        kind::STRINGS => "strings",
        kind::GRAPH => "graphs",
        kind::ENDING => "ending",
        Threads::KIND => Threads::NAME,
        Decodes::KIND => Decodes::NAME,
        Ubatches::KIND => Ubatches::NAME,
        GraphSpans::KIND => GraphSpans::NAME,
        OpSpans::KIND => OpSpans::NAME,
        Losses::KIND => Losses::NAME,
        LevelChanges::KIND => LevelChanges::NAME,
        Marks::KIND => Marks::NAME,
        Selections::KIND => Selections::NAME,
        Experts::KIND => Experts::NAME,
        unknown => match inference::table_name(unknown)
            .or(offload::table_name(unknown))
            .or(counters::table_name(unknown))
            .or(machine::table_name(unknown))
        {
            Some(name) => name,
            None => return format!("unknown ({unknown})"),
        },
    };
    name.to_owned()
}
