/* Losses, likelihoods, bounds and the latent code. */
#ifndef LOSSES_H
#define LOSSES_H

#include "elements.h"

enum { ROWS = 3, PIXELS = 37, CODE = 5, DRAWS = 4 };

typedef double (*loss_of_row)(void *, const void *, const void *, ptrdiff_t, double, ptrdiff_t, ptrdiff_t);
typedef double (*scaled_loss)(void *, const void *, const void *, ptrdiff_t, double, double, ptrdiff_t, ptrdiff_t);

/* The loss of each row, with and without its gradient. */
static void loss(const char *name, loss_of_row without_scale, scaled_loss with_scale, ptrdiff_t numbers_of_a_pixel) {
    const ptrdiff_t count = ROWS * PIXELS * numbers_of_a_pixel;
    real *outputs = between(-3, 3, count), *y = between(0, 1, ROWS * PIXELS), *gradient = space(count);
    double found[2 * ROWS];
    for (ptrdiff_t i = 0; i < 2 * ROWS; i++) {
        const ptrdiff_t row = i / 2, target = ROWS - 1 - row;
        void *to = i % 2 ? gradient : NULL;
        found[i] = with_scale ? with_scale(to, outputs, y, PIXELS, 2, 0.4, row, target)
                              : without_scale(to, outputs, y, PIXELS, 0.4, row, target);
    }
    write_doubles(name, 64, found, 2 * ROWS);
    write_out(name, 64, gradient, count);
    RELEASE(outputs, y, gradient);
}

static void code(void) {
    const ptrdiff_t drawn = ROWS * DRAWS * CODE;
    real *code_of = numbers(2 * ROWS * CODE), *noise = between(-2, 2, drawn), *z = space(drawn), *dz = numbers(drawn);
    real *deviation = space(ROWS * CODE), *mean = space(ROWS * CODE), *log_var = space(ROWS * CODE);
    real *dmean = space(ROWS * CODE), *dlog_var = space(ROWS * CODE), *dcode = space(2 * ROWS * CODE);
    double *reconstruction = doubles(1, 3, ROWS * DRAWS), *factors = doubles(0, 1, ROWS);
    double *weights = bytes(ROWS * DRAWS * (ptrdiff_t)sizeof(double)), found[ROWS + CODE + ROWS];
    for (ptrdiff_t row = 0; row < ROWS; row++) {
        TABLE.latent_sample(z, deviation, mean, log_var, code_of, noise, CODE, DRAWS, row);
        found[row] = TABLE.gaussian_kl(dmean, dlog_var, mean, log_var, CODE, 0.3, row);
        found[ROWS + CODE + row] =
            TABLE.importance_weights(weights, reconstruction, z, noise, log_var, CODE, DRAWS, row);
    }
    write_out("latent_sample", 4, z, drawn);
    write_out("gaussian_kl", 8, dlog_var, ROWS * CODE);
    write_doubles("importance_weights", 64, weights, ROWS * DRAWS);
    for (ptrdiff_t column = 0; column < CODE; column++)
        found[ROWS + column] =
            TABLE.free_bits(dmean, dlog_var, mean, log_var, factors, 0.05, ROWS, CODE, column);
    write_doubles("free_bits", 64, found, ROWS + CODE + ROWS);
    write_out("free_bits", 8, dmean, ROWS * CODE);
    for (ptrdiff_t row = 0; row < ROWS; row++)
        TABLE.latent_backward(dcode, dz, noise, deviation, dmean, dlog_var, row ? weights : NULL, CODE, DRAWS, row);
    write_out("latent_backward", 4 * DRAWS, dcode, 2 * ROWS * CODE);
    for (int doubly = 0; doubly < 2; doubly++) {
        for (ptrdiff_t row = 0; row < ROWS; row++)
            TABLE.importance_gradient(dmean, dlog_var, weights, z, noise, deviation, 0.6, doubly, CODE, DRAWS, row);
        write_out("importance_gradient", 64, dmean, ROWS * CODE);
        write_out("importance_gradient", 64, dlog_var, ROWS * CODE);
    }
    RELEASE(code_of, noise, z, dz, deviation, mean, log_var, dmean, dlog_var, dcode, reconstruction, factors, weights);
}

static void losses(void) {
    loss("bce_with_logits", TABLE.bce_with_logits, NULL, 1);
    loss("continuous_bernoulli", TABLE.continuous_bernoulli, NULL, 1);
    loss("gaussian", NULL, TABLE.gaussian, 1);
    loss("laplace", NULL, TABLE.laplace, 1);
    loss("gaussian_per_pixel", NULL, TABLE.gaussian_per_pixel, 2);
    loss("laplace_per_pixel", NULL, TABLE.laplace_per_pixel, 2);
    loss("discretized_logistic", NULL, TABLE.discretized_logistic, 2);
    real *z = between(-9, 9, ODD), *out = space(ODD);
    TABLE.continuous_bernoulli_mean(out, z, 0, 50);
    TABLE.continuous_bernoulli_mean(out, z, 50, ODD);
    write_out("continuous_bernoulli_mean", 64, out, ODD);
    RELEASE(z, out);
    code();
}

#endif
