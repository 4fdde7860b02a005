//! `llmtrace doctor`: can this host record, and what would it get from a target?

use super::checks::{Check, Status, host_checks};
use super::counters::Counters;
use super::kernel::{Kernel, Room, Wanted};
use super::machine::Machine;
use super::memory::ProcessMemory;
use super::objects::Objects;
use super::plan::{self, Point, Program};
use super::target::Target;
use super::{calibrate, privileges};
use crate::binary::{BinaryError, FileImage, Learned, Located, Object, learn};
use crate::read::clean;
use anyhow::{Context as _, Result};
use llmtrace_format::meta::{Level, ProbeCost};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// What `doctor` looks at.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) pid: Option<u32>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) json: bool,
}

/// Everything found; `docs/cli.md` defines the fields.
#[derive(Debug, Serialize)]
struct Report {
    can_record: bool,
    host: Vec<Check>,
    probe_costs: Vec<Cost>,
    targets: Vec<TargetReport>,
}

#[derive(Debug, Serialize)]
struct Cost {
    purpose: String,
    nanos: u64,
}

/// What one process, or the files given, would give.
#[derive(Debug, Serialize)]
struct TargetReport {
    name: String,
    /// Why some of its files could not be looked into; empty when all could.
    refused: String,
    objects: Vec<ObjectReport>,
    points: Vec<PointReport>,
    learned: Option<LearnedReport>,
    /// Why the target's tables cannot be read; empty when they can.
    learn_error: String,
    levels: Vec<LevelReport>,
}

#[derive(Debug, Serialize)]
struct ObjectReport {
    name: String,
    build_id: String,
    stripped: bool,
}

#[derive(Debug, Serialize)]
struct PointReport {
    purpose: &'static str,
    symbol: String,
    object: String,
    offset: u32,
    file_offset: u64,
    instruction: String,
    emulated: bool,
    /// Expected price of a hit; `null` when it was not measured here.
    nanos: Option<u64>,
}

#[derive(Debug, Serialize)]
struct LearnedReport {
    ops: usize,
    types: usize,
    ggml_version: Option<String>,
    llama_version: Option<String>,
    /// Accessors that were not understood, so that a known layout was assumed.
    /// Offsets in a backend; `null` when they are not told.
    backend_interface: Option<InterfaceReport>,
    assumed: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct InterfaceReport {
    get_name: u32,
    synchronize: u32,
    graph_compute: u32,
}

#[derive(Debug, Serialize)]
struct LevelReport {
    level: Level,
    available: bool,
    /// Why not; empty when it is.
    reason: String,
    records: &'static str,
    /// Expected price for each call, its micro-batches and graphs; `null` when not measured.
    nanos_per_call: Option<u64>,
    /// Expected price for each node and thread; `null` when not measured.
    nanos_per_node: Option<u64>,
    /// The same until the order of a graph's nodes is known.
    nanos_per_node_at_first: Option<u64>,
}

/// Looks, and prints. The exit code is 0 when the host can record and every
/// target gives operators, else 1.
///
/// # Errors
/// When a process or a file cannot be read, or the output cannot be written.
pub(crate) fn run(question: &Question) -> Result<i32> {
    let checks = host_checks();
    let can_record = checks.iter().all(|check| check.status != Status::Problem);
    let costs = if can_record { measured() } else { Vec::new() };
    let mut targets = Vec::new();
    if let Some(pid) = question.pid {
        targets.push(process(pid, &costs)?);
    }
    if !question.files.is_empty() {
        targets.push(files(&question.files, &costs)?);
    }
    let well =
        can_record && targets.iter().all(|t| t.levels.iter().any(|l| l.level == Level::Op && l.available));
    let probe_costs =
        costs.into_iter().map(|cost| Cost { purpose: cost.purpose, nanos: cost.nanos }).collect();
    let report = Report { can_record, host: checks, probe_costs, targets };
    let mut out = std::io::stdout().lock();
    if question.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&report, &mut out)?;
    }
    Ok(i32::from(!well))
}

fn measured() -> Vec<ProbeCost> {
    let measure = || {
        let wanted = Wanted { machine: Machine { sched: true, faults: true }, ..Wanted::default() };
        let mut kernel = Kernel::load(Room::default(), wanted, &Counters::default())?;
        let mut ring = kernel.rings()?;
        let mut costs = calibrate::run(&mut kernel, &mut ring)?;
        costs.extend(calibrate::run_around(&mut kernel, &mut ring)?);
        costs.extend(calibrate::run_machine(&mut kernel, &mut ring)?);
        Ok(costs)
    };
    measure().unwrap_or_else(|error: anyhow::Error| {
        log::warn!("the price of a probe is not known: {error:#}");
        Vec::new()
    })
}

