//! Requests: what a sequence does between a prompt and the next one.
//!
//! A sequence's steps belong to one request while their positions go on. A new one
//! begins
//!
//! * where positions go back, unless that takes back tokens that were drafted,
//! * where tokens without an output follow after generation: the next turn,
//! * at the first step.
//!
//! Operations on the KV cache that shift positions are followed.

use super::{SequenceKey, Step, steps};
use crate::{Nanos, Trace};
use llmtrace_format::constants::NONE;
use llmtrace_format::inference::{ALL_SEQUENCES, KvOperation, KvOperationRow};
use serde::Serialize;
use std::collections::HashMap;

/// A prompt and what was generated from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Request {
    /// Where it ran.
    #[serde(flatten)]
    pub key: SequenceKey,
    /// Begin of its first micro-batch. Nobody tells when it came in.
    pub begin: Nanos,
    /// End of the call with its last one.
    pub end: Nanos,
    /// Tokens of the prompt that were computed.
    pub prompt_tokens: u32,
    /// Tokens before those: from an earlier request, or copied.
    pub reused_tokens: u32,
    /// Tokens of output that the model gave; `None` when that is not certain.
    pub generated_tokens: Option<u32>,
    /// End of the call that gives the first output; `None` when the recording does
    /// not have it.
    pub first_output: Option<Nanos>,
    /// End of the call that gives the last one.
    pub last_output: Option<Nanos>,
    /// Whether the recording has its beginning.
    pub whole: bool,
    /// Micro-batches that computed it.
    pub ubatches: u32,
    /// Of these, those with other sequences, too.
    pub shared_ubatches: u32,
    /// Calls that failed.
    pub failed: u32,
}

impl Request {
    /// Time to first token, from the begin of the first micro-batch.
    pub fn ttft_nanos(&self) -> Option<u64> {
        self.whole.then_some(self.first_output?.saturating_sub(self.begin))
    }

    /// Time per output token after the first.
    pub fn tpot_nanos(&self) -> Option<u64> {
        let after = u64::from(self.generated_tokens?.checked_sub(1).filter(|after| *after > 0)?);
        Some(self.last_output?.saturating_sub(self.first_output?) / after)
    }
}

/// A request while its steps are gathered.
struct Open {
    request: Request,
    /// Its last step, with positions where shifts have moved them.
    last: Step,
    /// Whether the prompt is behind it.
    generates: bool,
}

/// The requests of all sequences, by begin.
pub fn requests(trace: &Trace) -> Vec<Request> {
    let sequences = trace.inference.sequences.iter();
    let mut sharing: HashMap<u32, u32> = HashMap::new();
    let mut before = (NONE, NONE);
    for run in sequences {
        if before != (run.ubatch, run.sequence) {
            *sharing.entry(run.ubatch).or_default() += 1;
        }
        before = (run.ubatch, run.sequence);
    }
    let accepted: HashMap<(u32, u32), u32> =
        trace.inference.speculations.iter().map(|row| ((row.ubatch, row.sequence), row.accepted)).collect();
    let mut all = Vec::new();
    for (key, steps) in steps(trace) {
        let mut moves = trace.inference.kv.iter().filter(|row| concerns(row, key)).peekable();
        let mut open: Option<Open> = None;
        for step in steps {
            let mut removed = None;
            while let Some(row) = moves.next_if(|row| row.time < step.range.begin) {
                if let Some(open) = &mut open {
                    shift(row, &mut open.last);
                }
                if row.operation == KvOperation::Remove as u8 && row.end == NONE {
                    removed = Some(row.begin);
                }
            }
            let next = open.as_ref().is_none_or(|open| begins_another(open, &step));
            if let Some(open) = &mut open {
                // How far the step before came is known once the next one begins.
                let came = (!next).then_some(step.position).or(removed);
                let accepted = accepted.get(&(open.last.ubatch, key.sequence)).copied();
                open.count(came, accepted);
            }
            if next {
                let before = open.take();
                open = Some(Open::new(key, &step, before.is_some()));
                all.extend(before.map(|open| open.request));
            }
            if let Some(open) = &mut open {
                open.add(&step, sharing.get(&step.ubatch).copied().unwrap_or(1));
            }
        }
        if let Some(mut open) = open {
            let accepted = accepted.get(&(open.last.ubatch, key.sequence)).copied();
            open.count(moves.filter(|row| row.end == NONE).map(|row| row.begin).next(), accepted);
            all.push(open.request);
        }
    }
    all.sort_by_key(|request| (request.begin, request.key));
    all
}

/// Whether an operation is on this sequence, as far as is known.
fn concerns(row: &KvOperationRow, key: SequenceKey) -> bool {
    row.process == key.process
        && (row.context == key.context || row.context == NONE)
        && (row.sequence == key.sequence || row.sequence == ALL_SEQUENCES)
}

/// Moves positions as the KV cache does.
fn shift(row: &KvOperationRow, last: &mut Step) {
    if row.operation != KvOperation::Add as u8 || !(row.begin..row.end).contains(&last.last) {
        return;
    }
    let by = row.value as i32;
    last.last = last.last.saturating_add_signed(by);
    last.position = last.position.saturating_add_signed(by);
}

fn begins_another(open: &Open, step: &Step) -> bool {
    let last = &open.last;
    if step.position <= last.position && step.ubatch != last.ubatch {
        return true;
    }
    if step.position <= last.last {
        // Drafted tokens are taken back, or the end of an answer is replaced.
        return last.outputs.is_none_or(|outputs| outputs < 2);
    }
    open.generates && step.outputs.is_some_and(|outputs| outputs < step.tokens)
}

impl Open {
    /// `follows`: another request on the sequence.
    fn new(key: SequenceKey, step: &Step, follows: bool) -> Self {
        // A generation of which the recording has no prompt looks like this.
        let in_the_middle = !follows && step.position > 0 && step.outputs == Some(step.tokens);
        let request = Request {
            key,
            begin: step.range.begin,
            reused_tokens: step.position,
            whole: !in_the_middle,
            ..Request::default()
        };
        Self { request, last: *step, generates: in_the_middle }
    }

    fn add(&mut self, step: &Step, sharing: u32) {
        let request = &mut self.request;
        request.ubatches += 1;
        request.shared_ubatches += u32::from(sharing > 1);
        request.end = step.call.end;
        self.last = *step;
        if step.failed {
            request.failed += 1;
            return;
        }
        if !self.generates {
            request.prompt_tokens = request.prompt_tokens.saturating_add(step.tokens);
        }
        if step.outputs.is_some_and(|outputs| outputs > 0) {
            self.generates = true;
            if request.first_output.is_none() {
                request.first_output = Some(step.call.end);
                request.generated_tokens = Some(0);
            }
            request.last_output = Some(step.call.end);
        }
    }

    /// Counts what the last step gave: one token, or as far as the sequence came
    /// after a draft was verified.
    fn count(&mut self, came: Option<u32>, accepted: Option<u32>) {
        let last = &self.last;
        let given = match last.outputs {
            Some(0) => Some(0),
            _ if last.failed => Some(0),
            Some(1) => Some(1),
            Some(_) => accepted
                .map(|accepted| accepted.saturating_add(1))
                .or_else(|| came?.checked_sub(last.position).filter(|count| *count <= last.tokens)),
            None => None,
        };
        let generated = self.request.generated_tokens;
        self.request.generated_tokens = generated.zip(given).map(|(sum, given)| sum.saturating_add(given));
    }
}
