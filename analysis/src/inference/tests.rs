//! Made-up servers.

use super::*;
use llmtrace_format::inference::{ALL_SEQUENCES, KvOperation};
use llmtrace_format::tables::{Decode, Ubatch};
use llmtrace_format::{Header, Source, Writer};

const ALL: u32 = NONE;

/// Builds a trace: a call each 100 ns, which lasts 50.
struct Server {
    writer: Writer<Vec<u8>>,
    calls: u32,
}

impl Server {
    fn new() -> Self {
        Self { writer: Writer::new(Vec::new(), Header::new(0, 0)).unwrap(), calls: 0 }
    }

    fn now(&self) -> Nanos {
        100 * u64::from(self.calls + 1)
    }

    /// Sequence, first position, tokens, outputs.
    fn batch(&mut self, runs: &[(u32, u32, u32, u32)]) -> &mut Self {
        self.batch_of(0, 0, runs)
    }

    fn batch_of(&mut self, context: u32, result: u32, runs: &[(u32, u32, u32, u32)]) -> &mut Self {
        let (id, time) = (self.calls, self.now());
        let tokens = runs.iter().map(|run| run.2).sum();
        let decode =
            Decode { id, begin: time, end: time + 50, tid: 1, tokens, context, result, ..Decode::default() };
        self.writer.push_decode(decode);
        let sequences = runs.len() as u32;
        let phase = if tokens > sequences { 1 } else { 2 };
        let ubatch = Ubatch { id, begin: time + 1, end: time + 40, decode: id, tokens, sequences, phase };
        self.writer.push_ubatch(ubatch);
        for &(sequence, position, tokens, outputs) in runs {
            let row =
                SequenceRun { time: time + 1, ubatch: id, sequence, position, tokens, outputs, further: 0 };
            self.writer.push_inference(InferenceRow::Sequence(row));
        }
        self.calls += 1;
        self
    }

    /// Happens before the next call.
    fn kv(&mut self, operation: KvOperation, sequence: u32, begin: u32, end: u32, value: i32) -> &mut Self {
        let row = KvOperationRow {
            time: self.now() - 30,
            operation: operation as u8,
            sequence,
            begin,
            end,
            value: value as u32,
            ..KvOperationRow::default()
        };
        self.writer.push_inference(InferenceRow::Kv(row));
        self
    }

    fn call(&mut self, kind: CallKind, begin: Nanos, end: Nanos) -> &mut Self {
        let call = Call { begin, end, kind: kind as u8, tid: 1, ..Call::default() };
        self.writer.push_inference(InferenceRow::Call(call));
        self
    }

    fn accepted(&mut self, sequence: u32, drafted: u32, accepted: u32) -> &mut Self {
        let row = Speculation {
            time: self.now() - 40,
            tid: 1,
            sequence,
            ubatch: self.calls - 1,
            drafted,
            accepted,
            process: 0,
        };
        self.writer.push_inference(InferenceRow::Speculation(row));
        self
    }

    fn trace(self) -> Trace {
        let bytes = self.writer.finish(&Default::default()).unwrap();
        Trace::open(Source::Bytes(bytes), &mut |_| true).unwrap()
    }
}

/// Sequence, prompt, reused, generated.
fn told(trace: &Trace) -> Vec<(u32, u32, u32, Option<u32>)> {
    let told = |request: &Request| {
        (request.key.sequence, request.prompt_tokens, request.reused_tokens, request.generated_tokens)
    };
    requests(trace).iter().map(told).collect()
}

#[test]
fn a_request_is_a_prompt_and_what_follows() {
    let mut server = Server::new();
    server.batch(&[(0, 0, 8, 0)]).batch(&[(0, 8, 2, 1)]).batch(&[(0, 10, 1, 1)]).batch(&[(0, 11, 1, 1)]);
    let trace = server.trace();
    assert_eq!(told(&trace), [(0, 10, 0, Some(3))]);
    let request = &requests(&trace)[0];
    assert_eq!((request.begin, request.end, request.whole), (101, 450, true));
    assert_eq!((request.ttft_nanos(), request.tpot_nanos()), (Some(149), Some(100)));
}

