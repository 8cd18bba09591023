/* Flat arrays: single passes over them, activation functions, optimizers, and pixels. */
#ifndef ELEMENTS_H
#define ELEMENTS_H

#include "layers.h"

enum { ODD = 139 }; /* no whole number of vectors, and more than are worked on at once */

/* Each kernel on [0, third) and [third, ODD). */
#define IN_TWO(kernel, ...)                                  \
    do {                                                     \
        TABLE.kernel(__VA_ARGS__, 0, ODD / 3);               \
        TABLE.kernel(__VA_ARGS__, ODD / 3, ODD);             \
    } while (0)

static void single_passes(void) {
    real *a = between(-4, 4, ODD), *b = numbers(ODD), *out = space(ODD), *accumulators = numbers(3 * ODD);
    IN_TWO(relu_backward, out, b, a);
    write_out("relu_backward", 0, out, ODD);
    IN_TWO(add, out, a, b, 0);
    write_out("add", 1, out, ODD);
    IN_TWO(add, out, a, b, 1);
    write_out("add", 1, out, ODD);
    IN_TWO(scale, out, a, 0.3);
    write_out("scale", 1, out, ODD);
    IN_TWO(set_zero, out);
    write_out("set_zero", 0, out, ODD);
    IN_TWO(sum_accumulators, out, accumulators, 3, ODD);
    write_out("sum_accumulators", 3, out, ODD);
    IN_TWO(sigmoid, out, a);
    write_out("sigmoid", 8, out, ODD);
    IN_TWO(threshold, out, a, 0.5);
    write_out("threshold", 0, out, ODD);
    TABLE.clip(out, a, -0.5, 1.5, 0, ODD);
    write_out("clip", 0, out, ODD);
    TABLE.clip(out, a, -0.5, 1.5, 1, ODD / 2);
    write_out("clip", 0, out, ODD / 2);
    TABLE.scale_row(a, 0.7, 10, 3);
    write_out("scale_row", 1, a, ODD);
    const double found[] = {TABLE.sum_of_squares(a, 1, ODD), TABLE.is_in_unit_range(b, 0, ODD),
                            TABLE.is_in_unit_range(out, 1, 1)};
    write_doubles("sum_of_squares", ODD, found, 3);
    RELEASE(a, b, out, accumulators);
}

static void activations(void) {
    static const double constants[MAX_CONSTANTS] = {0.7, 1.3};
    real *z = between(-6, 6, ODD), *dy = numbers(ODD), *out = space(ODD);
    z[3] = 100, z[7] = -100, z[9] = 0, z[ODD - 1] = (real)2.5;
    for (const activation_function *f = TABLE.activations; f->name; f++) {
        IN_TWO(activation_forward, out, z, f, constants);
        write_out(f->name, 64, out, 3); /* as exp(100) would hide the others */
        write_out("activation_forward", 64, out + 4, ODD - 4);
        IN_TWO(activation_backward, out, dy, z, f, constants);
        write_out("activation_backward", 64, out + 4, ODD - 4);
    }
    RELEASE(z, dy, out);
}

static void optimizers(void) {
    real *grad = numbers(ODD);
    for (const update_rule *rule = TABLE.update_rules; rule->name; rule++) {
        real *parameter = numbers(ODD), *first = between(0, 1, ODD), *second = between(0, 1, ODD);
        const parameter_update update = {rule, parameter, {first, rule->n_states > 1 ? second : NULL}, RATES};
        TABLE.update_parameter(&update, grad, 0, ODD / 3);
        TABLE.update_parameter(&update, grad + ODD / 3, ODD / 3, ODD);
        write_out("update_parameter", 16, parameter, ODD);
        write_out("update_parameter", 16, first, ODD);
        write_out("update_parameter", 16, second, ODD);
        RELEASE(parameter, first, second);
    }
    free(grad);
}

/* Pixels of all types; those of 4 and 8 bytes of numbers are numbers. */
static void pixels(void) {
    enum { PERIOD = 7 };
    double *offset = doubles(-1, 1, PERIOD), *divisor = doubles(1, 2, PERIOD);
    real *out = space(ODD);
    for (const pixel_type *type = TABLE.pixel_types; type->name; type++) {
        char *in = bytes(ODD * type->itemsize);
        const int is_float = strncmp(type->name, "float", 5) == 0;
        for (ptrdiff_t i = 0; i < ODD; i++)
            if (is_float && type->itemsize == 4)
                ((float *)(void *)in)[i] = (float)next_number();
            else if (is_float)
                ((double *)(void *)in)[i] = next_number();
            else
                for (ptrdiff_t j = 0; j < type->itemsize; j++) in[i * type->itemsize + j] = (char)(next_number() * 127);
        TABLE.map_pixels(out, in, type, offset, divisor, PERIOD, ODD);
        write_out("map_pixels", 2, out, ODD);
        TABLE.unmap_pixels(out, offset, divisor, PERIOD, ODD);
        write_out("unmap_pixels", 4, out, ODD);
        if (type->itemsize == 1) {
            TABLE.scale_bytes(out, (const unsigned char *)in, ODD);
            write_out("scale_bytes", 1, out, ODD);
            TABLE.binarize(out, out, ODD / 2, 0x123456789abcdef0u, 0, 1);
            TABLE.binarize(out, out, ODD / 2, 0x123456789abcdef0u, 1, 0);
            write_out("binarize", 0, out, ODD / 2 * 2);
        }
        free(in);
    }
    RELEASE(offset, divisor, out);
}

static void elements(void) {
    single_passes();
    activations();
    optimizers();
    pixels();
}

#endif
