/* The list of kernels: KERNEL(type, name, (arguments)) is a function `name` that returns `type`.
 *
 * Files that include this one define KERNEL first: kernels.h turns the list into the members of kernel_table, variant.c
 * into the functions of a table.  Each Cython module declares the members that it calls.
 *
 * Kernels work on buffers that the caller allocates, share no state, and may be called from any thread; the caller
 * splits the work into blocks, images and ranges, depending on the shapes alone.  Outputs come first, then inputs, then
 * sizes.  Letters: N images, H W input rows and columns, C input channels, K output channels, R S kernel rows and
 * columns, OH OW output rows and columns.  Pointers are to float or double, as the table says. */

/* ---- Matrices */

/* packed (ceil(n / panel), k, panel) from b, whose element (i, j) is b[i * row_stride + j * column_stride], one of the
 * strides being 1; packs the panels first <= j < last. */
KERNEL(void, pack_panels,
       (void *packed, const void *b, ptrdiff_t k, ptrdiff_t n, ptrdiff_t row_stride, ptrdiff_t column_stride,
        ptrdiff_t first, ptrdiff_t last))
/* out (n)[first <= j < last] = column sums of x (m, n). */
KERNEL(void, column_sums, (void *out, const void *x, ptrdiff_t m, ptrdiff_t n, ptrdiff_t first, ptrdiff_t last))
/* sums (n) += the column sums of x (m, n). */
KERNEL(void, add_column_sums, (void *sums, const void *x, ptrdiff_t m, ptrdiff_t n))
/* Adds bias (n) to rows first <= i < last of y (., n), with max(., 0) afterwards if relu (bias.h). */
KERNEL(void, add_bias, (void *y, const void *bias, ptrdiff_t n, int relu, ptrdiff_t first, ptrdiff_t last))

/* ---- Direct convolution (conv2d.h, few_outputs.h) */

/* Whether the forward pass or, if transposed, the input gradient is faster with w as it is than with packed weights,
 * and the latter then needs no scratch. */
KERNEL(ptrdiff_t, conv2d_has_few_outputs, (const window_shape *shape, int transposed))
/* Output pixels first <= p < last (at most BLOCK_ROWS) of y (N, OH, OW, K) = conv(x (N, H, W, C), w) + bias (K), with
 * max(., 0) if relu; packed_w: w (R * S * C, K) in panels, or NULL, which takes dense_scratch elements of scratch more
 * than block_scratch, and is faster for few pixels. */
KERNEL(void, conv2d_forward,
       (void *y, const void *x, const void *packed_w, const void *w, const void *bias, const window_shape *shape,
        int relu, ptrdiff_t first, ptrdiff_t last, void *scratch))
/* Images first <= n < last of dx (N, H, W, C) from dy (N, OH, OW, K), either one or at most BLOCK_ROWS output pixels;
 * packed_wt: w transposed, (K, R * S * C), in panels, or NULL; scratch: conv2d_grad_input_scratch elements. */
KERNEL(void, conv2d_grad_input,
       (void *dx, const void *dy, const void *packed_wt, const void *w, const window_shape *shape, ptrdiff_t first,
        ptrdiff_t last, void *scratch))
KERNEL(ptrdiff_t, conv2d_grad_input_scratch, (const window_shape *shape))
/* Adds the part of output pixels first <= p < last (at most BLOCK_ROWS) to rows first_row <= q < last_row of
 * dw (R * S * C, K) and, with the first of them, to db (K); scratch: conv2d_grad_weight_scratch elements. */
KERNEL(void, conv2d_grad_weight,
       (void *dw, void *db, const void *x, const void *dy, const window_shape *shape, ptrdiff_t first, ptrdiff_t last,
        ptrdiff_t first_row, ptrdiff_t last_row, void *scratch))
KERNEL(ptrdiff_t, conv2d_grad_weight_scratch, (const window_shape *shape))

/* ---- The weight gradient of a convolution of few channels under ReLU and max pooling (conv_pool.h) */

/* From the gradient dp (N, OH, OW, K) of the pooled output and argmax, places as `narrow` makes them; pool->c is
 * conv->k.  sums (K, conv_pool_patch): R * S * C weights, the bias and zeros of each output channel, to which the
 * images first <= n < last are added; scratch: conv_pool_grad_weight_scratch elements.  Positions in a padded image
 * must fit an int32_t. */
KERNEL(void, conv_pool_grad_weight,
       (void *sums, const void *x, const void *dp, const uint8_t *argmax, const window_shape *conv,
        const window_shape *pool, ptrdiff_t first, ptrdiff_t last, void *scratch))
