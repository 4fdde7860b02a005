//! What the target says about itself: names of operations and types, field offsets, versions.
//!
//! `enum ggml_op` had more than fifty versions, and no number in it may be assumed. The accessor
//! functions of ggml know the right ones; we read their code (`affine`) and the tables that it
//! points to (`tables`). Operations and types are indispensable and validated. A field offset
//! whose accessor is missing falls back to the layout of `struct ggml_tensor` and
//! `struct ggml_cgraph` that has been in use since November 2024; [`Learned::assumed`] names them.
//! Fields without an accessor follow from where the name lies, which tells the layouts apart.

use super::BinaryError;
use super::tables::{Column, Memory, TypeInfo, read_names, read_types};
use super::target::{Located, TaggedField, Target};

/// `ggml_tensor.op`, 2024-11 until now.
const DEFAULT_TENSOR_OP_OFFSET: u32 = 80;
/// `ggml_tensor.op_params`, 2024-11 until now.
const DEFAULT_OP_PARAMS_OFFSET: u32 = 84;
/// `ggml_cgraph.n_nodes` and `.nodes`, 2023-10 until now; the BPF program reads them there.
const GRAPH_OFFSETS: [u32; 2] = [4, 16];
/// `ggml_type_traits.blck_size` and `.type_size` relative to `.type_name`.
const DEFAULT_TYPE_FIELDS: [u64; 2] = [8, 24];

/// Where the fields of `struct ggml_tensor` lie that no accessor tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorLayout {
    /// Offset of `name`, which an accessor does tell.
    pub(crate) name: u32,
    /// Offset of `src`.
    pub(crate) sources: u32,
    /// Offset of `view_src`.
    pub(crate) view_source: u32,
    /// Offset of `view_offs`.
    pub(crate) view_offset: u32,
}

/// Every layout since the end of 2023, the newest first.
const TENSOR_LAYOUTS: [TensorLayout; 3] = [
    // Since 2024-11-16.
    TensorLayout { name: 256, sources: 152, view_source: 232, view_offset: 240 },
    // Since 2024-06-26; `grad` comes before `src`.
    TensorLayout { name: 264, sources: 160, view_source: 240, view_offset: 248 },
    // Since 2023-12-22, with times and counts of performance behind `src`.
    TensorLayout { name: 288, sources: 160, view_source: 264, view_offset: 272 },
];

impl TensorLayout {
    /// Whether it is the one that the kernel side reads.
    pub(crate) fn is_newest(&self) -> bool {
        TENSOR_LAYOUTS.first() == Some(self)
    }
}

/// Offsets of functions in `struct ggml_backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackendLayout {
    pub(crate) get_name: u32,
    pub(crate) synchronize: u32,
    pub(crate) graph_compute: u32,
    /// The backend's device, and in it the functions that tell its name and what it is.
    pub(crate) device: Option<[u32; 3]>,
}

impl BackendLayout {
    /// Of the function that copies from another backend: in all versions the one before.
    pub(crate) fn copy_tensor(&self) -> u32 {
        self.synchronize - 8
    }

    /// Whether it can be one: pointers behind the backend's id, in their order.
    fn is_plausible(&self) -> bool {
        let offsets = [self.get_name, self.synchronize, self.graph_compute];
        offsets.is_sorted_by(|a, b| a < b)
            && offsets.iter().all(|offset| offset % 8 == 0 && (8..256).contains(offset))
    }
}

/// What tells which memory a tensor is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryLayout {
    /// Offset in `struct ggml_backend_buffer` of its type.
    pub(crate) buffer_type: u32,
    /// Offsets in `struct ggml_backend_buffer_type`: functions that tell its name and whether
    /// it is the host's.
    pub(crate) get_name: u32,
    pub(crate) is_host: u32,
    /// Offset in the same of the device that it is of.
    pub(crate) device: u32,
}

