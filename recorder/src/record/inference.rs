//! Events around graphs to rows: sequences, KV operations, calls, drafts, tokens.

use llmtrace_bpf::Event;
use llmtrace_bpf::types::{event_call_begin, event_call_end, event_kv_operation, event_sequence_run};
use llmtrace_format::Nanos;
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::{
    ALL_SEQUENCES, Call, CallKind, InferenceRow, KvOperation, KvOperationRow, SequenceRun, Speculation,
    TokenRow, UNKNOWN_RESULT, UNKNOWN_VALUE,
};
use llmtrace_format::tables::Ubatch;
use std::collections::HashMap;

/// Threads, KV caches, sequences remembered: more than any program has.
const MAX_KNOWN: usize = 1 << 12;
/// Runs and tokens of one micro-batch remembered.
const MAX_RUNS: usize = 1 << 16;
/// Calls inside each other.
const MAX_DEPTH: usize = 64;

/// Of one process.
#[derive(Debug, Default)]
pub(super) struct Inference {
    process: u32,
    /// By thread: what its micro-batch told of itself.
    open: HashMap<u32, Open>,
    calls: HashMap<u32, Vec<OpenCall>>,
    /// Numbers of KV caches by the low bits of their address.
    memories: HashMap<u32, u32>,
    /// Contexts by the low bits of the address of their KV cache, and of their own.
    contexts: HashMap<u32, u32>,
    /// By sequence: the last micro-batch in which it had several outputs, and how many.
    drafts: HashMap<u32, (u32, u32)>,
    /// Rows that are complete.
    pub(super) rows: Vec<InferenceRow>,
    /// Ends without a begin, and begins without an end.
    pub(super) orphans: u64,
}

#[derive(Debug, Default)]
struct Open {
    runs: Vec<event_sequence_run>,
    /// Ids of three tokens each, with the place of the first.
    tokens: Vec<(u32, [i32; 3])>,
}

#[derive(Clone, Copy, Debug)]
struct OpenCall {
    begin: Nanos,
    context: u32,
    event: event_call_begin,
}

impl Inference {
    pub(super) fn new(process: u8) -> Self {
        Self { process: process.into(), ..Self::default() }
    }

    /// Takes an event at a trace time. `contexts` numbers contexts by address.
    pub(super) fn handle(&mut self, event: &Event, time: Nanos, contexts: &HashMap<u64, u32>) {
        let tid = event.head().tid;
        match event {
            Event::SequenceRun(event) => {
                let runs = &mut bounded(&mut self.open, tid).runs;
                if runs.len() < MAX_RUNS {
                    runs.push(*event);
                }
            }
            Event::Tokens(event) => {
                let tokens = &mut bounded(&mut self.open, tid).tokens;
                if tokens.len() < MAX_RUNS {
                    tokens.push((event.index, event.ids));
                }
            }
            Event::KvOperation(event) => self.kv_operation(time, event),
            Event::CallBegin(event) => {
                let context = contexts.get(&event.context).copied().unwrap_or(NONE);
                let calls = bounded(&mut self.calls, tid);
                if calls.len() >= MAX_DEPTH {
                    self.orphans += calls.len() as u64;
                    calls.clear();
                }
                calls.push(OpenCall { begin: time, context, event: *event });
            }
            Event::CallEnd(event) => self.call_end(time, event),
            Event::DraftAccepted(event) => {
                let sequence = event.sequence as u32;
                let (ubatch, outputs) = self.drafts.remove(&sequence).unwrap_or((NONE, NONE));
                // The first output is that of the token before the draft.
                let drafted = if outputs == NONE { NONE } else { outputs - 1 };
                let row = Speculation {
                    time,
                    tid,
                    sequence,
                    ubatch,
                    drafted,
                    accepted: event.accepted,
                    process: self.process,
                };
                self.rows.push(InferenceRow::Speculation(row));
            }
            _ => {}
        }
    }

    /// A decode call begins: a sampling call of before is not open any more. An exception
    /// has ended it, or its end was lost.
    pub(super) fn decode_begin(&mut self, tid: u32) {
        let Some(calls) = self.calls.get_mut(&tid) else { return };
        let before = calls.len();
        calls.retain(|open| open.event.kind != CallKind::Sample as u32);
        self.orphans += (before - calls.len()) as u64;
    }

    /// A micro-batch begins: what a thread told of one before is not its.
    pub(super) fn ubatch_begin(&mut self, tid: u32) {
        self.open.remove(&tid);
    }

