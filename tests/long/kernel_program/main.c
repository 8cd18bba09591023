/* Calls every kernel of one number type with made-up numbers, and writes what they compute, a line for each array: for
 * compilers, processors and checkers of memory that do without Python.  As in a program's run, memory is as large as the
 * kernels ask for, and uninitialised. */
#include "losses.h"

int main(void) {
    convolutions();
    layers();
    elements();
    losses();
    return 0;
}
