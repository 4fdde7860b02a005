//! Experts against slow, obvious code: on generated traces and on the sample.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use llmtrace_analysis::experts::{
    Balance, Cell, DISTANCES, Experts, Layer, PAIRS, PARTS, Query, chosen, experts, strip, strip_rows,
};
use llmtrace_analysis::format::constants::NONE;
use llmtrace_analysis::format::meta::{Ending, Graph, Recording, Tensor};
use llmtrace_analysis::format::tables::{
    Expert, Experts as ExpertRows, GraphSpan, Selection, SelectionStatus, Selections, Ubatch,
};
use llmtrace_analysis::format::{Header, Source, Writer};
use llmtrace_analysis::{Phase, TimeRange, Trace};
use std::collections::{BTreeMap, BTreeSet};

/// A selection as the rows have it.
struct Known {
    layer: u32,
    row: Selection,
    phase: u8,
    span: TimeRange,
    /// Tokens in the file, and their experts.
    tokens: Vec<(u32, Vec<u32>)>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

fn open(bytes: Vec<u8>) -> Trace {
    let trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
    assert_eq!(trace.warnings, []);
    trace
}

/// `layers` layers of a mixture, with prefills and decodes, lost, partial and unknown selections.
fn generated(seed: u64, layers: u32, all: u32, used: u32) -> Trace {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut writer = Writer::new(Vec::new(), Header::new(0, 0)).unwrap();
    writer.write_recording(&Recording::default()).unwrap();
    let (op, none) = (writer.string("MUL_MAT_ID"), writer.string("NONE"));
    // Nodes, then the weights and the selection of each.
    let mut tensors: Vec<Tensor> = Vec::new();
    for layer in 0..layers {
        let name = writer.string(&format!("ffn_moe_up-{layer}"));
        let sources = vec![layers + 2 * layer, layers + 2 * layer, layers + 2 * layer + 1];
        tensors.push(Tensor { name, op, sources, ..Tensor::default() });
    }
    for layer in 0..layers {
        let name = writer.string(&format!("blk.{layer}.ffn_up_exps.weight"));
        let ne = [4, 4, i64::from(all), 1];
        tensors.push(Tensor { name, op: none, ne, nb: [1, 4, 100, 0], ..Tensor::default() });
        tensors.push(Tensor { op: none, ..Tensor::default() });
    }
    writer.write_graph(&Graph { id: 0, tensors, nodes: layers }).unwrap();
    let (mut time, mut id) = (1000, 0);
    for ubatch in 0..40 {
        let prefill = random.below(6) == 0;
        let tokens = if prefill { 1 + random.below(30) as u32 } else { 1 };
        let begin = time + random.below(300);
        let mut now = begin;
        for layer in 0..layers {
            now += 1 + random.below(40);
            let status = match random.below(12) {
                0 => SelectionStatus::Lost,
                1 => SelectionStatus::Unknown,
                2 => SelectionStatus::Partial,
                _ => SelectionStatus::Whole,
            };
            let there: Vec<u32> = match status {
                SelectionStatus::Whole => (0..tokens).collect(),
                SelectionStatus::Partial => (0..tokens).filter(|_| random.below(2) == 0).collect(),
                _ => Vec::new(),
            };
            writer.push_selection(Selection {
                id,
                time: now,
                graph_span: ubatch,
                node: layer,
                tokens,
                used,
                recorded: there.len() as u32,
                status: status as u8,
                split: NONE,
            });
            for token in there {
                let mut experts = BTreeSet::new();
                while experts.len() < used as usize {
                    // Some are chosen far more often than others.
                    let limit = 1 + random.below(all.into());
                    experts.insert(random.below(limit) as u32);
                }
                let mut experts: Vec<u32> = experts.into_iter().collect();
                experts.rotate_left(random.below(used.into()) as usize);
                for expert in experts {
                    let row = Expert { selection: id, token, expert, weight: NONE };
                    writer.push_expert(now, row).unwrap();
                }
            }
            id += 1;
        }
        time = now + 1 + random.below(60);
        let phase = if prefill { Phase::Prefill } else { Phase::Decode } as u8;
        let row = GraphSpan { id: ubatch, begin, end: time, ubatch, ..GraphSpan::default() };
        writer.push_graph_span(row);
        writer.push_ubatch(Ubatch {
            id: ubatch,
            begin,
            end: time,
            decode: NONE,
            tokens,
            sequences: 1,
            phase,
        });
        if random.below(5) == 0 {
            writer.flush().unwrap();
        }
    }
    open(writer.finish(&Ending::default()).unwrap())
}

fn sample() -> Trace {
    let path = format!("{}/../sample-traces/qwen3moe-synthetic-2t.llmtrace", env!("CARGO_MANIFEST_DIR"));
    open(std::fs::read(path).unwrap())
}

/// All rows, joined the slow way.
fn known(trace: &Trace) -> Vec<Known> {
    let mut rows = Vec::new();
    trace.file.read_all::<Selections>(|_, table| rows.extend(table.rows()), &mut Vec::new());
    let mut experts = Vec::new();
    trace.file.read_all::<ExpertRows>(|_, table| experts.extend(table.rows()), &mut Vec::new());
    let join = |row: &Selection| {
        let span = trace.graph_spans.iter().find(|span| span.id == row.graph_span).unwrap();
        let phase = trace.ubatches.iter().find(|ubatch| ubatch.id == span.ubatch).unwrap().phase;
        let graph = trace.graph(span.graph).unwrap();
        let weights = &graph.tensors[graph.tensors[row.node as usize].sources[0] as usize];
        let name = trace.file.string(weights.name);
        let layer = name.split('.').nth(1).unwrap().parse().unwrap();
        let mut tokens: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for expert in experts.iter().filter(|expert| expert.selection == row.id) {
            tokens.entry(expert.token).or_default().push(expert.expert);
        }
        let (span, tokens) = (TimeRange::new(span.begin, span.end), tokens.into_iter().collect());
        Known { layer, row: *row, phase, span, tokens }
    };
    rows.iter().map(join).collect()
}

/// Standard deviation over mean, and share of the `k` largest.
fn balance(counts: &[u64], k: usize) -> (f64, f64) {
    let sum: u64 = counts.iter().sum();
    if sum == 0 {
        return (0.0, 0.0);
    }
    let mean = sum as f64 / counts.len() as f64;
    let variance = counts.iter().map(|&count| (count as f64 - mean) * (count as f64 - mean)).sum::<f64>()
        / counts.len() as f64;
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    let top: u64 = sorted.iter().rev().take(k).sum();
    (variance.sqrt() / mean, top as f64 / sum as f64)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// Compares the answer to a query with what the rows say.
fn compare(trace: &Trace, all: &[Known], query: &Query) {
    let found = experts(trace, query, &|| true).unwrap();
    let wanted = |known: &&Known| {
        query.range.is_none_or(|range| range.contains(known.row.time))
            && query.phase.is_none_or(|phase| known.phase == phase as u8)
    };
    let all: Vec<&Known> = all.iter().filter(wanted).collect();
    let of =
        |status: SelectionStatus| all.iter().filter(|known| known.row.status == status as u8).count() as u64;
    let Experts { whole, partial, lost, unknown, .. } = found;
    let statuses =
        [SelectionStatus::Whole, SelectionStatus::Partial, SelectionStatus::Lost, SelectionStatus::Unknown];
    assert_eq!([whole, partial, lost, unknown], statuses.map(of));
    let numbers: BTreeSet<u32> = all.iter().map(|known| known.layer).collect();
    assert_eq!(found.layers.iter().filter_map(|layer| layer.layer).collect::<BTreeSet<_>>(), numbers);
    for layer in &found.layers {
        let of_it: Vec<&Known> =
            all.iter().copied().filter(|known| Some(known.layer) == layer.layer).collect();
        compare_layer(layer, &of_it);
    }
    compare_parts(trace, &found.over_time, &all, query, &found.layers);
}

fn compare_layer(layer: &Layer, all: &[&Known]) {
    let tokens: Vec<&Vec<u32>> = all.iter().flat_map(|known| known.tokens.iter().map(|(_, it)| it)).collect();
    assert_eq!(layer.tokens, tokens.len() as u64);
    assert_eq!(layer.selections, all.iter().filter(|known| !known.tokens.is_empty()).count() as u64);
    let mut by_time = all.to_vec();
    by_time.sort_by_key(|known| (known.row.time, known.row.id));
    let mut distances = vec![0; DISTANCES];
    let mut counts = Vec::new();
    for expert in 0..layer.experts {
        let at = expert as usize;
        counts.push(tokens.iter().filter(|token| token.contains(&expert)).count() as u64);
        assert_eq!(layer.counts[at], counts[at]);
        let uses: Vec<usize> = (0..by_time.len())
            .filter(|&place| by_time[place].tokens.iter().any(|(_, token)| token.contains(&expert)))
            .collect();
        assert_eq!(layer.reads[at], uses.len() as u64);
        for two in uses.windows(2) {
            distances[(two[1] - two[0]).min(DISTANCES) - 1] += 1;
        }
    }
    assert_eq!(layer.distances, distances);
    let (variation, top) = balance(&counts, layer.used as usize);
    assert!(near(layer.variation, variation) && near(layer.top_share, top), "{layer:?}");
    let mut pairs = Vec::new();
    for low in 0..layer.experts {
        for high in low + 1..layer.experts {
            let both = tokens.iter().filter(|token| token.contains(&low) && token.contains(&high)).count();
            if both > 0 {
                pairs.push((low, high, both as u64));
            }
        }
    }
    pairs.sort_by_key(|&(low, high, count)| (std::cmp::Reverse(count), low, high));
    pairs.truncate(PAIRS);
    assert_eq!(layer.pairs, pairs);
}

fn compare_parts(trace: &Trace, found: &[Balance], all: &[&Known], query: &Query, layers: &[Layer]) {
    let range = query.range.unwrap_or_else(|| trace.range());
    let length = range.nanos().div_ceil(PARTS).max(1);
    let mut expected = Vec::new();
    for part in 0..=PARTS {
        let begin = range.begin + part * length;
        let inside: Vec<&&Known> =
            all.iter().filter(|known| (begin..begin + length).contains(&known.row.time)).collect();
        let mut of_layers = Vec::new();
        for layer in layers {
            let tokens: Vec<&Vec<u32>> = inside
                .iter()
                .filter(|known| Some(known.layer) == layer.layer)
                .flat_map(|known| known.tokens.iter().map(|(_, it)| it))
                .collect();
            if !tokens.is_empty() {
                let count = |expert| tokens.iter().filter(|token| token.contains(&expert)).count() as u64;
                let counts: Vec<u64> = (0..layer.experts).map(count).collect();
                of_layers.push((tokens.len() as u64, balance(&counts, layer.used as usize)));
            }
        }
        if !of_layers.is_empty() {
            let n = of_layers.len() as f64;
            let tokens = of_layers.iter().map(|(tokens, _)| tokens).sum::<u64>();
            let variation = of_layers.iter().map(|(_, (variation, _))| variation).sum::<f64>() / n;
            let top = of_layers.iter().map(|(_, (_, top))| top).sum::<f64>() / n;
            expected.push((begin, tokens, variation, top));
        }
    }
    assert_eq!(found.len(), expected.len());
    for (found, (begin, tokens, variation, top)) in found.iter().zip(expected) {
        assert_eq!((found.begin_nanos, found.tokens), (begin, tokens));
        assert!(near(found.variation, variation) && near(found.top_share, top), "{found:?}");
    }
}

fn queries(trace: &Trace, random: &mut Random) -> Vec<Query> {
    let whole = trace.range();
    let mut queries = vec![Query::default()];
    for phase in [None, Some(Phase::Prefill), Some(Phase::Decode)] {
        queries.push(Query { phase, range: None });
        let begin = whole.begin + random.below(whole.nanos());
        let end = begin + 1 + random.below(whole.nanos());
        queries.push(Query { phase, range: Some(TimeRange::new(begin, end)) });
    }
    queries
}

#[test]
fn sums_of_generated_traces_are_those_of_their_rows() {
    for (seed, layers, all, used) in
        [(1, 1, 1, 1), (2, 3, 8, 2), (3, 5, 40, 6), (4, 2, 600, 4), (5, 4, 16, 16)]
    {
        let trace = generated(seed, layers, all, used);
        let known = known(&trace);
        assert_eq!(known.len() as u32, 40 * layers);
        for query in queries(&trace, &mut Random(seed)) {
            if all <= 512 {
                compare(&trace, &known, &query);
            } else {
                // Pairs are not counted there.
                let found = experts(&trace, &query, &|| true).unwrap();
                assert!(found.layers.iter().all(|layer| layer.pairs.is_empty()));
            }
        }
    }
}

#[test]
fn sums_of_the_sample_are_those_of_its_rows() {
    let trace = sample();
    let known = known(&trace);
    assert_eq!(known.len(), 584);
    for query in queries(&trace, &mut Random(7)) {
        compare(&trace, &known, &query);
    }
}

#[test]
fn tokens_chosen_in_a_range_are_all_there() {
    for trace in [generated(6, 4, 12, 3), sample()] {
        let known = known(&trace);
        for query in queries(&trace, &mut Random(9)) {
            let range = query.range.unwrap_or(TimeRange::new(0, u64::MAX));
            let found = chosen(&trace, range, usize::MAX);
            let inside = known.iter().filter(|known| range.contains(known.row.time));
            let mut expected: Vec<(u64, Option<u32>, u32, Vec<u32>)> = inside
                .flat_map(|known| {
                    let (time, layer) = (known.row.time, Some(known.layer));
                    known.tokens.iter().map(move |(token, experts)| (time, layer, *token, experts.clone()))
                })
                .collect();
            expected.sort();
            let mut found: Vec<_> =
                found.into_iter().map(|row| (row.time, row.layer, row.token, row.chosen)).collect();
            found.sort();
            assert_eq!(found, expected);
        }
    }
}

/// What a cell must show, by looking at every token.
fn cell(all: &[&Known], column: TimeRange, ranks: usize) -> (Option<SelectionStatus>, Option<Vec<u16>>) {
    let middle = column.begin + column.nanos() / 2;
    let part = |known: &Known, token: u32| {
        let at = |token: u32| {
            known.span.begin + known.span.nanos() * u64::from(token) / u64::from(known.row.tokens)
        };
        TimeRange::new(at(token), at(token + 1))
    };
    // Middles of columns are `column.nanos()` apart.
    let covers_a_middle = |time: TimeRange| {
        let nanos = column.nanos();
        let first_from = |at: u64| (at + 1_000_000 * nanos - middle).div_ceil(nanos);
        first_from(time.begin) < first_from(time.end)
    };
    let (mut over, mut counts, mut order) = (None, BTreeMap::new(), Vec::new());
    let (mut missing, mut begun) = (None, None);
    for known in all {
        let status = match SelectionStatus::from_u8(known.row.status) {
            SelectionStatus::Whole => SelectionStatus::Unknown,
            status => status,
        };
        if known.span.contains(middle) {
            missing = Some(status);
        } else if !covers_a_middle(known.span) && column.contains(known.span.begin) {
            begun = begun.or(Some(status));
        }
        for (token, experts) in &known.tokens {
            let time = part(known, *token);
            if time.contains(middle) {
                over = Some(experts.clone());
            } else if !covers_a_middle(time) && column.contains(time.begin) {
                for &expert in experts {
                    if !counts.contains_key(&expert) {
                        order.push(expert);
                    }
                    *counts.entry(expert).or_insert(0) += 1;
                }
            }
        }
    }
    order.sort_by_key(|expert| std::cmp::Reverse(counts[expert]));
    let found = over.or_else(|| (!order.is_empty()).then_some(order));
    let found = found.map(|experts| experts.into_iter().take(ranks).map(|expert| expert as u16).collect());
    (missing.or(begun), found)
}

#[test]
fn a_strip_shows_each_token_where_it_was_computed() {
    let (mut several, mut missing, mut one) = (0, 0, 0);
    for (seed, nanos, ranks) in [(11, 1, 3), (12, 7, 3), (13, 64, 2), (14, 500, 4), (15, 4096, 1)] {
        let trace = generated(seed, 3, 12, 3);
        let known = known(&trace);
        let whole = trace.range();
        let mut random = Random(seed);
        for _ in 0..4 {
            let begin = whole.begin + random.below(whole.nanos() / 2);
            let range = TimeRange::new(begin, begin + 1 + random.below(whole.nanos() / 2));
            let strip = strip(&trace, range, nanos, ranks, &|| true).unwrap();
            assert_eq!((strip.begin, strip.column_nanos), (range.begin, nanos));
            for (row, layer) in strip.layers.iter().enumerate() {
                let of_it: Vec<&Known> =
                    known.iter().filter(|known| Some(known.layer) == layer.layer).collect();
                // All columns would take minutes.
                for _ in 0..120 {
                    let column = random.below(strip.columns() as u64) as usize;
                    let time = TimeRange::new(strip.begin_of(column), strip.begin_of(column + 1));
                    // What lies outside of the range is not looked at.
                    if column == 0 || time.end > range.end {
                        continue;
                    }
                    let expected = cell(&of_it, time, ranks);
                    match (strip.cell(row, column), expected) {
                        (Cell::Chosen(found), (_, Some(expected))) => {
                            assert_eq!(found, expected, "seed {seed}, layer {row}, column {column}");
                            one += usize::from(nanos < 10);
                            several += usize::from(nanos > 400);
                        }
                        (Cell::Missing(found), (Some(expected), None)) => {
                            assert_eq!(found, expected);
                            missing += 1;
                        }
                        (Cell::Empty, (None, None)) => {}
                        (found, expected) => {
                            panic!("seed {seed}, layer {row}, column {column}: {found:?}, not {expected:?}")
                        }
                    }
                }
            }
        }
    }
    assert!(several > 50 && missing > 20 && one > 100, "{several} {missing} {one}");
}

#[test]
fn a_strip_decodes_only_what_it_shows_and_can_be_cancelled() {
    let trace = generated(16, 3, 12, 3);
    let whole = trace.range();
    let all = strip_rows(&trace, whole);
    let first = trace.graph_spans[0];
    let part = strip_rows(&trace, TimeRange::new(first.begin, first.end));
    assert!(part > 0 && part < all, "{part} of {all}");
    assert!(strip(&trace, whole, 100, 3, &|| false).is_none());
    // However many columns are asked for, the grid is bounded.
    let fine = strip(&trace, TimeRange::new(0, u64::MAX), 1, 3, &|| true).unwrap();
    assert!(fine.columns() * 3 * 3 <= 1 << 23 && fine.column_nanos > 1);
}
