// The few functions of ggml that harness/opponents/ggml.py calls, written naively: the tests' stand-in for its libraries.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct init_params { size_t mem_size; void *mem_buffer; _Bool no_alloc; };
struct tensor { int type; int64_t width, rows; void *data; struct tensor *a, *b; };
struct graph { size_t count; struct tensor *nodes[4096]; };
static int status, open_contexts, started;

void *ggml_init(struct init_params p) { open_contexts++; return p.mem_buffer ? p.mem_buffer : malloc(1); }
void ggml_free(void *context) { (void)context; open_contexts--; }
void ggml_cpu_init(void) { started = 1; }
void fake_status(int value) { status = value; }
int fake_open_contexts(void) { return open_contexts; }

void *ggml_new_tensor_2d(void *context, int type, int64_t width, int64_t rows) {
    (void)context;
    struct tensor *t = calloc(1, sizeof *t);
    t->type = type; t->width = width; t->rows = rows;
    t->data = calloc(1, (size_t)(width * rows) * 4);
    return t;
}
void *ggml_get_data(struct tensor *t) { return t->data; }
void *ggml_mul_mat(void *context, struct tensor *a, struct tensor *b) {
    struct tensor *t = ggml_new_tensor_2d(context, 0, a->rows, b->rows);
    t->a = a; t->b = b;
    return t;
}
void *ggml_new_graph_custom(void *context, size_t size, _Bool grads) {
    (void)context; (void)size; (void)grads;
    return calloc(1, sizeof(struct graph));
}
void ggml_build_forward_expand(struct graph *g, struct tensor *t) { g->nodes[g->count++] = t; }

static float half(uint16_t h) {  // normal numbers only
    uint32_t bits = ((uint32_t)(h & 0x8000) << 16) | ((((uint32_t)h >> 10 & 31) + 112) << 23) | ((uint32_t)(h & 1023) << 13);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static float weight(const struct tensor *t, int64_t row, int64_t column) {
    const uint8_t *block = (const uint8_t *)t->data + (row * (t->width / 256) + column / 256) * 66;
    int64_t place = column % 256, part = place / 128, inside = place % 128;
    int digit = block[part * 32 + inside % 32] >> (2 * (inside / 32)) & 3;
    uint16_t scale;
    memcpy(&scale, block + 64, 2);
    return half(scale) * (float)(digit - 1);
}
int ggml_graph_compute_with_ctx(void *context, struct graph *g, int threads) {
    (void)context;
    if (status || !started || threads != 1) return status ? status : -1;
    for (size_t n = 0; n < g->count; n++) {
        struct tensor *t = g->nodes[n];
        for (int64_t token = 0; token < t->b->rows; token++)
            for (int64_t row = 0; row < t->a->rows; row++) {
                float sum = 0;
                for (int64_t k = 0; k < t->a->width; k++)
                    sum += weight(t->a, row, k) * ((float *)t->b->data)[token * t->b->width + k];
                ((float *)t->data)[token * t->a->rows + row] = sum;
            }
    }
    return 0;
}