fn process(pid: u32, costs: &[ProbeCost]) -> Result<TargetReport> {
    let target = Target::running(pid)?;
    let mut objects = Objects::new(target.pid);
    objects.scan().with_context(|| format!("cannot look into process {pid}"))?;
    let refused = privileges::refusal(&objects.refused).unwrap_or_default();
    let learned = objects.learn(&ProcessMemory::new(target.pid));
    let found: Vec<(String, &Object)> =
        objects.loaded.iter().map(|loaded| (loaded.mapping.base_name(), &loaded.object)).collect();
    let name = format!("process {} ({})", target.pid, target.exe_name());
    Ok(TargetReport { refused, ..target_report(name, &found, learned, costs) })
}

fn files(paths: &[PathBuf], costs: &[ProbeCost]) -> Result<TargetReport> {
    let mut objects = Vec::new();
    for path in paths {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let object =
            Object::open(file, &plan::keep).with_context(|| format!("cannot use {}", path.display()))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        objects.push((name, object));
    }
    let with_tables = objects.iter().find(|(_, object)| object.symbol("ggml_op_name").is_some());
    let learned =
        with_tables.map_or(Err(BinaryError::MissingFunction { name: "ggml_op_name" }), |(_, object)| {
            let find = |name: &str| {
                let symbol = object.symbol(name)?;
                Some(Located { code: object.code(symbol)?, vaddr_runtime: symbol.vaddr })
            };
            learn(&find, &FileImage::new(object))
        });
    let names: Vec<&str> = objects.iter().map(|(name, _)| name.as_str()).collect();
    let found: Vec<(String, &Object)> = objects.iter().map(|(name, object)| (name.clone(), object)).collect();
    Ok(target_report(names.join(", "), &found, learned, costs))
}

fn target_report(
    name: String,
    objects: &[(String, &Object)],
    learned: Result<Learned, BinaryError>,
    costs: &[ProbeCost],
) -> TargetReport {
    let price = |point: &Point| {
        let purpose = if point.site.emulated { point.program.purpose() } else { "empty, single-stepped" };
        let price = |purpose: &str| costs.iter().find(|cost| cost.purpose == purpose).map(|cost| cost.nanos);
        price(purpose).or_else(|| price("decode begin"))
    };
    let mut all = Vec::new();
    let mut points = Vec::new();
    for (object, parsed) in objects {
        for point in plan::points(parsed, Level::Thread, plan::Sources::DEFAULT) {
            points.push(PointReport {
                purpose: point.program.purpose(),
                symbol: point.symbol.clone(),
                object: object.clone(),
                offset: point.site.offset_in_function,
                file_offset: point.file_offset,
                instruction: point.site.instruction.clone(),
                emulated: point.site.emulated,
                nanos: price(&point),
            });
            all.push(point);
        }
    }
    let (learn_error, learned) = match learned {
        Ok(learned) => (String::new(), Some(learned)),
        Err(error) => (error.to_string(), None),
    };
    let price_of = |program| all.iter().filter(|point| point.program == program).filter_map(price).max();
    let levels = [Level::Token, Level::Graph, Level::Op, Level::Thread]
        .map(|level| level_report(level, &all, &learn_error, &price_of));
    let objects = objects.iter().map(|(name, object)| ObjectReport {
        name: name.clone(),
        build_id: object.build_id().unwrap_or_default().to_owned(),
        stripped: object.stripped(),
    });
    TargetReport {
        name,
        refused: String::new(),
        objects: objects.collect(),
        points,
        learned: learned.map(|learned| LearnedReport {
            ops: learned.ops.len(),
            types: learned.types.iter().filter(|known| !known.name.is_empty()).count(),
            ggml_version: learned.ggml_version,
            llama_version: learned.llama_version,
            backend_interface: learned.backend.map(|backend| InterfaceReport {
                get_name: backend.get_name,
                synchronize: backend.synchronize,
                graph_compute: backend.graph_compute,
            }),
            assumed: learned.assumed,
        }),
        learn_error,
        levels: levels.into(),
    }
}

