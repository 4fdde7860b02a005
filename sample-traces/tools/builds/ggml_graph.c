// Computes one small transformer-like graph again and again with ggml alone, without llama.cpp:
//   ggml_graph THREADS GRAPHS
// ggml makes a thread pool of its own for each graph, so that threads come and go.
#include "ggml-cpu.h"
#include "ggml.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WIDTH = 256, FEED_FORWARD = 512, TOKENS = 4, LAYERS = 4 };
enum { MEMORY_BYTES = 256 << 20, PAUSE_SECS = 1 };

static struct ggml_context * ctx;

static struct ggml_tensor * weight(int rows, int columns) {
    struct ggml_tensor * tensor = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, columns, rows);
    float * values = ggml_get_data_f32(tensor);
    for (int i = 0; i < rows * columns; i++) {
        values[i] = (float) (i % 17 - 8) / (float) columns;
    }
    return tensor;
}

static struct ggml_tensor * layer(struct ggml_tensor * input) {
    struct ggml_tensor * norm = ggml_mul(ctx, ggml_rms_norm(ctx, input, 1e-6F), weight(1, WIDTH));
    struct ggml_tensor * query = ggml_mul_mat(ctx, weight(WIDTH, WIDTH), norm);
    struct ggml_tensor * key = ggml_mul_mat(ctx, weight(WIDTH, WIDTH), norm);
    struct ggml_tensor * scores = ggml_soft_max(ctx, ggml_mul_mat(ctx, key, query));
    struct ggml_tensor * mixed =
        ggml_mul_mat(ctx, ggml_cont(ctx, ggml_transpose(ctx, norm)), scores);
    struct ggml_tensor * residual = ggml_add(ctx, input, mixed);
    struct ggml_tensor * gate = ggml_mul_mat(ctx, weight(FEED_FORWARD, WIDTH), residual);
    struct ggml_tensor * up = ggml_mul_mat(ctx, weight(FEED_FORWARD, WIDTH), residual);
    struct ggml_tensor * hidden = ggml_mul(ctx, ggml_silu(ctx, gate), up);
    return ggml_add(ctx, residual, ggml_mul_mat(ctx, weight(WIDTH, FEED_FORWARD), hidden));
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: ggml_graph THREADS GRAPHS\n");
        return 2;
    }
    const int threads = atoi(argv[1]);
    const int graphs = atoi(argv[2]);
    struct ggml_init_params params = { .mem_size = MEMORY_BYTES };
    ctx = ggml_init(params);
    struct ggml_cgraph * graph = ggml_new_graph(ctx);
    struct ggml_tensor * current = weight(TOKENS, WIDTH);
    for (int i = 0; i < LAYERS; i++) {
        current = layer(current);
    }
    ggml_build_forward_expand(graph, current);
    sleep(PAUSE_SECS); // time for a recorder to attach
    for (int i = 0; i < graphs; i++) {
        if (ggml_graph_compute_with_ctx(ctx, graph, threads) != GGML_STATUS_SUCCESS) {
            return 1;
        }
    }
    printf("%d graphs of %d nodes\n", graphs, ggml_graph_n_nodes(graph));
    return 0;
}
