//! Reads a graph's nodes from the target's memory, once for each graph.
//!
//! Nothing is believed that does not validate: an operator or type outside of
//! the target's own tables, a name that is no text, a dimension below zero make
//! the graph unknown. A graph with the same content as an earlier one gets its
//! id, wherever it lies in memory.

use super::assemble::DescribeGraph;
use super::memory::ProcessMemory;
use super::rows::{Ids, next};
use crate::binary::{Learned, TensorLayout};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// More nodes than any real graph has; keeps a wrong read from costing memory.
const MAX_NODES: u32 = 1 << 17;
const NAME_BYTES: usize = 64;
/// Multiplies by the weights of the experts that each token is sent to.
pub(super) const MUL_MAT_ID: &str = "MUL_MAT_ID";
/// Graphs remembered by address; engines alternate between very few.
const MAX_REMEMBERED: usize = 256;

/// Field offsets of `struct ggml_tensor` that are the same in all versions of
/// [`TensorLayout`].
mod offset {
    pub(super) const TYPE: usize = 0;
    pub(super) const NE: usize = 16;
    pub(super) const NB: usize = 48;
    pub(super) const FLAGS: usize = 148;
}
const SOURCES: usize = 10;
/// Of `uid` in `struct ggml_cgraph`, as in the BPF program.
const UID_OFFSET: u64 = 88;

/// A call of the function that computes a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct GraphCall {
    /// Address of the graph.
    pub(super) graph: u64,
    /// Its number, where the build numbers graphs.
    pub(super) uid: u64,
    /// Address of the list of its nodes.
    pub(super) nodes: u64,
    /// How many they are.
    pub(super) count: u32,
}

/// A graph whose nodes are known by address.
#[derive(Debug)]
pub(super) struct KnownGraph {
    /// Its id in the file.
    pub(super) id: u32,
    /// Address of each node, in order of execution.
    order: Vec<u64>,
    by_address: HashMap<u64, u32>,
    structure: u64,
    /// Selections of experts that its nodes use.
    pub(super) gates: Vec<Gate>,
}

/// A selection of experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gate {
    /// Address of its tensor.
    pub(super) ids: u64,
    /// The first `MUL_MAT_ID` that uses it.
    pub(super) node: u32,
    /// Experts of each token, tokens, and experts to choose from.
    pub(super) used: u32,
    pub(super) tokens: u32,
    pub(super) experts: u32,
}

impl KnownGraph {
    pub(super) fn new(id: u32, order: Vec<u64>, structure: u64) -> Self {
        let by_address = order.iter().enumerate().map(|(index, &address)| (address, index as u32)).collect();
        Self { id, order, by_address, structure, gates: Vec::new() }
    }

    /// Equal for graphs whose nodes are computed in the same order.
    pub(super) fn structure(&self) -> u64 {
        self.structure
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The node at `tensor`; it is probably `expected` or one of the next, as
    /// only views lie between nodes that are computed.
    pub(super) fn node(&self, tensor: u64, expected: u32) -> Option<u32> {
        let near = self.order.get(expected as usize..)?.iter().take(6).position(|&address| address == tensor);
        match near {
            Some(near) => Some(expected + near as u32),
            None => self.by_address.get(&tensor).copied(),
        }
    }
}

/// A graph as read, with text in place of string ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct RawGraph {
    pub(super) tensors: Vec<RawTensor>,
    pub(super) nodes: u32,
}