#[test]
fn sequences_of_one_batch_are_told_apart() {
    let mut server = Server::new();
    server.batch(&[(0, 0, 5, 1)]).batch(&[(0, 5, 1, 1), (3, 0, 6, 1)]).batch(&[(0, 6, 1, 1), (3, 6, 1, 1)]);
    let trace = server.trace();
    assert_eq!(told(&trace), [(0, 5, 0, Some(3)), (3, 6, 0, Some(2))]);
    let requests = requests(&trace);
    assert_eq!((requests[0].ubatches, requests[0].shared_ubatches), (3, 2));
    assert_eq!(unknown_tokens(&trace), Some(0));
}

#[test]
fn a_slot_that_is_used_again_is_another_request() {
    let mut server = Server::new();
    server.batch(&[(1, 0, 5, 1)]).batch(&[(1, 5, 1, 1)]).batch(&[(1, 6, 1, 1)]);
    // A new prompt of which the first three tokens are there.
    server.kv(KvOperation::Remove, 1, 3, ALL, 0).batch(&[(1, 3, 9, 1)]).batch(&[(1, 12, 1, 1)]);
    // The next turn: everything that is there, and more.
    server.kv(KvOperation::Remove, 1, 13, ALL, 0).batch(&[(1, 13, 4, 1)]).batch(&[(1, 17, 1, 1)]);
    // The same again: only the last token is computed.
    server.kv(KvOperation::Remove, 1, 16, ALL, 0).batch(&[(1, 16, 1, 1)]).batch(&[(1, 17, 1, 1)]);
    let expected = [(1, 5, 0, Some(3)), (1, 9, 3, Some(2)), (1, 4, 13, Some(2)), (1, 1, 16, Some(2))];
    let trace = server.trace();
    assert_eq!(told(&trace), expected);
    assert!(requests(&trace).iter().all(|request| request.whole));
}

#[test]
fn drafts_are_taken_back_within_a_request() {
    let mut server = Server::new();
    server.batch(&[(0, 0, 5, 1)]);
    // Three drafted, one right: positions go back by two.
    server.batch(&[(0, 5, 4, 4)]).accepted(0, 3, 1).kv(KvOperation::Remove, 0, 7, ALL, 0);
    // Two drafted, all right; nobody says so.
    server.batch(&[(0, 7, 3, 3)]).kv(KvOperation::Remove, 0, 10, ALL, 0);
    server.batch(&[(0, 10, 1, 1)]);
    let trace = server.trace();
    assert_eq!(told(&trace), [(0, 5, 0, Some(1 + 2 + 3 + 1))]);
    let drafts = speculation(&trace, None).unwrap();
    assert_eq!(
        (drafts.rounds, drafts.drafted, drafts.accepted, drafts.acceptance),
        (1, 3, 1, Some(1.0 / 3.0))
    );
    assert_eq!(drafts.tokens_per_round, Some(2.0));
}

#[test]
fn what_a_last_round_gave_is_not_guessed() {
    let mut server = Server::new();
    server.batch(&[(0, 0, 5, 1)]).batch(&[(0, 5, 4, 4)]);
    assert_eq!(told(&server.trace()), [(0, 5, 0, None)]);
}

