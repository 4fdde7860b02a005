//! Small traces with what a test wants to be wrong or missing in them.

use egui::vec2;
use egui_kittest::Harness;
use llmtrace_analysis::format::meta::{Ending, Graph, Level, Recording, Target, Tensor};
use llmtrace_analysis::format::tables::{Decode, GraphSpan, Thread, Ubatch};
use llmtrace_analysis::format::{Header, OpSpan, Writer};
use llmtrace_viewer::app::ViewerApp;
use llmtrace_viewer::memo::Jobs;
use llmtrace_viewer::recent::Store;
use std::path::Path;

/// Nanoseconds from one token to the next.
pub(crate) const TOKEN: u64 = 2_000_000;
/// Nanoseconds of a node.
pub(crate) const NODE: u64 = 100_000;

/// What a trace is to have.
pub(crate) struct Made {
    pub(crate) tokens: u32,
    pub(crate) threads: u32,
    pub(crate) nodes: u32,
    /// Whether graphs are described.
    pub(crate) graphs: bool,
    /// Names of nodes by token and node: by default the same in each token.
    pub(crate) name: fn(u32, u32) -> String,
    /// Tokens of which operators are recorded.
    pub(crate) operators: fn(u32) -> bool,
    pub(crate) level: Level,
    /// What else to write.
    pub(crate) more: fn(&mut Writer<Vec<u8>>),
}

impl Default for Made {
    fn default() -> Self {
        Self {
            tokens: 12,
            threads: 2,
            nodes: 6,
            graphs: true,
            name: |_, node| format!("ffn_up-{node}"),
            operators: |_| true,
            level: Level::Thread,
            more: |_| {},
        }
    }
}

impl Made {
    /// When a token begins.
    pub(crate) fn begin(token: u32) -> u64 {
        1_000_000 + u64::from(token) * TOKEN
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), Header::new(1, 1)).unwrap();
        let target = Target { pid: 70, exe: "made".into(), ..Target::default() };
        let recording =
            Recording { level_asked: self.level, level: self.level, target, ..Recording::default() };
        writer.write_recording(&recording).unwrap();
        (0..self.threads).for_each(|ith| writer.push_thread(Thread { id: ith, ith, tid: 70 + ith, pid: 70 }));
        let same = (self.name)(0, 0) == (self.name)(1, 0);
        for token in 0..self.tokens {
            let graph = if same { 0 } else { token };
            if self.graphs && (token == 0 || !same) {
                self.graph(&mut writer, graph);
            }
            self.token(&mut writer, token, graph);
        }
        (self.more)(&mut writer);
        let end_nanos = Self::begin(self.tokens) + TOKEN;
        writer.finish(&Ending { reason: "made".into(), end_nanos, ..Ending::default() }).unwrap()
    }

    fn graph(&self, writer: &mut Writer<Vec<u8>>, id: u32) {
        let (op, none) = (writer.string("MUL_MAT"), writer.string("NONE"));
        let tensor = |name, op, sources| Tensor {
            name,
            op,
            ne: [64, 64, 1, 1],
            nb: [4, 256, 16_384, 16_384],
            sources,
            ..Tensor::default()
        };
        let mut tensors = Vec::new();
        for node in 0..self.nodes {
            let name = writer.string(&(self.name)(id, node));
            let mut sources = vec![self.nodes + node];
            sources.extend(node.checked_sub(1));
            tensors.push(tensor(name, op, sources));
        }
        for node in 0..self.nodes {
            let name = writer.string(&format!("blk.{node}.ffn_up.weight"));
            tensors.push(tensor(name, none, Vec::new()));
        }
        writer.write_graph(&Graph { id, tensors, nodes: self.nodes }).unwrap();
    }

    fn token(&self, writer: &mut Writer<Vec<u8>>, token: u32, graph: u32) {
        let begin = Self::begin(token);
        let end = begin + u64::from(self.nodes) * NODE + 20_000;
        let decode = Decode { id: token, begin, end: end + 2000, tid: 70, tokens: 1, ..Decode::default() };
        writer.push_decode(decode);
        writer.push_ubatch(Ubatch {
            id: token,
            begin: begin + 1000,
            end: end + 1000,
            decode: token,
            tokens: 1,
            sequences: 1,
            phase: 2,
        });
        writer.push_graph_span(GraphSpan {
            id: token,
            begin: begin + 2000,
            end,
            graph,
            ubatch: token,
            threads: self.threads,
            tid: 70,
            ..GraphSpan::default()
        });
        if !(self.operators)(token) {
            return;
        }
        for ith in 0..self.threads {
            for node in 0..self.nodes {
                let compute = NODE - 10_000 - u64::from(ith) * 5000;
                let span = OpSpan {
                    begin: begin + 4000 + u64::from(node) * NODE,
                    compute,
                    wait: NODE - 8000 - compute,
                    node,
                    fused: 0,
                    graph_span: token,
                    thread: ith,
                    cpu: ith,
                    touched_by_loss: false,
                };
                writer.push_op_span(ith, span).unwrap();
            }
        }
    }

    /// The file in the app.
    pub(crate) fn open(&self, folder: &Path) -> Harness<'static, ViewerApp> {
        let path = folder.join("made.llmtrace");
        std::fs::write(&path, self.bytes()).unwrap();
        let mut harness = Harness::builder()
            .with_size(vec2(1280.0, 900.0))
            .with_max_steps(60)
            .build_eframe(|creation| ViewerApp::new(&creation.egui_ctx, Store::default(), Jobs::Inline));
        let context = harness.ctx.clone();
        harness.state_mut().open(&context, path);
        harness.run_steps(4);
        harness
    }
}
