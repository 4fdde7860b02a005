//! `llmtrace explain`: what limits the run, and what to try.

use super::text::{Columns, clean, count, duration, heading, known, percent, plural, three};
use super::{Input, open, print_json, requests, warn_of_new};
use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use llmtrace_analysis::explain::{Explanation, PhaseAnswer, explain};
use llmtrace_analysis::findings::Finding;
use llmtrace_analysis::format::meta::Ceilings;
use llmtrace_analysis::roofline::{Of, Row, rows};
use llmtrace_analysis::traffic;
use llmtrace_analysis::verdict::Verdict;
use serde::Serialize;
use std::io::Write;

/// Arguments of `explain`.
const MEMORY: &str = "`record --counters LLC-load-misses`, where the CPU's counters can be read";

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// What a row of the roofline stands for; `sequence` shows requests in its place
    #[arg(long, default_value = "op", value_parser = by_parser())]
    by: By,
    /// Most rows of the roofline to print; 0 prints all [default: 12 for text, all for JSON]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// What the last table is of.
#[derive(Clone, Copy, Debug)]
enum By {
    Roofline(Of),
    Sequence,
}

fn by_parser() -> impl TypedValueParser<Value = By> {
    let names = PossibleValuesParser::new(Of::ALL.map(Of::name).into_iter().chain(["sequence"]));
    names.map(|name| Of::ALL.into_iter().find(|of| of.name() == name).map_or(By::Sequence, By::Roofline))
}

#[derive(Serialize)]
struct Json<'a> {
    verdict: &'a Verdict,
    phases: &'a [PhaseAnswer],
    findings: &'a [Finding],
    requests: Option<requests::Json<'a>>,
    ceilings: Option<&'a Ceilings>,
    roofline_by: Of,
    roofline: &'a [Row],
}

/// Prints the answers about a trace.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let trace = open(&args.input.file)?;
    let found = explain(&trace, &|_| true)?;
    warn_of_new(&trace, &args.input.file);
    let by = match args.by {
        By::Roofline(of) => of,
        By::Sequence => Of::Op,
    };
    let mut points = rows(&found.profile, &found.roofs, by, None);
    let all = points.len();
    let limit = args.limit.unwrap_or(if args.input.json { 0 } else { 12 });
    if limit > 0 {
        points.truncate(limit);
    }
    if args.input.json {
        let ceilings = trace.file.recording.as_ref().and_then(|recording| recording.ceilings.as_ref());
        let json = Json {
            verdict: &found.run,
            phases: &found.phases,
            findings: &found.findings,
            requests: found.requests.as_ref().map(|shares| requests::json(&trace, shares)),
            ceilings,
            roofline_by: by,
            roofline: &points,
        };
        return print_json(&json, out);
    }
    print_verdict("run", &found.run, out)?;
    for answer in &found.phases {
        print_verdict(answer.phase.name(), &answer.verdict, out)?;
    }
    for missing in &found.run.missing {
        writeln!(out, "not known: {missing}")?;
    }
    print_parts(&found, out)?;
    print_findings(&found.findings, out)?;
    if matches!(args.by, By::Sequence) {
        return requests::print(&trace, found.requests.as_ref(), limit, out);
    }
    print_roofline(&found, &points, by, out)?;
    if points.len() < all {
        writeln!(out, "{} of {all}; --limit 0 shows all", points.len())?;
    }
    if all > 0 && traffic::counter(&trace).is_none() {
        writeln!(
            out,
            "bytes are those that operators need; what came from memory was not counted: {MEMORY}"
        )?;
    }
    Ok(())
}

fn print_verdict(of: &str, verdict: &Verdict, out: &mut dyn Write) -> std::io::Result<()> {
    let (bound, confidence) = (verdict.bound.name(), verdict.confidence.name());
    writeln!(out, "{of:<8} {bound}, confidence {confidence}: {}", verdict.evidence.join(", "))
}

