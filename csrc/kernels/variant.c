/* All kernels for one number type and one instruction set; the build compiles this file once for each pair. */
#include "column_sums.h"
#include "conv2d.h"
#include "conv_pool.h"
#include "dense.h"
#include "elementwise.h"
#include "latent.h"
#include "losses.h"
#include "optimizers.h"
#include "pool2d.h"
#include "winograd.h"
#include "winograd_rows.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define STRING_(a) #a
#define STRING(a) STRING_(a)
#if CVAE_DOUBLE
#define TABLE JOIN(kernels_f64_, CVAE_ISA)
#else
#define TABLE JOIN(kernels_f32_, CVAE_ISA)
#endif

const kernel_table TABLE = {
    .name = STRING(CVAE_ISA),
    .panel = PANEL,
    .block_scratch = SCRATCH_SIZE,
    .dense_scratch = DENSE_SCRATCH,
    .pack_panels = pack_panels,
    .conv2d_forward = conv2d_forward,
    .conv2d_grad_input = conv2d_grad_input,
    .conv2d_grad_weight = conv2d_grad_weight,
    .conv2d_grad_input_scratch = conv2d_grad_input_scratch,
    .conv2d_grad_weight_scratch = conv2d_grad_weight_scratch,
    .conv_pool_grad_weight = conv_pool_grad_weight,
    .conv_pool_grad_weight_scratch = conv_pool_grad_weight_scratch,
    .conv_pool_patch = conv_pool_patch,
    .conv_pool_collect = conv_pool_collect,
    .winograd_kernel = winograd_kernel,
    .winograd_kernel_size = winograd_kernel_size,
    .winograd_block = winograd_block,
    .winograd_scratch = winograd_scratch,
    .winograd_tiles = winograd_tiles,
    .winograd_forward = winograd_forward,
    .winograd_backward = winograd_backward,
    .winograd_collect_kernel = winograd_collect_kernel,
    .winograd_rows_kernel = winograd_rows_kernel,
    .winograd_rows_kernel_size = winograd_rows_kernel_size,
    .winograd_rows_bands = winograd_rows_bands,
    .winograd_rows_scratch = winograd_rows_scratch,
    .winograd_rows_forward = winograd_rows_forward,
    .dense_forward = dense_forward,
    .dense_backward = dense_backward,
    .dense_backward_scratch = dense_backward_scratch,
    .live_size = live_size,
    .live_find = live_find,
    .live_copy = live_copy,
    .column_sums = column_sums,
    .add_column_sums = add_column_sums,
    .pool2d_max_forward = pool2d_max_forward,
    .pool2d_max_backward = pool2d_max_backward,
    .pool2d_average_forward = pool2d_average_forward,
    .pool2d_average_backward = pool2d_average_backward,
    .relu_backward = relu_backward,
    .set_zero = set_zero,
    .sum_lanes = sum_lanes,
    .sigmoid = sigmoid,
    .scale_bytes = scale_bytes,
    .is_in_unit_range = is_in_unit_range,
    .narrow = narrow,
    .widen = widen,
    .bce_with_logits = bce_with_logits,
    .gaussian_kl = gaussian_kl,
    .latent_sample = latent_sample,
    .latent_backward = latent_backward,
    .update = update,
    .sum_of_squares = sum_of_squares,
};
