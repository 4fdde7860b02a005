//! Made-up runs of a small graph on made-up threads.

use super::*;
use llmtrace_bpf::types::*;
use llmtrace_format::OpSpan;

/// Four nodes; the second computes the third, too.
const NODES: [u64; 4] = [1000, 2000, 3000, 4000];
const PID: u32 = 10;

struct Fixed(Option<Rc<KnownGraph>>);

impl DescribeGraph for Fixed {
    fn describe(&mut self, _call: &GraphCall) -> Option<Rc<KnownGraph>> {
        self.0.clone()
    }
}

/// Feeds events and keeps the time.
struct Run {
    assembler: Assembler,
    graphs: Fixed,
}

impl Run {
    fn new() -> Self {
        let known = KnownGraph::new(3, NODES.to_vec(), 77);
        Self { assembler: Assembler::new(100, PID, 0, Rc::default()), graphs: Fixed(Some(Rc::new(known))) }
    }

    fn event(&mut self, event: Event) {
        self.assembler.handle(&event, &mut self.graphs);
    }

    fn graph_begin(&mut self, time: u64, tid: u32, threads: u32) {
        let head = head(time, tid);
        self.event(Event::GraphNodes(event_graph_nodes { head, nodes: 0, node_count: 4, threads }));
        self.event(Event::GraphBegin(event_graph_begin { head, ..Default::default() }));
    }

    fn graph_end(&mut self, time: u64, tid: u32) {
        self.event(Event::GraphEnd(event_graph_end { head: head(time, tid), ..Default::default() }));
    }

    fn op(&mut self, time: u64, tid: u32, ith: u32, node: usize) {
        let tensor = NODES[node];
        self.event(Event::OpBegin(event_op_begin { head: head(time, tid), tensor, ith, pad: 0 }));
    }

    fn fused(&mut self, time: u64, tid: u32, ith: u32) {
        let tensor_ith = NODES[1] | u64::from(ith) << 48;
        let head = head(time, tid);
        self.event(Event::FusedBegin(event_fused_begin { head, tensor_ith, last_tensor: NODES[2] }));
    }

    fn barrier(&mut self, time: u64, tid: u32) {
        self.event(Event::Barrier(event_barrier { head: head(time, tid), ..Default::default() }));
    }

    /// One whole graph on two threads; the second is slower in the first node.
    fn two_threads(&mut self, at: u64, begins: bool) {
        self.graph_begin(at, 10, 2);
        for (tid, ith, late) in [(10, 0, 0), (11, 1, 5)] {
            for (step, arrival) in [(0, 20 + late), (1, 40), (3, 60)] {
                if begins {
                    let begin = at + 20 * step.min(2) + 8;
                    match step {
                        1 => self.fused(begin, tid, ith),
                        _ => self.op(begin, tid, ith, step as usize),
                    }
                }
                self.barrier(at + arrival, tid);
            }
        }
        self.graph_end(at + 70, 10);
    }

    fn last(&mut self) -> FinishedGraph {
        self.assembler.rows.graphs.pop().expect("a graph ended")
    }
}

fn head(time: u64, tid: u32) -> event_head {
    event_head { time, tid, kind: 0, process: 0, cpu: 1 }
}

fn decode_begin(time: u64, context: u64, tokens: u32) -> Event {
    Event::DecodeBegin(event_decode_begin { head: head(time, 10), context, tokens, is_encode: 0 })
}

fn times(spans: &[OpSpan]) -> Vec<(u32, u64, u64, u64)> {
    spans.iter().map(|span| (span.node, span.begin, span.compute, span.wait)).collect()
}

#[test]
fn nodes_end_at_their_barrier_and_wait_for_the_last_thread() {
    let mut run = Run::new();
    run.two_threads(200, true);
    let graph = run.last();
    assert_eq!((graph.span.begin, graph.span.end, graph.span.graph, graph.span.threads), (100, 170, 3, 2));
    // Six hits of a worker, eight of the caller.
    assert_eq!(graph.span.probe_hits, 8);
    let [(0, first), (1, second)] = &graph.lanes[..] else { panic!("{:?}", graph.lanes) };
    assert_eq!(times(first), [(0, 108, 12, 5), (1, 128, 12, 0), (3, 148, 12, 0)]);
    assert_eq!(times(second), [(0, 108, 17, 0), (1, 128, 12, 0), (3, 148, 12, 0)]);
    assert_eq!(first[1].fused, 1);
    assert_eq!(run.assembler.rows.threads.len(), 2);
    assert_eq!(run.assembler.counts.orphans, 0);
}

