use super::super::graphs::KnownGraph;
use super::*;
use llmtrace_bpf::Head;
use llmtrace_bpf::types::{
    event_backends, event_copy_end, event_copy_ends, event_copy_name, event_scheduler_begin,
    event_scheduler_end, event_split_end, event_wait_begin, event_wait_end,
};

const CPU: u64 = 0xc000;
const DEVICE: u64 = 0xd000;
/// Where the nodes of the whole graph lie.
const NODES: u64 = 0x7000_0000;

/// Names each graph after the number of its nodes.
struct ByCount;

impl DescribeGraph for ByCount {
    fn describe(&mut self, call: &GraphCall) -> Option<Rc<KnownGraph>> {
        Some(Rc::new(KnownGraph::new(call.count, Vec::new(), 0)))
    }
}

struct Test {
    offload: Offload,
    time: u64,
}

impl Test {
    fn new() -> Self {
        Self { offload: Offload::new(1, Rc::default()), time: 0 }
    }

    /// One event, ten nanoseconds after the one before.
    fn event(&mut self, make: impl FnOnce(Head) -> Event) -> &mut Self {
        self.time += 10;
        let event = make(Head { tid: 7, time: self.time, ..Head::default() });
        self.offload.handle(self.time, &event, 5, &mut ByCount);
        self
    }

    fn run_begin(&mut self) -> &mut Self {
        self.event(|head| {
            Event::SchedulerBegin(event_scheduler_begin { head, scheduler: 0x5000, nodes: NODES })
        })
    }

    fn run_end(&mut self) -> &mut Self {
        self.event(|head| Event::SchedulerEnd(event_scheduler_end { head, ..Default::default() }))
    }

    fn split_begin(&mut self, backend: u64, first: u64, count: u64) -> &mut Self {
        self.event(|head| Event::SplitBegin(event_split_begin { head, backend, graph: 0x6000 }));
        let nodes_count = (NODES + 8 * first) | count << 48;
        self.event(|head| Event::SplitNodes(event_split_nodes { head, nodes_count, uid: 3 }))
    }

    fn split_end(&mut self) -> &mut Self {
        self.event(|head| Event::SplitEnd(event_split_end { head, ..Default::default() }))
    }

    fn copy_begin(&mut self, call: CopyCall, bytes: u64, ends: [u64; 2], name: &[u8]) -> &mut Self {
        self.copy_begins(call as u32, bytes);
        let [source, target] = ends;
        self.event(|head| Event::CopyEnds(event_copy_ends { head, source, target }));
        for piece in name.chunks(16) {
            let mut name = [0; 16];
            name.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
            self.event(|head| Event::CopyName(event_copy_name { head, name }));
        }
        self
    }

    fn copy_begins(&mut self, call: u32, bytes: u64) -> &mut Self {
        self.event(|head| Event::CopyBegin(event_copy_begin { head, bytes, call, pad: 0 }))
    }

    fn copy_end(&mut self, done: u32) -> &mut Self {
        self.event(|head| Event::CopyEnd(event_copy_end { head, done, ..Default::default() }))
    }

    fn splits(&self) -> Vec<Split> {
        let split = |unnamed: &Unnamed| match unnamed.row {
            OffloadRow::Split(split) => Some(split),
            _ => None,
        };
        self.offload.rows.iter().filter_map(split).collect()
    }

    fn copies(&self) -> Vec<(Copy, &Unnamed)> {
        let copy = |unnamed: &Unnamed| match &unnamed.row {
            OffloadRow::Copy(copy) => Some(*copy),
            _ => None,
        };
        self.offload.rows.iter().filter_map(|unnamed| Some((copy(unnamed)?, unnamed))).collect()
    }
}

#[test]
fn splits_are_parts_of_their_graph_and_have_their_inputs() {
    let mut test = Test::new();
    test.run_begin().split_begin(CPU, 0, 300);
    test.offload.graph_began(7, 11, 4);
    test.split_end();
    test.copy_begin(CopyCall::Copy, 2560, [1, 2], b"l_out-8").copy_end(1);
    test.split_begin(DEVICE, 300, 400).split_end().run_end();
    let splits = test.splits();
    let parts: Vec<_> =
        splits.iter().map(|s| (s.first_node, s.nodes, s.graph, s.graph_span, s.run)).collect();
    // The CPU's graph is that of its graph span; the device's is read.
    assert_eq!(parts, [(0, 300, 4, 11, 0), (300, 400, 400, NONE, 0)]);
    let copies = test.copies();
    let [(copy, unnamed)] = copies[..] else { panic!("one copy") };
    assert_eq!((copy.split, copy.run, copy.bytes), (1, 0, 2560));
    assert_eq!(unnamed.ends, [End::Buffer(1), End::Buffer(2)]);
    assert_eq!(unnamed.tensor, "l_out-8");
    let Some(OffloadRow::Run(run)) = test.offload.rows.last().map(|unnamed| unnamed.row) else {
        panic!("the run comes last")
    };
    assert_eq!((run.ubatch, run.process, run.begin, run.end), (5, 1, 10, test.time));
    assert_eq!(test.offload.told, [Told::Scheduler(0x5000), Told::Backend(CPU), Told::Backend(DEVICE)]);
    assert_eq!(test.offload.orphans, 0);
}