/// Everything learned from one copy of ggml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    /// Names by `enum ggml_op`.
    pub(crate) ops: Vec<String>,
    /// Names by `enum ggml_unary_op`; empty if unknown.
    pub(crate) unary: Vec<String>,
    /// Names by `enum ggml_glu_op`; empty if unknown, as before 2025-06.
    pub(crate) glu: Vec<String>,
    /// By `enum ggml_type`.
    pub(crate) types: Vec<TypeInfo>,
    /// Where the fields of `ggml_tensor` lie.
    pub(crate) tensor: TensorLayout,
    /// Offset of `ggml_tensor.op`.
    pub(crate) tensor_op_offset: u32,
    /// Offset of `ggml_tensor.op_params`, whose first word is the unary or GLU operation.
    pub(crate) op_params_offset: u32,
    /// The number of `GGML_OP_UNARY`.
    pub(crate) unary_op: Option<u32>,
    /// The number of `GGML_OP_GLU`.
    pub(crate) glu_op: Option<u32>,
    /// Where a backend's functions lie; `None` when that is not told, or in doubt.
    pub(crate) backend: Option<BackendLayout>,
    /// What tells where tensors lie; `None` when that is not told.
    pub(crate) memory: Option<MemoryLayout>,
    /// `ggml_version()`, since 2025-07.
    pub(crate) ggml_version: Option<String>,
    /// `ggml_commit()`, since 2025-07.
    pub(crate) ggml_commit: Option<String>,
    /// `llama_version()`, since 2026-08.
    pub(crate) llama_version: Option<String>,
    /// Accessors that were missing or not understood, so that a documented default was taken.
    pub(crate) assumed: Vec<&'static str>,
}

impl Learned {
    /// The number of an operator.
    pub(crate) fn op(&self, name: &str) -> Option<u32> {
        self.ops.iter().position(|op| op == name).map(|op| op as u32)
    }
}

/// Reads all that is to be known; `find` gives the functions of the target by symbol.
pub(crate) fn learn(
    find: &dyn Fn(&str) -> Option<Located>,
    mem: &dyn Memory,
) -> Result<Learned, BinaryError> {
    let target = Target { find, mem };
    let ops = learn_ops(&target)?;
    let types = learn_types(&target)?;
    let unary_fields = target.tagged_field("ggml_get_unary_op");
    let glu_fields = target.tagged_field("ggml_get_glu_op");
    let unary_op = number_of(&ops, "UNARY", unary_fields)?;
    let glu_op = number_of(&ops, "GLU", glu_fields)?;
    let mut assumed = Vec::new();
    let mut or_assume = |offset: Option<u32>, default, accessor| {
        offset.unwrap_or_else(|| {
            assumed.push(accessor);
            default
        })
    };
    let fields = unary_fields.or(glu_fields);
    let [newest, ..] = TENSOR_LAYOUTS;
    let name = or_assume(target.returned_offset("ggml_get_name"), newest.name, "ggml_get_name");
    let layout = TENSOR_LAYOUTS.into_iter().find(|layout| layout.name == name);
    let count =
        or_assume(target.loaded_offset("ggml_graph_n_nodes", 4), GRAPH_OFFSETS[0], "ggml_graph_n_nodes");
    let nodes = or_assume(target.loaded_offset("ggml_graph_nodes", 8), GRAPH_OFFSETS[1], "ggml_graph_nodes");
    if [count, nodes] != GRAPH_OFFSETS {
        return Err(BinaryError::UnknownGraph { count, nodes });
    }
    Ok(Learned {
        tensor: layout.ok_or(BinaryError::UnknownLayout { name_offset: name })?,
        unary: target.names("ggml_unary_op_name"),
        glu: target.names("ggml_glu_op_name"),
        tensor_op_offset: or_assume(
            fields.map(|fields| fields.tag_offset),
            DEFAULT_TENSOR_OP_OFFSET,
            "ggml_get_unary_op",
        ),
        // Comes from the same accessor, which is named once.
        op_params_offset: fields.map_or(DEFAULT_OP_PARAMS_OFFSET, |fields| fields.value_offset),
        backend: learn_backend(&target),
        memory: learn_memory(&target),
        ggml_version: target.text("ggml_version"),
        ggml_commit: target.text("ggml_commit"),
        llama_version: target.text("llama_version"),
        ops,
        types,
        unary_op,
        glu_op,
        assumed,
    })
}