/// Where the time of a call went, by phase.
fn print_parts(found: &Explanation, out: &mut dyn Write) -> std::io::Result<()> {
    heading("where the time of a call goes, on average", out)?;
    let names: Vec<String> = found
        .phases
        .iter()
        .flat_map(|answer| [format!("{} × {}", count(answer.calls), answer.phase.name()), "share".to_owned()])
        .collect();
    let mut headings = vec!["part"];
    headings.extend(names.iter().map(String::as_str));
    let mut columns = Columns::new(&headings, 1);
    let parts: Vec<_> = found.phases.iter().map(|answer| answer.parts.named()).collect();
    let rows = parts.first().map_or(0, |named| named.len());
    for row in 0..rows {
        let mut cells = Vec::new();
        for (answer, named) in found.phases.iter().zip(&parts) {
            let Some((name, nanos)) = named.get(row) else { continue };
            if cells.is_empty() {
                cells.push((*name).to_owned());
            }
            cells.push(known(*nanos, |nanos| duration(nanos as f64 / answer.calls as f64)));
            cells.push(known(*nanos, |nanos| percent(nanos as f64 / answer.parts.wall().max(1) as f64)));
        }
        columns.row(cells);
    }
    let mut cells = vec!["sum".to_owned()];
    for answer in &found.phases {
        cells.push(duration(answer.parts.wall() as f64 / answer.calls as f64));
        cells.push(percent(1.0));
    }
    columns.row(cells);
    if found.phases.iter().any(|answer| answer.preempted.is_some()) {
        let mut cells = vec!["of it without a CPU".to_owned()];
        for answer in &found.phases {
            let lost = answer.preempted.map(|lost| lost.nanos() as f64);
            cells.push(known(lost, |nanos| duration(nanos / answer.calls as f64)));
            cells.push(known(lost, |nanos| percent(nanos / answer.parts.wall().max(1) as f64)));
        }
        columns.row(cells);
    }
    columns.print(out)
}

fn print_findings(findings: &[Finding], out: &mut dyn Write) -> std::io::Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    heading("findings about generating, the dearest first", out)?;
    for finding in findings {
        match finding.ms_per_token.zip(finding.share) {
            Some((ms, share)) => write!(out, "{} a token, {}: ", duration(ms * 1e6), percent(share))?,
            None => write!(out, "no cost by itself: ")?,
        }
        writeln!(out, "{}", clean(&finding.title))?;
        for evidence in &finding.evidence {
            writeln!(out, "    {}", clean(evidence))?;
        }
        writeln!(out, "    try: {}", finding.advice)?;
    }
    Ok(())
}

fn print_roofline(found: &Explanation, points: &[Row], by: Of, out: &mut dyn Write) -> std::io::Result<()> {
    let roofs = &found.roofs;
    let giga = |rate: f64| three(rate / 1e9);
    heading(
        format!(
            "roofline with {}: reads {} GB/s, computes {} Gop/s of f32, {} of int8",
            plural(found.profile.threads.into(), "thread", "threads"),
            known(roofs.bytes, giga),
            known(roofs.f32_ops, giga),
            known(roofs.int8_ops, giga),
        ),
        out,
    )?;
    let mut headings = vec!["phase", by.name(), "wall", "each", "op/byte", "Gop/s", "GB/s"];
    let counted = points.iter().any(|row| row.group.traffic.is_some());
    headings.extend(counted.then_some("from memory"));
    headings.extend(["of roof", "limit", "confidence"]);
    let mut columns = Columns::new(&headings, 2);
    for row in points {
        let group = &row.group;
        let rate = |rate: f64| format!("{}{}", if group.at_most { "≤" } else { "" }, giga(rate));
        let mut cells = vec![
            row.phase.name().to_owned(),
            clean(&row.key),
            duration(group.wall_nanos as f64),
            duration(group.mean_nanos()),
            known(group.intensity(), three),
            known(group.flops_per_second(), rate),
            known(group.bytes_per_second(), rate),
        ];
        let ratio = group.traffic.and_then(|traffic| traffic.ratio());
        cells.extend(counted.then(|| known(ratio, |ratio| format!("{ratio:.2} ×"))));
        cells.extend([
            known(group.roof_share(), percent),
            row.verdict.bound.name().to_owned(),
            row.verdict.confidence.name().to_owned(),
        ]);
        columns.row(cells);
    }
    columns.print(out)
}
