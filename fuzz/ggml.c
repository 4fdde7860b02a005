/* The shape of a small ggml, as a seed for the target `binary`: tables of names, accessors, and a
 * loop over nodes with a barrier. Compiled by .ci/fuzz.sh, never run. */
static const char *const OPS[4] = { "NONE", "ADD", "MUL_MAT", "UNARY" };
struct type { const char *name; long block; unsigned long size; int quantised; long rest[3]; };
static const struct type TYPES[3] = { { "f32", 1, 4 }, { "f16", 1, 2 }, { "q4_K", 256, 144, 1 } };
struct tensor { int type; int pad; void *buffer; long ne[4]; unsigned long nb[4]; int op; int params[16]; };
struct graph { int size; int n_nodes; int n_leafs; struct tensor **nodes; };
struct state { int n_threads; volatile int arrived, passed; };

const char *ggml_op_name(int op) { return OPS[op]; }
const char *ggml_type_name(int type) { return TYPES[type].name; }
long ggml_blck_size(int type) { return TYPES[type].block; }
unsigned long ggml_type_size(int type) { return TYPES[type].size; }
int ggml_get_unary_op(const struct tensor *tensor) { return tensor->op == 3 ? tensor->params[0] : -1; }
int ggml_graph_n_nodes(struct graph *graph) { return graph->n_nodes; }
struct tensor **ggml_graph_nodes(struct graph *graph) { return graph->nodes; }

__attribute__((noinline)) void ggml_barrier(struct state *state)
{
	int passed = state->passed;
	if (__atomic_fetch_add(&state->arrived, 1, 5) == state->n_threads - 1) {
		state->arrived = 0;
		__atomic_fetch_add(&state->passed, 1, 5);
		return;
	}
	while (state->passed == passed)
		;
}

__attribute__((noinline)) int ggml_cpu_extra_compute_forward(struct state *state, struct tensor *tensor)
{
	return tensor->op + state->n_threads;
}

void ggml_graph_compute_thread(struct state *state, struct graph *graph)
{
	for (int i = 0; i < graph->n_nodes; i++) {
		if (ggml_cpu_extra_compute_forward(state, graph->nodes[i]) == 7)
			continue;
		ggml_barrier(state);
	}
}