KERNEL(ptrdiff_t, conv_pool_grad_weight_scratch, (const window_shape *conv, const window_shape *pool))
KERNEL(ptrdiff_t, conv_pool_patch, (const window_shape *conv))
/* Output channels first <= k < last of dw (R, S, C, K) and db (K) from sums. */
KERNEL(void, conv_pool_collect,
       (void *dw, void *db, const void *sums, const window_shape *conv, ptrdiff_t first, ptrdiff_t last))

/* ---- Winograd's algorithm without dilation, for R and S up to MAX_WINOGRAD_KERNEL * stride (winograd.h) */

/* Channels of all phases together; C for stride 1. */
KERNEL(ptrdiff_t, winograd_channels, (const window_shape *shape))
/* Rows first <= i < last of the evaluated weights U: winograd_channels rows for the forward pass, or K rows if
 * transposed for the input gradient; all rows take winograd_kernel_size elements.  Fastest with a multiple of
 * KERNEL_ROWS at once. */
KERNEL(void, winograd_kernel,
       (void *U, const void *w, const window_shape *shape, int transposed, ptrdiff_t first, ptrdiff_t last))
KERNEL(ptrdiff_t, winograd_kernel_size, (const window_shape *shape, int transposed))
KERNEL(ptrdiff_t, winograd_tiles, (const window_shape *shape)) /* of one image */
KERNEL(ptrdiff_t, winograd_block, (const window_shape *shape)) /* tiles at once */
KERNEL(ptrdiff_t, winograd_scratch, (const window_shape *shape))
/* Tiles first <= t < last (at most winograd_block) of y; scratch: winograd_scratch elements. */
KERNEL(void, winograd_forward,
       (void *y, const void *x, const void *U, const void *bias, const window_shape *shape, int relu, ptrdiff_t first,
        ptrdiff_t last, void *scratch))
/* Adds the part of tiles first <= t < last to dx and to the evaluated weight gradient dU, either of which may be NULL;
 * without accumulate, dU is overwritten. */
KERNEL(void, winograd_backward,
       (void *dx, void *dU, int accumulate, const void *x, const void *dy, const void *Ut, const window_shape *shape,
        ptrdiff_t first, ptrdiff_t last, void *scratch))
/* Channel v of the phases of dw from dU. */
KERNEL(void, winograd_collect_kernel, (void *dw, const void *dU, const window_shape *shape, ptrdiff_t v))

/* ---- The same along rows only, for stride 1 and up to FEW_CHANNELS input channels (winograd_rows.h) */

/* All evaluated weights, winograd_rows_kernel_size elements. */
KERNEL(void, winograd_rows_kernel, (void *U, const void *w, const window_shape *shape))
KERNEL(ptrdiff_t, winograd_rows_kernel_size, (const window_shape *shape))
/* Bands of output rows first <= b < last of y, winograd_rows_bands in each image; scratch: winograd_rows_scratch
 * elements. */
KERNEL(void, winograd_rows_forward,
       (void *y, const void *x, const void *U, const void *bias, const window_shape *shape, int relu, ptrdiff_t first,
        ptrdiff_t last, void *scratch))
KERNEL(ptrdiff_t, winograd_rows_bands, (const window_shape *shape))
KERNEL(ptrdiff_t, winograd_rows_scratch, (const window_shape *shape))

/* ---- Dense layers, m examples, k inputs, n outputs (dense.h, live.h) */

/* Rows first_row <= i < last_row, columns of panels first <= j < last of y (m, n) = x (m, k) w (k, n) + bias (n), with
 * max(., 0) if relu; scratch: dense_scratch elements. */
KERNEL(void, dense_forward,
       (void *y, const void *x, const void *w, const void *bias, ptrdiff_t n, ptrdiff_t k, int relu,
        ptrdiff_t first_row, ptrdiff_t last_row, ptrdiff_t first, ptrdiff_t last, void *scratch))
/* A panel of rows of w: its part of dx, its gradient, and its update.  live: of dy; scratch: dense_backward_scratch(n)
 * elements. */
KERNEL(void, dense_backward, (const dense_gradients *gradients, const void *live, ptrdiff_t panel, void *scratch))
/* The same in parts: rows first_row <= . < last_row of a panel of columns of dx, and columns first_column <= . <
 * last_column, from the start of a panel on, of the gradient of a panel of rows of w, with their update. */
KERNEL(void, dense_grad_input, (const dense_gradients *gradients, const void *live, ptrdiff_t panel,
                                ptrdiff_t first_row, ptrdiff_t last_row, void *scratch))
