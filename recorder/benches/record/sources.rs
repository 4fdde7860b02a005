//! What the sources beside operators cost: slowdown with them, over that without, at level
//! `thread` both times, in turns on the same process.

use crate::decode::Ours;
use crate::run::Options;
use crate::statistics::median;
use crate::table::Row;
use crate::target::Target;
use anyhow::Result;

const ALL_GOAL_PERCENT: f64 = 1.0;
const MOE_GOAL_PERCENT: f64 = 2.0;

/// Everything but operators left out.
const NONE: &[&str] = &["--without", "sequences,kv,calls", "--no-offload", "--moe=off"];

/// One source, and what leaves all others out.
const ALONE: [(&str, &[&str]); 5] = [
    ("sequences", &["--without", "kv,calls", "--no-offload", "--moe=off"]),
    ("KV operations", &["--without", "sequences,calls", "--no-offload", "--moe=off"]),
    ("calls", &["--without", "sequences,kv", "--no-offload", "--moe=off"]),
    ("`--tokens`", &["--tokens", "--without", "sequences,kv,calls", "--no-offload", "--moe=off"]),
    ("offloading", &["--without", "sequences,kv,calls", "--moe=off"]),
];

/// Each of `variants` over [`NONE`].
fn over_none(
    options: &Options,
    target: &Target,
    variants: &[(&str, &[&str], Option<f64>)],
) -> Result<Vec<Row>> {
    let mut none = Ours::default();
    let mut each: Vec<Ours> = variants.iter().map(|_| Ours::default()).collect();
    for round in 0..options.pairs {
        none.add(target, round, NONE)?;
        for ((_, arguments, _), ours) in variants.iter().zip(&mut each) {
            ours.add(target, round, arguments)?;
        }
    }
    let row = |((name, _, goal), ours): (&(&str, &[&str], Option<f64>), &Ours)| {
        let pairs = ours.slowdowns.wall.iter().zip(&none.slowdowns.wall);
        let more = median(&pairs.map(|(with, without)| with - without).collect::<Vec<f64>>());
        let figure = format!("decode slowdown, {name} over none");
        let row = match goal {
            Some(goal) => Row::at_most(figure, *goal, more, 2, "%"),
            None => Row::plain(figure, more.text(2, "%")),
        };
        row.remark(format!("with: {}; none: {}", ours.remark(), none.remark()))
    };
    Ok(variants.iter().zip(&each).map(row).collect())
}

/// All of them together.
pub(crate) fn measure(options: &Options) -> Result<Vec<Row>> {
    over_none(options, &Target::gemma(options.threads)?, &[("all sources", &[], Some(ALL_GOAL_PERCENT))])
}

/// Each by itself: what takes as long as all others together.
pub(crate) fn measure_alone(options: &Options) -> Result<Vec<Row>> {
    let variants = ALONE.map(|(name, arguments)| (name, arguments, None));
    over_none(options, &Target::gemma(options.threads)?, &variants)
}

/// Experts, on a mixture of them.
pub(crate) fn measure_moe(options: &Options) -> Result<Vec<Row>> {
    let rest = ["--without", "sequences,kv,calls", "--no-offload"];
    let weights: Vec<&str> = rest.iter().copied().chain(["--moe-weights"]).collect();
    let variants: [(&str, &[&str], Option<f64>); 2] = [
        ("experts alone, on a mixture,", &rest, Some(MOE_GOAL_PERCENT)),
        ("experts with weights, on a mixture,", &weights, None),
    ];
    over_none(options, &Target::moe(options.threads)?, &variants)
}