#[test]
fn a_context_that_is_shifted_goes_on() {
    let mut server = Server::new();
    server.call(CallKind::NewContext, 0, 50);
    server.batch(&[(0, 0, 8, 1)]).batch(&[(0, 8, 1, 1)]);
    // Keeps 2, forgets 4, moves the rest.
    server.kv(KvOperation::Remove, 0, 2, 6, 0).kv(KvOperation::Add, 0, 6, 9, -4);
    server.batch(&[(0, 5, 1, 1)]).batch(&[(0, 6, 1, 1)]);
    let trace = server.trace();
    assert_eq!(told(&trace), [(0, 8, 0, Some(4))]);
    let curves = kv_curves(&trace);
    assert!(curves[0].whole);
    let cells: Vec<u64> = curves[0].points.iter().map(|point| point.cells).collect();
    assert_eq!(cells, [8, 9, 5, 6, 7]);
    assert_eq!((curves[0].most(), curves[0].at(50)), (9, None));
}

#[test]
fn copies_share_cells_and_removals_free_those_of_nobody() {
    let mut server = Server::new();
    server.kv(KvOperation::Clear, ALL_SEQUENCES, 0, ALL, 0).batch(&[(0, 0, 6, 1)]);
    server.kv(KvOperation::Copy, 0, 0, ALL, 2).batch(&[(2, 6, 1, 1)]);
    server.kv(KvOperation::Remove, 0, 0, ALL, 0).batch(&[(2, 7, 1, 1)]);
    server.kv(KvOperation::Keep, 1, 0, ALL, 0).batch(&[(1, 0, 2, 1)]);
    server.kv(KvOperation::Remove, ALL_SEQUENCES, 1, ALL, 0);
    let trace = server.trace();
    let curve = &kv_curves(&trace)[0];
    assert!(curve.whole, "it was cleared first");
    let points: Vec<(u64, u32)> = curve.points.iter().map(|point| (point.cells, point.sequences)).collect();
    assert_eq!(points, [(0, 0), (6, 1), (6, 2), (7, 2), (7, 1), (8, 1), (0, 0), (2, 1), (1, 1)]);
    // What was copied counts as there already.
    assert_eq!(told(&trace)[1], (2, 0, 6, Some(2)));
}

#[test]
fn a_recording_that_came_late_says_so() {
    let mut server = Server::new();
    server.batch(&[(0, 40, 1, 1)]).batch(&[(0, 41, 1, 1)]);
    let trace = server.trace();
    let request = &requests(&trace)[0];
    assert!(!request.whole);
    assert_eq!((request.ttft_nanos(), request.prompt_tokens), (None, 0));
    assert_eq!(request.tpot_nanos(), Some(100));
    assert!(!kv_curves(&trace)[0].whole, "there are cells that nobody saw being filled");
}

#[test]
fn a_failed_call_gives_nothing() {
    let mut server = Server::new();
    server.call(CallKind::NewContext, 0, 50);
    server.batch_of(0, 1, &[(0, 0, 8, 1)]).batch(&[(0, 0, 8, 1)]);
    let trace = server.trace();
    let requests = requests(&trace);
    assert_eq!(requests.iter().map(|request| request.failed).sum::<u32>(), 1);
    assert_eq!(requests.last().unwrap().generated_tokens, Some(1));
    assert!(!kv_curves(&trace)[0].whole);
}

#[test]
fn contexts_that_compute_inside_drafts_are_drafts() {
    let mut server = Server::new();
    server.batch_of(0, 0, &[(0, 0, 5, 1)]).call(CallKind::Draft, 190, 360);
    server.batch_of(1, 0, &[(0, 0, 5, 1)]).batch_of(1, 0, &[(0, 5, 1, 1)]).batch_of(0, 0, &[(0, 5, 3, 3)]);
    let trace = server.trace();
    assert_eq!(draft_contexts(&trace), [1]);
    let calls = call_summaries(&trace, None);
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].kind, calls[0].count, calls[0].nanos), ("draft", 1, 170));
    assert_eq!(call_summaries(&trace, Some(TimeRange::new(0, 100))), []);
}

#[test]
fn nothing_recorded_is_not_nothing_there() {
    let trace = Server::new().trace();
    assert_eq!((unknown_tokens(&trace), speculation(&trace, None)), (None, None));
    assert!(requests(&trace).is_empty() && kv_curves(&trace).is_empty());
}