KERNEL(void, dense_grad_weight, (const dense_gradients *gradients, const void *live, ptrdiff_t panel,
                                 ptrdiff_t first_column, ptrdiff_t last_column, void *scratch))
KERNEL(ptrdiff_t, dense_backward_scratch, (ptrdiff_t n))
/* The live columns of dy (m, n), which the backward pass visits, in live_size(m, n) bytes: all of them or, if
 * skip_dead, those that are not all zero.  live_copy copies rows first <= i < last of them, as far as the pass needs a
 * copy. */
KERNEL(ptrdiff_t, live_size, (ptrdiff_t m, ptrdiff_t n))
KERNEL(void, live_find, (void *live, const void *dy, int skip_dead, ptrdiff_t m, ptrdiff_t n))
KERNEL(void, live_copy, (void *live, const void *dy, ptrdiff_t n, ptrdiff_t first, ptrdiff_t last))

/* ---- Pooling (pool2d.h) */

/* Output row `row` (image * OH + i) of a pooling of x (N, H, W, C), y_row (OW, C); argmax: index r * S + s within the
 * window. */
KERNEL(void, pool2d_max_forward,
       (void *y_row, int32_t *argmax_row, const void *x, const window_shape *shape, ptrdiff_t row))
/* One image. */
KERNEL(void, pool2d_max_backward, (void *dx, const void *dy, const int32_t *argmax, const window_shape *shape))
KERNEL(void, pool2d_average_forward, (void *y, const void *x, const window_shape *shape, ptrdiff_t row))
KERNEL(void, pool2d_average_backward, (void *dx, const void *dy, const window_shape *shape, ptrdiff_t image))

/* ---- Upsampling by R rows and S columns for each one (upsample2d.h) */

/* Output row `row` (image * OH + i) of y (N, OH, OW, C), OH = R * H and OW = S * W, from x (N, H, W, C). */
KERNEL(void, upsample2d_forward, (void *y, const void *x, const window_shape *shape, int bilinear, ptrdiff_t row))
/* One image. */
KERNEL(void, upsample2d_backward, (void *dx, const void *dy, const window_shape *shape, int bilinear, ptrdiff_t image))

/* ---- Normalization of channels (normalization.h)
 *
 * Of one image: its rows (rows, C), or a part of `count` of their elements that starts with a channel's first one.  period
 * is a multiple of C; scratch: 4 * period elements.  A group is channels / groups neighbouring channels. */

/* sums (2, period): each position's sums of d = x - centre (C) and of d * d or, with dy, of dy and of dy * d. */
KERNEL(void, normalization_sums,
       (double *sums, const void *dy, const void *x, const void *centre, ptrdiff_t channels, ptrdiff_t period,
        ptrdiff_t count, void *scratch))
/* mean (C) and variance (C) of the groups, from sums (parts, 2, period) without dy. */
KERNEL(void, normalization_statistics,
       (void *mean, void *variance, const double *sums, const void *centre, ptrdiff_t parts, ptrdiff_t rows,
        ptrdiff_t channels, ptrdiff_t period, ptrdiff_t groups))
/* factors (C) = scaler (C) / sqrt(variance (C) + epsilon). */
KERNEL(void, normalization_factors,
       (void *factors, const void *scaler, const void *variance, double epsilon, ptrdiff_t channels))
/* y = (x - mean) * factors + intercept, with max(., 0) if relu; y may be x. */
KERNEL(void, normalize,
       (void *y, const void *x, const void *mean, const void *factors, const void *intercept, int relu,
        ptrdiff_t channels, ptrdiff_t period, ptrdiff_t count, void *scratch))
/* From sums (parts, 2, period) with dy: the coefficients (3, C) of normalize_backward, and totals (2, C), the gradients
 * of scaler and intercept.  Unless measured, mean and variance do not depend on x. */
KERNEL(void, normalization_gradients,
       (void *coefficients, double *totals, const double *sums, const void *scaler, const void *variance,
        double epsilon, int measured, ptrdiff_t parts, ptrdiff_t rows, ptrdiff_t channels, ptrdiff_t period,
        ptrdiff_t groups))
/* out (C) = the sum over the images of totals (images, 2, C)[:, 0]. */
KERNEL(void, normalization_collect, (void *out, const double *totals, ptrdiff_t images, ptrdiff_t channels))
/* dx = a dy - b - c (x - mean), with coefficients a, b, c; dx may be dy or x. */
KERNEL(void, normalize_backward,
       (void *dx, const void *dy, const void *x, const void *mean, const void *coefficients, ptrdiff_t channels,
        ptrdiff_t period, ptrdiff_t count, void *scratch))
