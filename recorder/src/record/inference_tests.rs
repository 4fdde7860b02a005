//! Made-up events around graphs.

use super::*;
use llmtrace_bpf::types::*;

const TID: u32 = 7;

struct Run(Inference);

impl Run {
    fn event(&mut self, time: Nanos, event: Event) {
        self.0.handle(&event, time, &HashMap::from([(0x5000, 2)]));
    }

    fn begin(&mut self, time: Nanos, kind: CallKind, argument: i32) {
        let event = event_call_begin { head: head(), context: 0x5000, argument, kind: kind as u32 };
        self.event(time, Event::CallBegin(event));
    }

    fn end(&mut self, time: Nanos, kind: CallKind, result: i64) {
        let event = event_call_end { head: head(), result, kind: kind as u32, pad: 0 };
        self.event(time, Event::CallEnd(event));
    }

    fn sequence(&mut self, sequence: i32, position: i32, tokens: u32, outputs: u32) {
        let head = head();
        let run = event_sequence_run { head, sequence, position, tokens, outputs_further: outputs };
        self.event(0, Event::SequenceRun(run));
    }

    fn accept(&mut self, sequence: i32, accepted: u32) {
        let event = event_draft_accepted { head: head(), sequence, accepted, pad: 0 };
        self.event(90, Event::DraftAccepted(event));
    }
}

fn head() -> event_head {
    event_head { time: 1, tid: TID, ..Default::default() }
}

fn run() -> Run {
    Run(Inference::new(0))
}

fn ubatch(id: u32, tokens: u32) -> Ubatch {
    Ubatch { id, begin: 10, end: 20, tokens, ..Ubatch::default() }
}

fn calls(rows: &[InferenceRow]) -> Vec<(u8, Nanos, Nanos, u32, u32, u64)> {
    let call = |row: &InferenceRow| match row {
        InferenceRow::Call(row) => {
            Some((row.kind, row.begin, row.end, row.context, row.argument, row.result))
        }
        _ => None,
    };
    rows.iter().filter_map(call).collect()
}

#[test]
fn calls_nest_and_of_one_kind_the_outer_one_counts() {
    let mut run = run();
    run.begin(10, CallKind::Draft, 0);
    run.begin(11, CallKind::Sample, -1);
    run.begin(12, CallKind::Sample, -1);
    run.end(13, CallKind::Sample, -1);
    run.end(14, CallKind::Sample, -1);
    run.end(20, CallKind::Draft, 1234);
    let sample = (CallKind::Sample as u8, 11, 14, 2, NONE, UNKNOWN_RESULT);
    let draft = (CallKind::Draft as u8, 10, 20, 2, NONE, UNKNOWN_RESULT);
    assert_eq!(calls(&run.0.rows), [sample, draft]);
    assert_eq!(run.0.orphans, 0);
}

#[test]
fn a_lost_end_is_no_call() {
    let mut run = run();
    run.begin(10, CallKind::Tokenize, 100);
    run.begin(11, CallKind::Sample, 0);
    run.end(20, CallKind::Tokenize, 25);
    run.end(30, CallKind::LoadModel, 1);
    assert_eq!(calls(&run.0.rows), [(CallKind::Tokenize as u8, 10, 20, 2, 100, 25)]);
    assert_eq!(run.0.orphans, 2);
    run.begin(40, CallKind::NewContext, 5);
    run.0.forget();
    run.end(50, CallKind::NewContext, 99);
    assert_eq!((calls(&run.0.rows).len(), run.0.orphans), (1, 4));
}

#[test]
fn what_was_sampled_is_told_only_to_who_asked() {
    let mut run = run();
    run.begin(1, CallKind::Sample, -1);
    run.end(2, CallKind::Sample, -1);
    assert!(!run.0.rows.iter().any(|row| matches!(row, InferenceRow::Token(_))));
    run.begin(3, CallKind::Sample, -1);
    run.end(4, CallKind::Sample, 2364);
    let row = TokenRow { time: 4, ubatch: NONE, index: NONE, token: 2364, tid: TID, process: 0 };
    assert!(run.0.rows.contains(&InferenceRow::Token(row)));
}

#[test]
fn runs_belong_to_the_micro_batch_of_their_thread() {
    let mut run = run();
    run.sequence(9, 9, 9, 9);
    run.0.ubatch_begin(TID);
    run.sequence(3, 17, 1, 1);
    run.sequence(0, 0, 5, 0xff_ffff | 1 << 24);
    run.0.ubatch_end(TID + 1, &ubatch(6, 6));
    assert!(run.0.rows.is_empty());
    run.0.ubatch_end(TID, &ubatch(7, 6));
    let row = |sequence, position, tokens, outputs, further| {
        let row = SequenceRun { time: 10, ubatch: 7, sequence, position, tokens, outputs, further };
        InferenceRow::Sequence(row)
    };
    assert_eq!(run.0.rows, [row(3, 17, 1, 1, 0), row(0, 0, 5, NONE, 1)]);
}

#[test]
fn a_draft_is_what_was_verified_last() {
    let mut run = run();
    run.0.ubatch_begin(TID);
    run.sequence(1, 30, 4, 4);
    run.0.ubatch_end(TID, &ubatch(8, 4));
    run.accept(1, 2);
    run.accept(1, 1);
    let rounds = run.0.rows.iter().filter_map(|row| match row {
        InferenceRow::Speculation(row) => Some((row.ubatch, row.drafted, row.accepted)),
        _ => None,
    });
    assert!(rounds.eq([(8, 3, 2), (NONE, NONE, 1)]));
}

#[test]
fn kv_operations_name_their_context_once_it_is_known() {
    let mut run = run();
    let event = |kind: KvOperation, sequence: i32, value: i32| {
        Event::KvOperation(event_kv_operation {
            head: head(),
            memory_kind: 0x7710 | kind as u32,
            begin: -1,
            end: 12,
            sequence_value: (sequence as u32) << 22 | value as u32 & 0x3f_ffff,
        })
    };
    run.event(1, event(KvOperation::Clear, -1, 0));
    run.0.context(0x5000, Some(0x1_0000_7710), 2);
    run.event(2, event(KvOperation::Add, 3, -5));
    run.event(3, event(KvOperation::Remove, -1, 0));
    run.event(4, event(KvOperation::Copy, -512, -(1 << 21)));
    let told = run.0.rows.iter().filter_map(|row| match row {
        InferenceRow::Kv(row) => Some((row.context, row.sequence, row.begin, row.end, row.value as i32)),
        _ => None,
    });
    let unknown = UNKNOWN_VALUE as i32;
    let expected = [
        (NONE, ALL_SEQUENCES, 0, 12, 0),
        (2, 3, 0, 12, -5),
        (2, ALL_SEQUENCES, 0, 12, 0),
        (2, NONE, 0, 12, unknown),
    ];
    assert!(told.eq(expected));
}

#[test]
fn ids_behind_the_last_token_are_none() {
    let mut run = run();
    run.0.ubatch_begin(TID);
    run.event(0, Event::Tokens(event_tokens { head: head(), index: 0, ids: [5, 6, 7] }));
    run.event(0, Event::Tokens(event_tokens { head: head(), index: 3, ids: [8, -1, -1] }));
    run.0.ubatch_end(TID, &ubatch(1, 4));
    let ids = run.0.rows.iter().filter_map(|row| match row {
        InferenceRow::Token(row) => Some((row.index, row.token)),
        _ => None,
    });
    assert!(ids.eq([(0, 5), (1, 6), (2, 7), (3, 8)]));
}
