# How a kernel becomes part of a program (program.pyx): it records its work once, as stages that run one after another,
# each of them a number of pieces that are divided among the threads.

from cpython.bytearray cimport PyByteArray_AsString
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdlib cimport realloc

# Does piece `index` of the work.  `shared` is memory in which the kernel's stages pass on their results; `scratch`
# belongs to this piece, except for what a prepare_function put there, which stays for the thread's other pieces of the
# stage.  Both start at a cache line and are uninitialised when the kernel's first stage starts.
ctypedef void (*piece_function)(const void *work, ptrdiff_t index, char *shared, char *scratch) noexcept nogil

# Puts into a thread's scratch what all its pieces of a stage need.
ctypedef void (*prepare_function)(const void *work, char *shared, char *scratch) noexcept nogil

# Does the pieces first <= index < last, a thread's share, in one call.
ctypedef void (*range_function)(
    const void *work, ptrdiff_t first, ptrdiff_t last, char *shared, char *scratch) noexcept nogil

cdef enum:
    CACHE_LINE = 64
    MANY_THREADS = 3         # fewer read what others have made more slowly than they make it themselves

# On how many threads a stage runs; those that it is left out of do its work in another stage.
cdef enum:
    ON_ANY, ON_FEW, ON_MANY

cdef struct stage:
    piece_function run      # one of the two, the other is NULL
    range_function run_range
    prepare_function prepare    # or NULL
    const void *work
    ptrdiff_t pieces
    bint alone              # run on one thread, because waking others costs more than it saves
    int threads             # ON_ANY, ON_FEW or ON_MANY

cdef struct stage_list:
    stage *stages
    ptrdiff_t count, capacity
    ptrdiff_t shared, scratch    # bytes, for the kernel that needs most


cdef inline ptrdiff_t whole_lines(ptrdiff_t nbytes) noexcept nogil:
    return (nbytes + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE


cdef inline bint are_many(const char *shared) noexcept nogil:
    """Whether MANY_THREADS run the program, whose number stands in the line before the shared memory.  That may decide
    what a stage does, never what results."""
    return (<const ptrdiff_t *> (shared - CACHE_LINE))[0] >= MANY_THREADS


cdef inline stage_list *stages_of(object program) except NULL:
    return <stage_list *> PyCapsule_GetPointer(program.stages, "cvae._kernels.program.stages")


cdef inline void *new_work(
    object program, tuple arrays, ptrdiff_t size, ptrdiff_t shared, ptrdiff_t scratch,
) except NULL:
    """Zeroed memory for the description of a kernel's work; it and the arrays live as long as the program.

    shared and scratch are the bytes of memory that its pieces may use.
    """
    cdef stage_list *to = stages_of(program)
    cdef bytearray memory = bytearray(size)
    to.shared = max(to.shared, whole_lines(shared))
    to.scratch = max(to.scratch, whole_lines(scratch))
    program.kept.append((memory, arrays))
    return <void *> PyByteArray_AsString(memory)


cdef inline char *new_lines(object program, ptrdiff_t size) except NULL:
    """Memory that starts at a cache line and lives as long as the program."""
    cdef char *memory = <char *> new_work(program, (), size + CACHE_LINE, 0, 0)
    return memory + (CACHE_LINE - <size_t> memory % CACHE_LINE) % CACHE_LINE


cdef inline int add_stage(object program, piece_function run, const void *work, ptrdiff_t pieces, bint alone) except -1:
    """Record a stage whose pieces may be done by any thread."""
    return append_stage(program, stage(run, NULL, NULL, work, pieces, alone, ON_ANY))


cdef inline int add_prepared_stage(
    object program, prepare_function prepare, piece_function run, const void *work, ptrdiff_t pieces, bint alone,
) except -1:
    """Record a stage for which each thread first prepares its scratch."""
    return append_stage(program, stage(run, NULL, prepare, work, pieces, alone, ON_ANY))


cdef inline int add_range_stage(
    object program, range_function run_range, const void *work, ptrdiff_t pieces, bint alone,
) except -1:
    """Record a stage of which each thread does its whole share in one call, for pieces that share intermediate results.
    The final results must not depend on where the shares begin."""
    return append_stage(program, stage(NULL, run_range, NULL, work, pieces, alone, ON_ANY))


cdef inline int append_stage(object program, stage added) except -1:
    cdef stage_list *to = stages_of(program)
    cdef stage *longer
    if to.count == to.capacity:
        longer = <stage *> realloc(to.stages, (2 * to.capacity + 8) * sizeof(stage))
        if longer == NULL:
            raise MemoryError("no memory for the stages of a program")
        to.stages, to.capacity = longer, 2 * to.capacity + 8
    to.stages[to.count] = added
    to.count += 1
    return 0


cdef inline int run_last_stage(object program, int threads) except -1:
    """Have the stage recorded last run on few threads alone, or on many."""
    cdef stage_list *to = stages_of(program)
    to.stages[to.count - 1].threads = threads
    return 0


cdef inline bint is_left_out(const stage *of, ptrdiff_t n_threads) noexcept nogil:
    return of.threads == (ON_FEW if n_threads >= MANY_THREADS else ON_MANY)
