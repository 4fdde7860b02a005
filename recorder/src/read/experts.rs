//! `llmtrace experts`: which experts of a mixture were chosen, layer by layer.

use super::text::{Columns, bytes, clean, count, duration, known, percent, plural, three};
use super::{Input, open, print_json, warn_of_new};
use anyhow::{Result, anyhow};
use llmtrace_analysis::experts::{DISTANCES, Experts, Layer, Query, experts, has_experts};
use llmtrace_analysis::{Phase, Trace};
use std::io::Write;

/// Arguments of `experts`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// Only micro-batches of this phase
    #[arg(long, value_parser = super::stats::phase_parser())]
    phase: Option<Phase>,
    /// One layer's experts, one a row, and the pairs most often chosen together
    #[arg(long, value_name = "N")]
    layer: Option<u32>,
}

/// Prints the experts of a trace.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let trace = open(&args.input.file)?;
    if !has_experts(&trace) {
        let how = trace.file.recording.as_ref().map_or("", |recording| recording.experts.as_str());
        let why = match how {
            "" => "recorded before experts were",
            "where their weights are gathered" | "at each node" => "no MUL_MAT_ID was computed",
            why => why,
        };
        writeln!(out, "no experts: {}", clean(why))?;
        return Ok(());
    }
    trace.load_nodes(&|_| true)?;
    let query = Query { range: None, phase: args.phase };
    let mut found = experts(&trace, &query, &|| true).ok_or_else(|| anyhow!("cancelled"))?;
    warn_of_new(&trace, &args.input.file);
    if let Some(wanted) = args.layer {
        found.layers.retain(|layer| layer.layer == Some(wanted));
        if found.layers.is_empty() {
            writeln!(out, "layer {wanted} has no experts")?;
            return Ok(());
        }
    }
    if args.input.json {
        return print_json(&found, out);
    }
    match args.layer {
        Some(_) => found.layers.iter().try_for_each(|layer| print_layer(layer, out))?,
        None => print(&trace, &found, out)?,
    }
    Ok(())
}

fn print(trace: &Trace, found: &Experts, out: &mut dyn Write) -> std::io::Result<()> {
    let headings = [
        "layer",
        "experts",
        "used",
        "tokens",
        "unused",
        "variation",
        "top share",
        "bytes read",
        "time",
        "reuse after",
    ];
    let mut columns = Columns::new(&headings, 1);
    for layer in &found.layers {
        // Of a layer of which no token is known, nothing is.
        let told = |text: String| if layer.tokens > 0 { text } else { "–".to_owned() };
        let unused = layer.counts.iter().filter(|&&count| count == 0).count();
        let read = layer.reads.iter().fold(0u64, |sum, &reads| sum.saturating_add(reads));
        columns.row([
            clean(&layer.name()),
            layer.experts.to_string(),
            layer.used.to_string(),
            count(layer.tokens),
            told(count(unused as u64)),
            told(format!("{:.2}", layer.variation)),
            told(percent(layer.top_share)),
            told(bytes(read.saturating_mul(layer.expert_bytes))),
            known(layer.compute_nanos, |nanos| duration(nanos as f64)),
            known(layer.median_distance(), distance),
        ]);
    }
    columns.print(out)?;
    let all = found.whole + found.partial + found.lost + found.unknown;
    write!(out, "\n{}", plural(all, "selection", "selections"))?;
    for (number, name) in [(found.partial, "partial"), (found.lost, "lost"), (found.unknown, "unknown")] {
        if number > 0 {
            write!(out, ", {} {name}", count(number))?;
        }
    }
    let how = trace.file.recording.as_ref().map_or("", |recording| recording.experts.as_str());
    writeln!(out, "; {}", clean(how))?;
    writeln!(
        out,
        "variation: deviation of an expert's tokens over their mean; top share: tokens of the most used \
         experts, as many as a token has; reuse: micro-batches until an expert is used again, median"
    )
}

fn distance(distance: usize) -> String {
    if distance >= DISTANCES { format!("{DISTANCES} or more") } else { distance.to_string() }
}

fn print_layer(layer: &Layer, out: &mut dyn Write) -> std::io::Result<()> {
    let mut columns = Columns::new(&["expert", "tokens", "share", "reads", "bytes read", "time"], 1);
    let mut order: Vec<usize> = (0..layer.counts.len()).collect();
    order.sort_by_key(|&expert| std::cmp::Reverse(layer.counts.get(expert).copied()));
    for expert in order {
        columns.row([
            expert.to_string(),
            count(layer.counts.get(expert).copied().unwrap_or(0)),
            percent(layer.share(expert)),
            count(layer.reads.get(expert).copied().unwrap_or(0)),
            bytes(layer.bytes(expert)),
            known(layer.nanos(expert), duration),
        ]);
    }
    columns.print(out)?;
    if !layer.pairs.is_empty() {
        writeln!(out, "\nmost often chosen together")?;
        let mut columns = Columns::new(&["experts", "tokens", "of all"], 1);
        for &(low, high, tokens) in &layer.pairs {
            let share = tokens as f64 / layer.tokens.max(1) as f64;
            columns.row([format!("{low} and {high}"), count(tokens), percent(share)]);
        }
        columns.print(out)?;
    }
    let variation = three(layer.variation);
    writeln!(out, "\nvariation {variation}; time is that of the layer by share of tokens")
}