    /// A micro-batch ended; its rows come behind its own.
    pub(super) fn ubatch_end(&mut self, tid: u32, ubatch: &Ubatch) {
        let Some(Open { runs, tokens }) = self.open.remove(&tid) else { return };
        let mut outputs: HashMap<u32, u32> = HashMap::new();
        for run in &runs {
            let sequence = run.sequence as u32;
            if let Some(count) = run.outputs() {
                *outputs.entry(sequence).or_default() += count;
            }
            self.rows.push(InferenceRow::Sequence(SequenceRun {
                time: ubatch.begin,
                ubatch: ubatch.id,
                sequence,
                position: run.position as u32,
                tokens: run.tokens,
                outputs: run.outputs().unwrap_or(NONE),
                further: run.further(),
            }));
        }
        for (sequence, outputs) in outputs.into_iter().filter(|(_, outputs)| *outputs > 1) {
            make_room(&mut self.drafts);
            self.drafts.insert(sequence, (ubatch.id, outputs));
        }
        for (first, ids) in tokens {
            for (index, id) in (first..).zip(ids).take_while(|(index, _)| *index < ubatch.tokens) {
                self.rows.push(InferenceRow::Token(TokenRow {
                    time: ubatch.begin,
                    ubatch: ubatch.id,
                    index,
                    token: id as u32,
                    tid,
                    process: self.process,
                }));
            }
        }
    }

    /// Says which number a context has, and where its KV cache lies if that can be told.
    pub(super) fn context(&mut self, address: u64, memory: Option<u64>, number: u32) {
        make_room(&mut self.contexts);
        for address in std::iter::once(address).chain(memory) {
            self.contexts.insert(low_bits(address), number);
        }
    }

    /// Forgets what is open although its end may be lost.
    pub(super) fn forget(&mut self) {
        self.orphans += self.calls.values().map(|calls| calls.len() as u64).sum::<u64>();
        self.calls.clear();
        self.open.clear();
        self.drafts.clear();
    }

    fn kv_operation(&mut self, time: Nanos, event: &event_kv_operation) {
        make_room(&mut self.memories);
        let next = self.memories.len() as u32;
        let memory = *self.memories.entry(event.memory()).or_insert(next);
        let operation = KvOperation::from_u8(event.kind());
        // Of these every sequence, or every position, is meant.
        let sequence = match (operation, event.sequence()) {
            (KvOperation::Clear, _) => ALL_SEQUENCES,
            (_, Some(sequence)) => u32::try_from(sequence).unwrap_or(ALL_SEQUENCES),
            (_, None) => NONE,
        };
        self.rows.push(InferenceRow::Kv(KvOperationRow {
            time,
            tid: event.head.tid,
            operation: operation as u8,
            memory,
            context: self.contexts.get(&event.memory()).copied().unwrap_or(NONE),
            sequence,
            begin: u32::try_from(event.begin).unwrap_or(0),
            end: u32::try_from(event.end).unwrap_or(NONE),
            value: event.value().map_or(UNKNOWN_VALUE, |value| value as u32),
            process: self.process,
        }));
    }

    fn call_end(&mut self, time: Nanos, event: &event_call_end) {
        let tid = event.head.tid;
        let calls = self.calls.entry(tid).or_default();
        let Some(at) = calls.iter().rposition(|open| open.event.kind == event.kind) else {
            self.orphans += 1;
            return;
        };
        // Calls that began inside it and did not end: their ends were lost.
        self.orphans += (calls.len() - at - 1) as u64;
        calls.truncate(at + 1);
        let Some(open) = calls.pop() else { return };
        let kind = CallKind::from_u8(event.kind as u8);
        if calls.iter().any(|outer| outer.event.kind == event.kind) {
            return;
        }
        let result = match kind {
            CallKind::LoadModel | CallKind::NewContext => u64::from(event.result != 0),
            CallKind::Tokenize => i64::from(event.result as i32) as u64,
            _ if kind.result().is_some() => event.result as u64,
            _ => UNKNOWN_RESULT,
        };
        if kind == CallKind::Sample && event.result >= 0 {
            // Only who asked for tokens gets here.
            let token = event.result as u32;
            let row = TokenRow { time, ubatch: NONE, index: NONE, token, tid, process: self.process };
            self.rows.push(InferenceRow::Token(row));
        }
        self.rows.push(InferenceRow::Call(Call {
            begin: open.begin,
            end: time,
            kind: kind as u8,
            tid,
            context: open.context,
            argument: kind.argument().map_or(NONE, |_| open.event.argument as u32),
            result,
            process: self.process,
        }));
    }
}

/// As in [`event_kv_operation::memory`].
fn low_bits(address: u64) -> u32 {
    address as u32 & !15
}

fn make_room<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= MAX_KNOWN {
        map.clear();
    }
}

fn bounded<V: Default>(map: &mut HashMap<u32, V>, key: u32) -> &mut V {
    if !map.contains_key(&key) {
        make_room(map);
    }
    map.entry(key).or_default()
}

#[cfg(test)]
#[path = "inference_tests.rs"]
mod tests;