#[test]
fn copies_within_a_copy_are_part_of_it() {
    let mut test = Test::new();
    test.copy_begin(CopyCall::Copy, 64, [1, 2], b"a_name_of_more_than_sixteen_bytes");
    test.copy_begin(CopyCall::Set, 32, [0, 9], b"inner").copy_end(1).copy_end(1);
    let copies = test.copies();
    let [(copy, unnamed)] = copies[..] else { panic!("one copy") };
    assert_eq!((copy.bytes, copy.call, copy.split, copy.run), (64, CopyCall::Copy as u8, NONE, NONE));
    assert_eq!(unnamed.tensor, "a_name_of_more_than_sixteen_bytes");
    assert_eq!(unnamed.ends, [End::Buffer(1), End::Buffer(2)]);
}

#[test]
fn a_copy_that_a_backend_refuses_is_none() {
    let mut test = Test::new();
    test.copy_begins(COPY_BY_BACKEND, 64).copy_end(0);
    assert!(test.copies().is_empty());
    test.copy_begins(COPY_BY_BACKEND, 64).copy_end(1);
    assert_eq!(test.copies()[0].0.call, CopyCall::CopyAsync as u8);
    // The other end of a `set` is the program's; of a tensor without memory it is not known.
    test.copy_begin(CopyCall::SetAsync, 4, [0, 2], b"x").copy_end(1);
    test.copy_begin(CopyCall::Copy, 4, [0, 2], b"\x01y").copy_end(1);
    let copies = test.copies();
    assert_eq!(copies[1].1.ends, [End::Program, End::Buffer(2)]);
    assert_eq!(copies[2].1.ends, [End::Unknown, End::Buffer(2)]);
    assert_eq!(copies[2].1.tensor, "y");
}

#[test]
fn ends_without_begins_are_counted_and_open_calls_doubted_after_a_loss() {
    let mut test = Test::new();
    test.split_end().copy_end(1).run_end();
    test.event(|head| Event::WaitEnd(event_wait_end { head, ..Default::default() }));
    assert_eq!((test.offload.orphans, test.offload.rows.len()), (4, 0));
    test.run_begin().split_begin(DEVICE, 0, 9);
    test.offload.lost(TimeRange::new(0, test.time + 5));
    test.split_end();
    assert_eq!((test.offload.orphans, test.splits().len()), (5, 0));
    // What begins later is whole, and what the loss overlaps is marked.
    test.event(|head| Event::WaitBegin(event_wait_begin { head, backend: DEVICE, pad: 0 }));
    let begin = test.time;
    test.event(|head| Event::WaitEnd(event_wait_end { head, ..Default::default() }));
    let Some(OffloadRow::Sync(wait)) = test.offload.rows.last().map(|unnamed| unnamed.row) else {
        panic!("a wait")
    };
    assert_eq!((wait.begin, wait.run, wait.touched_by_loss), (begin, NONE, 0));
    test.offload.lost(TimeRange::new(begin, begin + 1));
    assert_eq!(test.offload.rows.last().map(|unnamed| unnamed.row.range().begin), Some(begin));
    assert!(
        matches!(test.offload.rows.last().map(|u| u.row), Some(OffloadRow::Sync(s)) if s.touched_by_loss == 1)
    );
}

#[test]
fn a_new_list_of_backends_is_looked_at_whatever_was_known() {
    let mut test = Test::new();
    test.run_begin().run_end().run_begin().run_end();
    assert_eq!(test.offload.told, [Told::Scheduler(0x5000)]);
    test.event(|head| Event::Backends(event_backends { head, backends: 0x9000, count: 2, pad: 0 }));
    test.run_begin();
    let told = [Told::Scheduler(0x5000), Told::List(0x9000, 2), Told::Scheduler(0x5000)];
    assert_eq!(test.offload.told, told);
}