#[test]
fn arrivals_inside_an_operator_are_part_of_it() {
    let mut run = Run::new();
    run.graph_begin(200, 10, 1);
    run.op(210, 10, 0, 0);
    run.barrier(215, 10);
    run.barrier(220, 10);
    run.op(230, 10, 0, 3);
    run.barrier(240, 10);
    run.graph_end(250, 10);
    assert_eq!(times(&run.last().lanes[0].1), [(0, 110, 10, 0), (3, 130, 10, 0)]);
}

#[test]
fn without_barriers_a_node_ends_where_the_next_begins() {
    let mut run = Run::new();
    run.graph_begin(200, 10, 1);
    run.op(210, 10, 0, 0);
    run.op(230, 10, 0, 3);
    run.graph_end(250, 10);
    assert_eq!(times(&run.last().lanes[0].1), [(0, 110, 20, 0), (3, 130, 20, 0)]);
}

#[test]
fn once_the_order_is_known_arrivals_alone_tell_the_nodes() {
    let mut run = Run::new();
    run.assembler.count_barriers();
    for round in 0..12 {
        run.two_threads(200 + 100 * round, true);
        assert_eq!(run.last().span.inferred_begins, 0);
    }
    assert!(!run.assembler.sequences.begins_needed());
    assert_eq!(run.assembler.sequences.compared.misplaced, 0);
    run.two_threads(5000, false);
    let graph = run.last();
    assert_eq!(graph.span.inferred_begins, 1);
    assert_eq!(times(&graph.lanes[0].1), [(0, 4900, 20, 5), (1, 4925, 15, 0), (3, 4940, 20, 0)]);
    assert_eq!(times(&graph.lanes[1].1), [(0, 4900, 25, 0), (1, 4925, 15, 0), (3, 4940, 20, 0)]);
    assert_eq!(graph.lanes[0].1[1].fused, 1);
}

#[test]
fn a_count_that_does_not_fit_brings_begins_back_and_invents_nothing() {
    let mut run = Run::new();
    run.assembler.count_barriers();
    for round in 0..12 {
        run.two_threads(200 + 100 * round, true);
    }
    run.graph_begin(5000, 10, 2);
    run.barrier(5020, 10);
    run.barrier(5020, 11);
    run.graph_end(5070, 10);
    assert!(run.last().lanes.is_empty());
    assert!(run.assembler.sequences.begins_needed());
    assert_eq!((run.assembler.counts.uncounted_graphs, run.assembler.counts.orphans), (1, 2));
}

#[test]
fn a_graph_seen_only_from_its_middle_is_counted_and_left_out() {
    let mut run = Run::new();
    run.op(210, 10, 0, 0);
    run.barrier(220, 10);
    run.graph_end(230, 10);
    assert!(run.assembler.rows.graphs.is_empty());
    assert_eq!(run.assembler.counts.orphans, 2);
}

#[test]
fn graphs_that_run_at_once_have_lanes_of_their_own() {
    let mut run = Run::new();
    run.graph_begin(200, 10, 1);
    run.graphs.0 = Some(Rc::new(KnownGraph::new(4, NODES.map(|node| node + 1).to_vec(), 78)));
    run.graph_begin(205, 20, 1);
    run.op(210, 10, 0, 0);
    run.event(Event::OpBegin(event_op_begin { head: head(212, 20), tensor: NODES[0] + 1, ith: 0, pad: 0 }));
    run.barrier(220, 10);
    run.barrier(222, 20);
    run.graph_end(230, 10);
    assert_eq!(run.last().lanes[0].0, 0);
    run.graph_end(232, 20);
    assert_eq!(run.last().lanes[0].0, lane_id(0, 1, 0));
}

#[test]
fn an_outer_overload_takes_the_batch_size_of_the_inner_one() {
    let mut run = Run::new();
    let begin = |time, tokens| decode_begin(time, 0x1000, tokens);
    let end = |time, result| {
        Event::DecodeEnd(event_decode_end { head: head(time, 10), result, ..Default::default() })
    };
    run.event(begin(200, 0));
    run.event(begin(205, 7));
    run.event(Event::UbatchBegin(event_ubatch_begin {
        head: head(210, 10),
        tokens: 7,
        sequences: 1,
        pad: 0,
    }));
    run.graph_begin(220, 10, 1);
    run.graph_end(230, 10);
    run.event(Event::UbatchEnd(event_ubatch_end { head: head(240, 10), ..Default::default() }));
    run.event(end(250, -1));
    run.event(end(255, 0));
    let Rows { decodes, ubatches, graphs, .. } = &run.assembler.rows;
    let [decode] = &decodes[..] else { panic!("{decodes:?}") };
    assert_eq!((decode.begin, decode.end, decode.tokens, decode.result), (100, 155, 7, 0));
    assert_eq!((ubatches[0].phase, ubatches[0].decode), (Phase::Prefill as u8, decode.id));
    assert_eq!(graphs[0].span.ubatch, ubatches[0].id);
}

