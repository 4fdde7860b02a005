//! Against the plain sums of `stats`, on a synthetic trace.

use super::*;
use crate::stats::{self, By, stats};
use crate::synth::{Options, bytes};
use llmtrace_format::Source;

fn trace() -> Trace {
    let bytes = bytes(&Options::new(30_000, 2, 3)).unwrap();
    let trace = Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap();
    trace.load_nodes(&|_| true).unwrap();
    trace
}

#[test]
fn groups_say_what_stats_say() {
    let trace = trace();
    let nodes = nodes(&trace, &Query::default(), &|_| true).unwrap();
    for (group, by) in [(Group::Op, By::Op), (Group::Node, By::Name)] {
        let expected = stats(&trace, &stats::Query::by(by), &|_| true).unwrap();
        let mut wanted: BTreeMap<String, (u64, u64, u64, u64)> = BTreeMap::new();
        for row in &expected.rows {
            // Nodes of the same name and another operator are one row here.
            let sums = wanted.entry(row.key.clone()).or_default();
            sums.0 += row.count;
            sums.1 += row.compute_nanos;
            sums.2 += row.critical_nanos;
            sums.3 = sums.3.max(row.wall.max_nanos);
        }
        let rows = rows(&nodes, group, &Filter::default());
        assert_eq!(rows.len(), wanted.len());
        for row in &rows {
            let sums = (row.sums.count, row.sums.compute, row.sums.wall, row.sums.longest.0);
            assert_eq!(wanted.get(&row.key), Some(&sums), "{}", row.key);
            assert_eq!(row.sums.walls.total(), row.sums.count);
            let lanes: u64 = row.sums.lanes.values().map(|(compute, _)| compute).sum();
            assert_eq!(lanes, row.sums.compute, "{}", row.key);
        }
        assert!((rows.iter().map(|row| row.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn drilling_down_loses_nothing_and_ends_at_single_executions() {
    let trace = trace();
    let query = Query { phase: Some(Phase::Decode), ..Query::default() };
    let nodes = nodes(&trace, &query, &|_| true).unwrap();
    let mut filter = Filter::default();
    let mut group = Group::Module;
    loop {
        let rows = rows(&nodes, group, &filter);
        let row = rows.first().unwrap().clone();
        filter.path.push((group, row.key.clone()));
        let found = occurrences(&trace, &query, &filter, row.sums.count, &|_| true).unwrap();
        assert_eq!(found.all.len() as u64, row.sums.count, "{filter:?}");
        assert_eq!(found.left_out, 0);
        assert_eq!(found.all.iter().map(|one| one.wall).sum::<u64>(), row.sums.wall);
        assert!(found.all.is_sorted_by_key(|one| one.begin));
        let tokens = found.all.iter().filter_map(|one| trace.tokens.get(one.token as usize));
        assert!(tokens.clone().count() > 0);
        assert!(tokens.into_iter().all(|token| token.phase == Phase::Decode));
        let Some(below) = group.below() else { break };
        group = below;
    }
    assert_eq!(filter.path.len(), 4);
}

#[test]
fn a_sample_of_many_executions_says_how_many_it_leaves_out() {
    let trace = trace();
    let (query, filter) = (Query::default(), Filter::default());
    let whole = occurrences(&trace, &query, &filter, 0, &|_| true).unwrap();
    let part = occurrences(&trace, &query, &filter, 3 * MOST, &|_| true).unwrap();
    assert!(part.left_out > 0);
    assert_eq!(part.all.len() as u64 + part.left_out, whole.all.len() as u64);
}

#[test]
fn a_range_and_a_text_take_less() {
    let trace = trace();
    let token = trace.tokens[2];
    let query = Query { range: Some(token.range), phase: None };
    let in_token = nodes(&trace, &query, &|_| true).unwrap();
    let count: u64 = in_token.iter().map(|node| node.sums.count).sum();
    let found = occurrences(&trace, &query, &Filter::default(), count, &|_| true).unwrap();
    assert_eq!(found.all.len() as u64, count);
    assert!(found.all.iter().all(|one| token.range.contains(one.begin)));
    let filter = Filter { text: "FFN_up".into(), ..Filter::default() };
    let rows = rows(&in_token, Group::Name, &filter);
    assert_eq!(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["ffn_up"]);
}