/* running = momentum * running + (1 - momentum) * batch. */
KERNEL(void, running_average, (void *running, const void *batch, double momentum, ptrdiff_t count))

/* ---- Labels beside the channels of every pixel (condition.h) */

/* One example of y (N, pixels, C + L) from x (N, pixels, C) and labels (N, L). */
KERNEL(void, condition_forward,
       (void *y, const void *x, const void *labels, ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t n_labels,
        ptrdiff_t example))
KERNEL(void, condition_backward,
       (void *dx, const void *dy, ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t n_labels, ptrdiff_t example))

/* ---- Elements first <= i < last, or `count` elements, of flat arrays (elementwise.h) */

KERNEL(void, relu_backward, (void *dz, const void *dy, const void *y, ptrdiff_t first, ptrdiff_t last))
/* out = a + b, or its maximum with 0 if relu; out may be a or b. */
KERNEL(void, add, (void *out, const void *a, const void *b, int relu, ptrdiff_t first, ptrdiff_t last))
/* out = factor * x; out may be x. */
KERNEL(void, scale, (void *out, const void *x, double factor, ptrdiff_t first, ptrdiff_t last))
KERNEL(void, set_zero, (void *out, ptrdiff_t first, ptrdiff_t last))
/* out = accumulators[0] + accumulators[1] + ...; accumulator l starts at l * stride. */
KERNEL(void, sum_accumulators,
       (void *out, const void *accumulators, ptrdiff_t count, ptrdiff_t stride, ptrdiff_t first, ptrdiff_t last))
KERNEL(void, sigmoid, (void *out, const void *z, ptrdiff_t first, ptrdiff_t last))
/* out = bytes / 255. */
KERNEL(void, scale_bytes, (void *out, const unsigned char *bytes, ptrdiff_t count))
/* Places of maxima in windows of at most INACTIVE pixels to bytes, INACTIVE where y is not positive, and back. */
KERNEL(void, narrow, (uint8_t *out, const int32_t *places, const void *y, ptrdiff_t count))
KERNEL(void, widen, (int32_t *places, const uint8_t *in, ptrdiff_t count))
/* out = low where x is below it, high where x is above it, else x; x (count), or the first ones of its pairs. */
KERNEL(void, clip, (void *out, const void *x, double low, double high, int pairs, ptrdiff_t count))
/* out = (pixels - offset) / scale, in double; offset and scale repeat after `period` elements. */
KERNEL(void, map_pixels,
       (void *out, const void *pixels, const pixel_type *type, const double *offset, const double *scale,
        ptrdiff_t period, ptrdiff_t count))
/* The inverse, in place. */
KERNEL(void, unmap_pixels,
       (void *pixels, const double *offset, const double *scale, ptrdiff_t period, ptrdiff_t count))
/* Whether all elements are in [0, 1]; NaN is not. */
KERNEL(int, is_in_unit_range, (const void *x, ptrdiff_t first, ptrdiff_t last))

/* ---- Activation functions of elements first <= i < last of flat arrays (activations.h) */

KERNEL(void, activation_forward,
       (void *y, const void *z, const activation_function *function, const double *constants, ptrdiff_t first,
        ptrdiff_t last))
KERNEL(void, activation_backward,
       (void *dz, const void *dy, const void *z, const activation_function *function, const double *constants,
        ptrdiff_t first, ptrdiff_t last))

/* ---- Losses (losses.h) */

/* The binary cross-entropy of row `row` of logits (., m) to row `target` of y (., m).  The same row of dlogits, unless
 * it is NULL, = (sigmoid(logits) - y) * weight; dlogits may be logits. */
KERNEL(double, bce_with_logits,
       (void *dlogits, const void *logits, const void *y, ptrdiff_t m, double weight, ptrdiff_t row, ptrdiff_t target))
/* The KL divergence of N(mean, exp(log_var)) to N(0, 1) of row `row` of mean and log_var (., t).  The same row of dmean
 * and dlog_var, unless they are NULL, = its gradients times weight. */
KERNEL(double, gaussian_kl,
       (void *dmean, void *dlog_var, const void *mean, const void *log_var, ptrdiff_t t, double weight, ptrdiff_t row))

/* ---- Negative log densities of other likelihoods than Bernoulli's (likelihoods.h)
 *
 * Of row `target` of y (., m), given row `row` of the outputs.  The same row of the gradient, unless it is NULL, = the
 * derivative with respect to the outputs times weight; it may be the outputs. */