#[test]
fn losses_mark_what_they_may_have_touched() {
    let mut run = Run::new();
    run.two_threads(200, true);
    run.two_threads(300, true);
    run.assembler.lost(TimeRange::new(0, 130), false, false);
    let marked: Vec<u8> = run.assembler.rows.graphs.iter().map(|graph| graph.span.touched_by_loss).collect();
    assert_eq!(marked, [1, 0]);
    let spans = &run.assembler.rows.graphs[0].lanes[0].1;
    assert_eq!(spans.iter().map(|span| span.touched_by_loss).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn a_lost_end_does_not_swallow_the_calls_after_it() {
    let mut run = Run::new();
    let begin = |time| decode_begin(time, 0x1000, 1);
    let end = |time| Event::DecodeEnd(event_decode_end { head: head(time, 10), ..Default::default() });
    run.event(begin(200));
    run.assembler.forget_open_calls();
    for at in [300, 400] {
        run.event(begin(at));
        run.event(end(at + 50));
    }
    assert_eq!(run.assembler.rows.decodes.len(), 2);
}

#[test]
fn contexts_are_told_apart_and_numbered_by_first_call() {
    let mut run = Run::new();
    for (at, context) in [(200, 0xA000), (300, 0xB000), (400, 0xA000)] {
        run.event(decode_begin(at, context, 1));
        run.event(Event::DecodeEnd(event_decode_end { head: head(at + 50, 10), ..Default::default() }));
    }
    let contexts: Vec<u32> = run.assembler.rows.decodes.iter().map(|row| row.context).collect();
    assert_eq!(contexts, [0, 1, 0]);
}

#[test]
fn processes_share_numbers_and_have_lanes_of_their_own() {
    let ids = Rc::new(Ids::default());
    let mut runs = [0, 1].map(|process| {
        let assembler = Assembler::new(100, PID, process, ids.clone());
        Run { assembler, ..Run::new() }
    });
    let graphs = runs.each_mut().map(|run| {
        run.two_threads(200, true);
        run.last()
    });
    assert_eq!(graphs.each_ref().map(|graph| (graph.span.id, graph.span.process)), [(0, 0), (1, 1)]);
    assert_eq!(graphs.each_ref().map(|graph| graph.lanes[1].0), [lane_id(0, 0, 1), lane_id(1, 0, 1)]);
    assert_eq!(runs[1].assembler.rows.threads[0].id, 2);
}

#[test]
fn a_graph_that_ran_while_probes_came_or_went_has_no_operators_and_casts_no_doubt() {
    let mut run = Run::new();
    run.assembler.count_barriers();
    for round in 0..12 {
        run.two_threads(200 + 100 * round, true);
    }
    run.assembler.ops_end(4930);
    run.two_threads(5000, false);
    assert!(run.last().lanes.is_empty());
    run.assembler.ops_begin(5950);
    run.two_threads(6000, false);
    assert!(run.last().lanes.is_empty());
    run.two_threads(7000, false);
    assert_eq!(run.last().lanes.len(), 2);
    assert!(!run.assembler.sequences.begins_needed());
    assert_eq!((run.assembler.counts.uncounted_graphs, run.assembler.counts.orphans), (0, 0));
}

#[test]
fn a_loss_touches_what_is_assembled_after_it_became_known() {
    let mut run = Run::new();
    // Known while events of before are still to come.
    run.assembler.lost(TimeRange::new(250, 330), true, false);
    run.event(decode_begin(200, 0x1000, 1));
    for at in [220, 400, 600] {
        run.two_threads(at, true);
    }
    let touched: Vec<u8> = run.assembler.rows.graphs.iter().map(|graph| graph.span.touched_by_loss).collect();
    // Times count from 100: these are 120 to 190, 300 to 370 and 500 to 570.
    assert_eq!(touched, [0, 1, 0]);
    // The call of before the loss was forgotten when events came that far.
    run.event(Event::DecodeEnd(event_decode_end { head: head(700, 10), ..Default::default() }));
    assert!(run.assembler.rows.decodes.is_empty());
}

/// The fuzzer found it: a kernel never tells of times that go back, bytes may.
#[test]
fn what_ends_before_it_began_took_no_time() {
    let mut run = Run::new();
    let head_of = |time| head(time, 10);
    run.event(Event::UbatchBegin(event_ubatch_begin { head: head_of(900), tokens: 1, sequences: 1, pad: 0 }));
    run.event(Event::UbatchEnd(event_ubatch_end { head: head_of(300), ..Default::default() }));
    assert_eq!((run.assembler.counts.decode_tokens, run.assembler.counts.decode_nanos), (1, 0));
}
