/* All kernels for one number type and one instruction set; the build compiles this file once for each pair. */
#include "activations.h"
#include "binarize.h"
#include "bounds.h"
#include "bias.h"
#include "column_sums.h"
#include "condition.h"
#include "conv2d.h"
#include "conv_pool.h"
#include "dense.h"
#include "elementwise.h"
#include "latent.h"
#include "likelihoods.h"
#include "losses.h"
#include "normalization.h"
#include "optimizers.h"
#include "pool2d.h"
#include "upsample2d.h"
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
    .update_rules = UPDATE_RULES,
    .activations = ACTIVATION_FUNCTIONS,
    .pixel_types = PIXEL_TYPES,
#define KERNEL(type, name, arguments) .name = name,
#include "kernel_list.h"
#undef KERNEL
};