KERNEL(double, continuous_bernoulli,
       (void *dlogits, const void *logits, const void *y, ptrdiff_t m, double weight, ptrdiff_t row, ptrdiff_t target))
/* The means of distributions of these logits. */
KERNEL(void, continuous_bernoulli_mean, (void *out, const void *z, ptrdiff_t first, ptrdiff_t last))
/* Outputs (., m) are the means, or the medians. */
KERNEL(double, gaussian,
       (void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double scale, double weight, ptrdiff_t row,
        ptrdiff_t target))
KERNEL(double, laplace,
       (void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double scale, double weight, ptrdiff_t row,
        ptrdiff_t target))
/* Outputs (., 2m) are for each pixel its mean, or median, and a number s: bound * tanh(s / bound) is its log variance in
 * gaussian_per_pixel, its log scale in the others. */
KERNEL(double, gaussian_per_pixel,
       (void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double bound, double weight, ptrdiff_t row,
        ptrdiff_t target))
KERNEL(double, laplace_per_pixel,
       (void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double bound, double weight, ptrdiff_t row,
        ptrdiff_t target))
KERNEL(double, discretized_logistic,
       (void *doutputs, const void *outputs, const void *y, ptrdiff_t m, double bound, double weight, ptrdiff_t row,
        ptrdiff_t target))

/* ---- Bounds (bounds.h) */

/* The sum over the n rows of the KL divergence of N(mean, exp(log_var)) to N(0, 1) in column `column` of mean and
 * log_var (n, t), times the row's weight; or, if it is at most `least` times the sum of the weights, that, and the
 * column of dmean and dlog_var = 0. */
KERNEL(double, free_bits,
       (void *dmean, void *dlog_var, const void *mean, const void *log_var, const double *weights, double least,
        ptrdiff_t n, ptrdiff_t t, ptrdiff_t column))
/* Row `row` of the arrays (n, t), and the `draws` rows that belong to it of z and noise (n * draws, t), and elements of
 * weights and reconstruction (n * draws).  The importance weights of the draws, divided by their sum; returns the
 * logarithm of their mean. */
KERNEL(double, importance_weights,
       (double *weights, const double *reconstruction, const void *z, const void *noise, const void *log_var,
        ptrdiff_t t, ptrdiff_t draws, ptrdiff_t row))
/* Row `row` of the gradient of minus this logarithm with respect to the code, without what comes through the decoder,
 * times weight; if doubly, the doubly reparameterized one. */
KERNEL(void, importance_gradient,
       (void *dmean, void *dlog_var, const double *weights, const void *z, const void *noise, const void *deviation,
        double weight, int doubly, ptrdiff_t t, ptrdiff_t draws, ptrdiff_t row))
/* Row `row` of x (., m) times factor. */
KERNEL(void, scale_row, (void *x, double factor, ptrdiff_t m, ptrdiff_t row))

/* ---- Black and white (binarize.h) */

/* Row `row` of out and x (., m): 1 with the probability that x, in [0, 1], is, else 0.  What is drawn depends on the key
 * and, if by_content, on the values of the row, otherwise on its number.  out may be x. */
KERNEL(void, binarize, (void *out, const void *x, ptrdiff_t m, uint64_t key, int by_content, ptrdiff_t row))
/* Elements first <= i < last of out: 1 where x is greater than limit, else 0.  out may be x. */
KERNEL(void, threshold, (void *out, const void *x, double limit, ptrdiff_t first, ptrdiff_t last))

/* ---- The latent code (latent.h) */

/* Row `row` of code (n, 2t), the means and the log variances, and of the other arrays (n, t); of z, dz and noise
 * (n * draws, t) the `draws` rows that belong to it, one after another.  Each row of dz counts times its factor, once
 * if factors is NULL. */
KERNEL(void, latent_sample,
       (void *z, void *deviation, void *mean, void *log_var, const void *code, const void *noise, ptrdiff_t t,
        ptrdiff_t draws, ptrdiff_t row))
KERNEL(void, latent_backward,
       (void *dcode, const void *dz, const void *noise, const void *deviation, const void *dmean,
        const void *dlog_var, const double *factors, ptrdiff_t t, ptrdiff_t draws, ptrdiff_t row))

/* ---- Optimizers (optimizers.h) */

/* Elements first <= i < last of a parameter and its states, in place; grad is the gradient of these elements. */
KERNEL(void, update_parameter, (const parameter_update *update, const void *grad, ptrdiff_t first, ptrdiff_t last))
KERNEL(double, sum_of_squares, (const void *x, ptrdiff_t first, ptrdiff_t last))