fn learn_backend(target: &Target) -> Option<BackendLayout> {
    let layout = BackendLayout {
        get_name: target.loaded_offset("ggml_backend_name", 8)?,
        synchronize: target.loaded_offset("ggml_backend_synchronize", 8)?,
        graph_compute: target.loaded_offset("ggml_backend_graph_compute_async", 8)?,
        device: learn_device(target),
    };
    layout.is_plausible().then_some(layout)
}

fn learn_device(target: &Target) -> Option<[u32; 3]> {
    Some([
        target.loaded_offset("ggml_backend_get_device", 8)?,
        target.loaded_offset("ggml_backend_dev_name", 8)?,
        target.loaded_offset("ggml_backend_dev_description", 8)?,
    ])
}

fn learn_memory(target: &Target) -> Option<MemoryLayout> {
    Some(MemoryLayout {
        buffer_type: target.loaded_offset("ggml_backend_buffer_get_type", 8)?,
        get_name: target.loaded_offset("ggml_backend_buft_name", 8)?,
        is_host: target.loaded_offset("ggml_backend_buft_is_host", 8)?,
        device: target.loaded_offset("ggml_backend_buft_get_device", 8)?,
    })
}

fn learn_ops(target: &Target) -> Result<Vec<String>, BinaryError> {
    let column = target.require_column("ggml_op_name")?;
    if column.stride != 8 {
        return Err(BinaryError::UnknownCode { name: "ggml_op_name" });
    }
    let ops = read_names(target.mem, column.address, target.room_for(column));
    let implausible = |reason| Err(BinaryError::ImplausibleTable { table: "operation", reason });
    if ops.first().is_none_or(|first| first != "NONE") {
        return implausible("it does not begin with NONE");
    }
    if !["ADD", "MUL_MAT"].iter().all(|name| ops.iter().any(|op| op == name)) {
        return implausible("it lacks ADD or MUL_MAT");
    }
    let mut sorted: Vec<&String> = ops.iter().collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return implausible("a name occurs twice");
    }
    Ok(ops)
}

fn learn_types(target: &Target) -> Result<Vec<TypeInfo>, BinaryError> {
    let name = target.require_column("ggml_type_name")?;
    let [block_size, type_size] =
        DEFAULT_TYPE_FIELDS.map(|offset| Column { address: name.address.wrapping_add(offset), ..name });
    let block_size = target.column("ggml_blck_size").unwrap_or(block_size);
    let type_size = target.column("ggml_type_size").unwrap_or(type_size);
    let implausible = |reason| Err(BinaryError::ImplausibleTable { table: "type", reason });
    let is_same_table = |column: &Column| {
        column.stride == name.stride && column.address.wrapping_sub(name.address) < name.stride
    };
    if ![block_size, type_size].iter().all(is_same_table) {
        return implausible("its accessors disagree");
    }
    let types = read_types(target.mem, name, block_size, type_size, target.room_for(name));
    let has = |index: usize, name: &str, block_size, type_size| {
        types.get(index) == Some(&TypeInfo { name: name.to_owned(), block_size, type_size })
    };
    if !has(0, "f32", 1, 4) || !has(1, "f16", 1, 2) {
        return implausible("it does not begin with f32 and f16");
    }
    Ok(types)
}