impl RawGraph {
    /// What decides which nodes are computed, in which order, and fused to which:
    /// operators, flags, sources, and emptiness, but no sizes.
    fn structure(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for tensor in self.tensors.iter().take(self.nodes as usize) {
            let empty = tensor.ne.contains(&0);
            (tensor.op, tensor.flags, empty, &tensor.sources, tensor.variant()).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What makes it another graph: everything but where views begin, which in
    /// builds before mid-2025 moves with every token through the KV cache.
    fn identity(&self) -> u128 {
        let half = |seed: u8| {
            let mut hasher = DefaultHasher::new();
            (seed, self.nodes).hash(&mut hasher);
            for tensor in &self.tensors {
                let RawTensor { name, op, tensor_type, ne, nb, flags, sources, view_of, .. } = tensor;
                (name, op, tensor_type, ne, nb, flags).hash(&mut hasher);
                (sources, view_of, tensor.variant()).hash(&mut hasher);
                if view_of.is_none() {
                    tensor.op_params.hash(&mut hasher);
                }
            }
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }
}

/// A tensor as read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct RawTensor {
    pub(super) name: String,
    pub(super) op: u32,
    pub(super) tensor_type: u32,
    pub(super) ne: [i64; 4],
    pub(super) nb: [u64; 4],
    pub(super) flags: i32,
    pub(super) op_params: [i32; 16],
    pub(super) sources: Vec<u32>,
    pub(super) view_of: Option<u32>,
    pub(super) view_offset: u64,
}

impl RawTensor {
    /// The first parameter, which says which unary or gated function it is; in
    /// a view it is an offset and says nothing.
    fn variant(&self) -> Option<i32> {
        self.op_params.first().copied().filter(|_| self.view_of.is_none())
    }
}

/// Reads and remembers graphs.
pub(super) struct GraphReader {
    memory: ProcessMemory,
    /// The target's tables; `None` until they are known to be readable.
    pub(super) learned: Option<Rc<Learned>>,
    /// Whether the build numbers its graphs, so that an equal number is an
    /// equal graph.
    pub(super) has_uid: bool,
    /// Where a context has the address of its KV cache.
    pub(super) memory_offset: Option<u32>,
    remembered: HashMap<GraphCall, Rc<KnownGraph>>,
    /// Whether the last graph had to be read, as it was not remembered.
    pub(super) was_read: bool,
    ids: HashMap<u128, u32>,
    numbers: Rc<Ids>,
    /// Graphs not yet written, with their ids.
    pub(super) fresh: Vec<(u32, RawGraph)>,
}

impl GraphReader {
    pub(super) fn new(memory: ProcessMemory, numbers: Rc<Ids>) -> Self {
        Self {
            memory,
            learned: None,
            has_uid: false,
            memory_offset: None,
            remembered: HashMap::new(),
            was_read: true,
            ids: HashMap::new(),
            numbers,
            fresh: Vec::new(),
        }
    }

    fn read(&mut self, call: &GraphCall) -> Option<KnownGraph> {
        if call.count == 0 || call.count > MAX_NODES {
            return None;
        }
        let learned = self.learned.clone()?;
        let order = self.memory.read_words(call.nodes, call.count as usize)?;
        let (raw, addresses) = read_graph(&self.memory, &learned, &order)?;
        let gates = gates(&raw, &addresses, learned.op(MUL_MAT_ID));
        let structure = raw.structure();
        let identity = raw.identity();
        let id = match self.ids.get(&identity) {
            Some(&id) => id,
            None => {
                if self.ids.len() >= llmtrace_format::MAX_LIVE_GRAPHS {
                    // What is seen again is written again, under a new id.
                    self.ids.clear();
                    self.remembered.clear();
                }
                let id = next(&self.numbers.graph);
                self.ids.insert(identity, id);
                self.fresh.push((id, raw));
                id
            }
        };
        Some(KnownGraph { gates, ..KnownGraph::new(id, order, structure) })
    }
}

impl DescribeGraph for GraphReader {
    fn describe(&mut self, call: &GraphCall) -> Option<Rc<KnownGraph>> {
        // 0 means that the graph has no number.
        let has_uid = self.has_uid && call.uid != 0;
        self.was_read = true;
        if has_uid && let Some(known) = self.remembered.get(call) {
            self.was_read = false;
            return Some(known.clone());
        }
        let known = Rc::new(self.read(call)?);
        // An engine that makes each graph anew may have the next one there by now: of as
        // many nodes, else this one is unknown, and not to be remembered by this number.
        let now = self.memory.read_words(call.graph + UID_OFFSET, 1)?;
        if self.memory.read_words(call.graph, 1)?.first().map(|word| (word >> 32) as u32) != Some(call.count)
        {
            return None;
        }
        if has_uid && now == [call.uid] {
            if self.remembered.len() >= MAX_REMEMBERED {
                self.remembered.clear();
            }
            self.remembered.insert(*call, known.clone());
        }
        Some(known)
    }

    fn memory_of(&mut self, context: u64) -> Option<u64> {
        let field = context.checked_add(self.memory_offset?.into())?;
        self.memory.read_words(field, 1)?.first().copied().filter(|&address| address != 0)
    }
}

/// Reads the nodes, then the weights and inputs that they refer to.
/// With the address of each.
fn read_graph(memory: &ProcessMemory, learned: &Learned, order: &[u64]) -> Option<(RawGraph, Vec<u64>)> {
    // Up to the end of the name.
    let record_bytes = learned.tensor.name as usize + NAME_BYTES;
    let mut bytes = memory.read_records(order, record_bytes)?;
    let mut index: HashMap<u64, u32> = HashMap::with_capacity(order.len() * 2);
    for (at, &address) in order.iter().enumerate() {
        index.insert(address, at as u32);
    }
    let mut leaves = Vec::new();
    let mut seen: HashSet<u64> = order.iter().copied().collect();
    for record in bytes.chunks_exact(record_bytes) {
        for address in references(record, &learned.tensor) {
            if address != 0 && seen.insert(address) {
                index.insert(address, (order.len() + leaves.len()) as u32);
                leaves.push(address);
            }
        }
    }
    bytes.extend(memory.read_records(&leaves, record_bytes)?);
    let tensors: Option<Vec<RawTensor>> =
        bytes.chunks_exact(record_bytes).map(|record| parse_tensor(record, learned, &index)).collect();
    let addresses = order.iter().chain(&leaves).copied().collect();
    Some((RawGraph { tensors: tensors?, nodes: order.len() as u32 }, addresses))
}

/// The selections that nodes with the operator `op` use.
fn gates(raw: &RawGraph, addresses: &[u64], op: Option<u32>) -> Vec<Gate> {
    let mut gates: Vec<Gate> = Vec::new();
    let nodes = raw.tensors.iter().take(raw.nodes as usize).zip(0..);
    for (tensor, node) in nodes.filter(|(tensor, _)| Some(tensor.op) == op) {
        let &[weights, _, ids, ..] = &tensor.sources[..] else { continue };
        let (weights, selection) = (raw.tensors.get(weights as usize), raw.tensors.get(ids as usize));
        let (Some(weights), Some(selection), Some(&ids)) = (weights, selection, addresses.get(ids as usize))
        else {
            continue;
        };
        if gates.iter().all(|gate| gate.ids != ids) {
            let small = |n: i64| u32::try_from(n).unwrap_or(0);
            let ([used, tokens, ..], [_, _, experts, _]) = (selection.ne.map(small), weights.ne.map(small));
            gates.push(Gate { ids, node, used, tokens, experts });
        }
    }
    gates
}

fn references(record: &[u8], layout: &TensorLayout) -> impl Iterator<Item = u64> {
    sources(record, layout).chain([word(record, layout.view_source as usize)])
}

fn sources(record: &[u8], layout: &TensorLayout) -> impl Iterator<Item = u64> {
    (0..SOURCES).map(|i| word(record, layout.sources as usize + 8 * i))
}

fn parse_tensor(record: &[u8], learned: &Learned, index: &HashMap<u64, u32>) -> Option<RawTensor> {
    let int =
        |at: usize| record.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_le_bytes);
    let op = u32::try_from(int(learned.tensor_op_offset as usize)).ok()?;
    let tensor_type = u32::try_from(int(offset::TYPE)).ok()?;
    learned.ops.get(op as usize)?;
    learned.types.get(tensor_type as usize).filter(|known| !known.name.is_empty())?;
    let ne: [i64; 4] = std::array::from_fn(|i| word(record, offset::NE + 8 * i) as i64);
    if ne.iter().any(|&n| n < 0) {
        return None;
    }
    let layout = &learned.tensor;
    let name = record.get(layout.name as usize..)?;
    let name = name.split(|&byte| byte == 0).next()?;
    let name = std::str::from_utf8(name).ok().filter(|name| !name.chars().any(char::is_control))?;
    let params = learned.op_params_offset as usize;
    // Sources of a node are all in the index; those of weights are not read.
    let sources = sources(record, layout).take_while(|&address| address != 0);
    Some(RawTensor {
        name: name.to_owned(),
        op,
        tensor_type,
        ne,
        nb: std::array::from_fn(|i| word(record, offset::NB + 8 * i)),
        flags: int(offset::FLAGS),
        op_params: std::array::from_fn(|i| int(params + 4 * i)),
        sources: sources.filter_map(|address| index.get(&address).copied()).collect(),
        view_of: index.get(&word(record, layout.view_source as usize)).copied(),
        view_offset: word(record, layout.view_offset as usize),
    })
}

fn word(record: &[u8], at: usize) -> u64 {
    record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_that_moves_makes_no_new_graph() {
        let graph = |offset: u64, n: i64, param: i32| {
            let view = RawTensor { view_of: Some(1), view_offset: offset, ..RawTensor::default() };
            let view = RawTensor { op_params: [offset as i32; 16], ..view };
            let other = RawTensor { ne: [n, 1, 1, 1], op_params: [param; 16], ..RawTensor::default() };
            RawGraph { tensors: vec![view, other], nodes: 2 }
        };
        assert_eq!(graph(0, 5, 1).identity(), graph(64, 5, 1).identity());
        assert_eq!(graph(0, 5, 1).structure(), graph(64, 5, 1).structure());
        assert_ne!(graph(0, 5, 1).identity(), graph(0, 6, 1).identity());
        assert_ne!(graph(0, 5, 1).identity(), graph(0, 5, 2).identity());
        assert_eq!(graph(0, 5, 1).structure(), graph(0, 6, 1).structure());
    }

    #[test]
    fn nodes_that_share_a_selection_are_one_gate() {
        let expert =
            |weights, ids| RawTensor { op: 9, sources: vec![weights, 0, ids], ..RawTensor::default() };
        let weights = RawTensor { ne: [64, 32, 128, 1], ..RawTensor::default() };
        let ids = RawTensor { ne: [8, 5, 1, 1], ..RawTensor::default() };
        let tensors = vec![ids.clone(), expert(4, 0), expert(4, 0), expert(4, 5), weights, ids];
        let raw = RawGraph { tensors, nodes: 4 };
        let addresses = [100, 101, 102, 103, 104, 105];
        let gate = |ids, node| Gate { ids, node, used: 8, tokens: 5, experts: 128 };
        assert_eq!(gates(&raw, &addresses, Some(9)), [gate(100, 1), gate(105, 3)]);
        assert_eq!(gates(&raw, &addresses, None), []);
    }

    #[test]
    fn nodes_are_found_near_and_far() {
        let graph = KnownGraph::new(0, (0..100).map(|i| 1000 + i * 336).collect(), 0);
        assert_eq!(graph.node(1000 + 5 * 336, 3), Some(5));
        assert_eq!(graph.node(1000 + 50 * 336, 3), Some(50));
        assert_eq!(graph.node(1000, 99), Some(0));
        assert_eq!(graph.node(1001, 0), None);
        assert_eq!(graph.len(), 100);
    }
}