fn level_report(
    level: Level,
    points: &[Point],
    learn_error: &str,
    price_of: &dyn Fn(Program) -> Option<u64>,
) -> LevelReport {
    let (given, mut reason) = plan::level_given(level, points);
    let mut available = given == level && !points.is_empty();
    if points.is_empty() {
        reason = format!("none of {} is there", plan::LOOKED_FOR);
    } else if available && level >= Level::Op && !learn_error.is_empty() {
        available = false;
        reason = learn_error.to_owned();
    }
    let of_calls =
        [Program::DecodeBegin, Program::DecodeEnd, Program::UbatchBegin, Program::UbatchEnd].as_slice();
    let of_graphs = [Program::GraphBegin, Program::GraphEnd].as_slice();
    let call = if level >= Level::Graph { [of_calls, of_graphs].concat() } else { of_calls.to_vec() };
    let measured = call.iter().any(|program| price_of(*program).is_some());
    let per_call = measured.then(|| call.iter().filter_map(|program| price_of(*program)).sum());
    let (op, barrier) = (price_of(Program::OpBegin), price_of(Program::Barrier));
    let (records, per_node, at_first) = match level {
        Level::Token => ("decode calls and ubatches", Some(0), Some(0)),
        Level::Graph => ("and graph computations", Some(0), Some(0)),
        Level::Op => ("and every node on every thread", op, op),
        Level::Thread => {
            let both = op.zip(barrier).map(|(op, barrier)| op + barrier);
            // Barriers inside operators do not tell nodes apart.
            let counted = points.iter().any(|point| point.symbol == plan::IN_LOOP);
            ("and waiting at barriers", if counted { barrier } else { both }, both)
        }
    };
    LevelReport {
        level,
        available,
        reason,
        records,
        nanos_per_call: per_call.filter(|_| available),
        nanos_per_node: per_node.filter(|_| available),
        nanos_per_node_at_first: at_first.filter(|_| available),
    }
}

/// What a level records and costs, or why it cannot be had.
fn verdict(level: &LevelReport) -> String {
    if !level.available {
        return format!("not to be had: {}", level.reason);
    }
    let micros = |nanos: u64| format!("{:.1} µs", nanos as f64 / 1e3);
    let mut text = level.records.to_owned();
    if let Some(nanos) = level.nanos_per_call {
        text += &format!("; about {} a call", micros(nanos));
    }
    if let Some(nanos) = level.nanos_per_node.filter(|nanos| *nanos > 0) {
        text += &format!(" and {} a node and thread", micros(nanos));
        if let Some(first) = level.nanos_per_node_at_first.filter(|first| *first > nanos) {
            text += &format!(" ({} until the order of nodes is known)", micros(first));
        }
        let token = nanos * 1000 + level.nanos_per_call.unwrap_or(0);
        text += &format!(": {:.1} ms a token of 1,000 nodes", token as f64 / 1e6);
    }
    text
}

fn print(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "this host {}", if report.can_record { "can record" } else { "cannot record" })?;
    for Check { name, status, found, advice } in &report.host {
        let mark = match status {
            Status::Ok => "ok     ",
            Status::Limited => "limited",
            Status::Problem => "PROBLEM",
        };
        let advice = if advice.is_empty() { String::new() } else { format!(": {advice}") };
        writeln!(out, "  {mark}  {name}: {found}{advice}")?;
    }
    if !report.probe_costs.is_empty() {
        let costs: Vec<String> =
            report.probe_costs.iter().map(|cost| format!("{} {} ns", cost.purpose, cost.nanos)).collect();
        writeln!(out, "  a hit costs here: {}", costs.join(", "))?;
    }
    for target in &report.targets {
        print_target(target, out)?;
    }
    Ok(())
}

fn print_target(target: &TargetReport, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "\n{}", clean(&target.name))?;
    if !target.refused.is_empty() {
        writeln!(out, "  PROBLEM  {}", clean(&target.refused))?;
    }
    for object in &target.objects {
        let stripped = if object.stripped { ", stripped" } else { "" };
        writeln!(out, "  object  {}, build id {}{stripped}", clean(&object.name), object.build_id)?;
    }
    match &target.learned {
        Some(learned) => {
            let versions = [("ggml", &learned.ggml_version), ("llama", &learned.llama_version)];
            let versions =
                versions.iter().filter_map(|(name, version)| Some(format!(", {name} {}", version.as_ref()?)));
            let versions: String = versions.collect();
            writeln!(out, "  tables  {} operators, {} types{versions}", learned.ops, learned.types)?;
            if let Some(backend) = &learned.backend_interface {
                let InterfaceReport { get_name, synchronize, graph_compute } = backend;
                writeln!(
                    out,
                    "  backend get_name at {get_name}, synchronize at {synchronize}, graph_compute at {graph_compute}"
                )?;
            }
            if !learned.assumed.is_empty() {
                writeln!(out, "          assumed the known layout for: {}", learned.assumed.join(", "))?;
            }
        }
        None => writeln!(out, "  tables  not readable: {}", target.learn_error)?,
    }
    for point in &target.points {
        let how = if point.emulated { "emulated" } else { "single-stepped" };
        let price = point.nanos.map_or_else(String::new, |nanos| format!(", about {nanos} ns"));
        let PointReport { purpose, symbol, offset, instruction, object, .. } = point;
        let (symbol, object) = (clean(symbol), clean(object));
        writeln!(out, "  {purpose:<15} {symbol}+{offset} in {object}: `{instruction}`, {how}{price}")?;
    }
    for level in &target.levels {
        writeln!(out, "  level {:<7} {}", level.level.name(), verdict(level))?;
    }
    Ok(())
}