/// The number of the operation called `name`, which must be the one its accessor compares with.
fn number_of(ops: &[String], name: &str, accessor: Option<TaggedField>) -> Result<Option<u32>, BinaryError> {
    let position = ops.iter().position(|op| op == name);
    if accessor.is_some_and(|fields| position.map(|at| at as u64) != Some(fields.tag)) {
        let reason = "an accessor compares with another number";
        return Err(BinaryError::ImplausibleTable { table: "operation", reason });
    }
    Ok(position.map(|at| at as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::fixtures::{Range, add_text, add_words};

    /// `lea rax, [rip + …]` to `target`, then the rest of the code.
    fn function(target: u64, rest: &[u8]) -> Located {
        let vaddr_runtime = 0x40_0000;
        let displacement = target.wrapping_sub(vaddr_runtime + 7) as u32;
        let mut code = vec![0x48, 0x8d, 0x05];
        code.extend(displacement.to_le_bytes());
        code.extend(rest);
        Located { code, vaddr_runtime }
    }

    /// `mov rax, [rax + rdi * 8 + field]; ret`, after multiplying rdi by `words` as a GCC does.
    fn lookup(table: u64, words: u8, field: u8) -> Located {
        // imul rdi, rdi, words
        let multiply = [0x48, 0x6b, 0xff, words];
        let load = [0x48, 0x8b, 0x44, 0xf8, field, 0xc3];
        function(table, &[&multiply[..], &load].concat())
    }

    struct Fake {
        memory: Range,
        functions: Vec<(&'static str, Located)>,
    }

    fn fake() -> Fake {
        let mut memory = Range { start: 0x10_0000, bytes: Vec::new() };
        let mut strings =
            |texts: &[&str]| -> Vec<u64> { texts.iter().map(|text| add_text(&mut memory, text)).collect() };
        let ops = strings(&["NONE", "ADD", "MUL_MAT", "UNARY", "GLU"]);
        let unary = strings(&["ABS", "NEG"]);
        let names = strings(&["f32", "f16", "q8_0"]);
        let version = strings(&["0.25.1"]);
        // The unary names follow the operations without a gap: only the bound keeps them apart.
        let ops = add_words(&mut memory, &ops);
        let unary = add_words(&mut memory, &unary);
        add_words(&mut memory, &[0]);
        let sizes = [[1, 4], [1, 2], [32, 34]];
        let traits: Vec<u64> = names.iter().zip(sizes).flat_map(|(&n, [b, t])| [n, b, t]).collect();
        let types = add_words(&mut memory, &traits);
        memory.bytes.extend([0; 256]);
        let version = version.first().copied().unwrap_or_default();
        let functions = vec![
            ("ggml_op_name", lookup(ops, 1, 0)),
            ("ggml_unary_op_name", lookup(unary, 1, 0)),
            ("ggml_type_name", lookup(types, 3, 0)),
            ("ggml_blck_size", lookup(types, 3, 8)),
            ("ggml_type_size", lookup(types, 3, 16)),
            ("ggml_version", function(version, &[0xc3])),
            ("ggml_commit", Located { code: vec![0x31, 0xc0, 0xc3], vaddr_runtime: 0 }),
            ("ggml_get_unary_op", accessor(UNARY_OP)),
        ];
        Fake { memory, functions }
    }

    fn accessor(code: &[u8]) -> Located {
        Located { code: code.to_vec(), vaddr_runtime: 0x50_0000 }
    }

    /// cmp dword [rdi+0x58], 3; jne +3; mov eax, [rdi+0x5c]; ret
    const UNARY_OP: &[u8] = &[0x83, 0x7f, 0x58, 3, 0x75, 3, 0x8b, 0x47, 0x5c, 0xc3];

    impl Fake {
        fn learn(&self) -> Result<Learned, BinaryError> {
            let find = |name: &str| self.functions.iter().find(|(n, _)| *n == name).map(|(_, f)| f.clone());
            learn(&find, &self.memory)
        }

        fn replace(&mut self, name: &str, located: Located) {
            for (_, f) in self.functions.iter_mut().filter(|(n, _)| *n == name) {
                *f = located.clone();
            }
        }
    }

    #[test]
    fn everything_is_learned_from_accessors() -> Result<(), BinaryError> {
        let learned = fake().learn()?;
        assert_eq!(learned.ops, ["NONE", "ADD", "MUL_MAT", "UNARY", "GLU"]);
        assert_eq!(learned.unary, ["ABS", "NEG"]);
        assert!(learned.glu.is_empty());
        let q8 = TypeInfo { name: "q8_0".to_owned(), block_size: 32, type_size: 34 };
        assert_eq!(learned.types.get(2), Some(&q8));
        assert_eq!((learned.unary_op, learned.glu_op), (Some(3), Some(4)));
        assert_eq!((learned.tensor_op_offset, learned.op_params_offset), (0x58, 0x5c));
        assert_eq!(learned.ggml_version.as_deref(), Some("0.25.1"));
        assert_eq!(learned.ggml_commit, None);
        Ok(())
    }

    #[test]
    fn defaults_are_reported() -> Result<(), BinaryError> {
        let learned = fake().learn()?;
        assert_eq!(learned.tensor, TENSOR_LAYOUTS[0]);
        assert_eq!(learned.assumed, ["ggml_get_name", "ggml_graph_n_nodes", "ggml_graph_nodes"]);
        assert_eq!(learned.backend, None);
        Ok(())
    }

    #[test]
    fn another_graph_than_the_kernel_side_reads_is_refused() -> Result<(), BinaryError> {
        let mut fake = fake();
        // mov eax, [rdi + 4]; ret
        fake.functions.push(("ggml_graph_n_nodes", accessor(&[0x8b, 0x47, 4, 0xc3])));
        fake.learn()?;
        fake.replace("ggml_graph_n_nodes", accessor(&[0x8b, 0x47, 8, 0xc3]));
        assert!(matches!(fake.learn(), Err(BinaryError::UnknownGraph { count: 8, nodes: 16 })));
        Ok(())
    }

    #[test]
    fn a_backends_functions_are_where_its_accessors_jump_to() -> Result<(), BinaryError> {
        let mut fake = fake();
        // test rdi, rdi; je +3; jmp [rdi + offset]
        let through = |offset: u8| accessor(&[0x48, 0x85, 0xff, 0x74, 3, 0xff, 0x67, offset, 0xc3]);
        for (name, offset) in [
            ("ggml_backend_name", 8),
            ("ggml_backend_synchronize", 64),
            ("ggml_backend_graph_compute_async", 104),
        ] {
            fake.functions.push((name, through(offset)));
        }
        let layout = BackendLayout { get_name: 8, synchronize: 64, graph_compute: 104, device: None };
        assert_eq!(fake.learn()?.backend, Some(layout));
        // In another order they are not believed.
        fake.replace("ggml_backend_name", through(96));
        assert_eq!(fake.learn()?.backend, None);
        Ok(())
    }

    /// lea rax, [rdi + offset]; ret
    fn name_at(offset: u32) -> Located {
        accessor(&[&[0x48, 0x8d, 0x87][..], &offset.to_le_bytes(), &[0xc3]].concat())
    }

    #[test]
    fn the_place_of_the_name_tells_the_layout() -> Result<(), BinaryError> {
        let mut fake = fake();
        fake.functions.push(("ggml_get_name", name_at(264)));
        assert_eq!(fake.learn()?.tensor.sources, 160);
        fake.replace("ggml_get_name", name_at(272));
        let unknown = BinaryError::UnknownLayout { name_offset: 272 };
        assert_eq!(fake.learn().map_err(|e| e.to_string()), Err(unknown.to_string()));
        Ok(())
    }

    #[test]
    fn a_missing_operation_table_is_an_error() {
        let mut fake = fake();
        fake.functions.retain(|(name, _)| *name != "ggml_op_name");
        let missing = BinaryError::MissingFunction { name: "ggml_op_name" };
        assert_eq!(fake.learn().map_err(|e| e.to_string()), Err(missing.to_string()));
    }

    #[test]
    fn doubtful_answers_are_errors() {
        let mut wrong_table = fake();
        wrong_table.replace("ggml_op_name", lookup(0x10_0000, 1, 0));
        assert!(matches!(wrong_table.learn(), Err(BinaryError::ImplausibleTable { .. })));

        let mut wrong_number = fake();
        let code: Vec<u8> = UNARY_OP.iter().map(|&b| if b == 3 { 2 } else { b }).collect();
        wrong_number.replace("ggml_get_unary_op", accessor(&code));
        assert!(matches!(wrong_number.learn(), Err(BinaryError::ImplausibleTable { .. })));

        let mut unreadable = fake();
        unreadable.replace("ggml_type_name", accessor(&[0xc3]));
        assert!(matches!(unreadable.learn(), Err(BinaryError::UnknownCode { .. })));
    }
}
