# Programs: the work of many kernels, recorded once and run many times.  OpenMP's threads start nowhere else.

from cpython.dict cimport PyDict_GetItem, PyDict_Size
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cython.parallel cimport parallel, threadid
from libc.stdlib cimport calloc, free

from stages cimport CACHE_LINE, is_left_out, stage, stage_list

cdef extern from "arithmetic.h" nogil:
    unsigned begin_arithmetic()
    void end_arithmetic(unsigned before)

cdef extern from "claim.h" nogil:
    ptrdiff_t claim(ptrdiff_t *next, ptrdiff_t count)


cdef extern from "<time.h>" nogil:
    enum:
        TIME_UTC
    struct timespec:
        long tv_sec
        long tv_nsec
    int timespec_get(timespec *, int)


cdef extern from "forks.h" nogil:
    int watch_forks()
    bint needs_substitute()
    bint run_in_substitute(void (*run)(void *work) noexcept nogil, void *work)


if watch_forks() != 0:
    raise MemoryError("no memory for what happens after a fork")


cdef enum:
    MOST_THREADS = 4096    # with more, OpenMP may use another number or abort the process

MAX_THREADS = MOST_THREADS    # for Python


# A thread's share of a stage's pieces; a thread that finishes its own early takes unstarted pieces from others' shares.
cdef struct share:
    ptrdiff_t next, end
    ptrdiff_t at_once    # pieces taken at a time
    ptrdiff_t[5] rest    # fills a cache line (with 64-bit pointers), to avoid false sharing


cdef const char *STAGES = "cvae._kernels.program.stages"


cdef void free_stages(object stages) noexcept:
    cdef stage_list *owned = <stage_list *> PyCapsule_GetPointer(stages, STAGES)
    free(owned.stages)
    free(owned)


cdef class Program:
    """Kernels, and Python functions between them, in the order in which they were recorded.

    The arrays of a kernel are fixed when it is recorded; their contents are read and written when the program runs.
    Nothing may be recorded while the program runs in another Python thread.

    Attributes
    ----------
    stages : capsule
        Where kernels record themselves (stages.pxd).
    kept : list
        What must live as long as the program.
    calls : list
        The Python functions: (number of stages before the call, function, arguments).
    """

    cdef stage_list *list    # in `stages`
    cdef readonly object stages
    cdef readonly list kept
    cdef readonly list calls

    def __cinit__(self):
        self.list = <stage_list *> calloc(1, sizeof(stage_list))
        if self.list == NULL:
            raise MemoryError("no memory for a program")
        self.stages = PyCapsule_New(self.list, STAGES, free_stages)
        self.kept, self.calls = [], []

    @property
    def n_stages(self):
        """The number of stages that have been recorded."""
        return self.list.count

    def call(self, function, *arguments):
        """Record the call of a Python function."""
        self.calls.append((self.list.count, function, arguments))

    def run(self, *, workspace, int n_threads):
        """Run everything that was recorded, on n_threads threads; results do not depend on their number."""
        if not 1 <= n_threads <= MOST_THREADS:
            raise ValueError(f"n_threads must be from 1 to {MOST_THREADS}, got {n_threads}")
        cdef ptrdiff_t start = 0
        for position, function, arguments in self.calls:
            self.run_stages(start, position, workspace, n_threads)
            function(*arguments)
            start = position
        self.run_stages(start, self.list.count, workspace, n_threads)

    cdef int run_stages(self, ptrdiff_t start, ptrdiff_t end, object workspace, int n_threads) except -1:
        if start == end:
            return 0
        cdef ptrdiff_t size = self.list.scratch
        # Not once per run: a Python call in between may have used the workspace.
        memory = reserve(workspace, CACHE_LINE + self.list.shared + n_threads * (size + CACHE_LINE))
        cdef unsigned char[::1] view = memory
        cdef share *shares = <share *> &view[0]
        cdef char *shared = <char *> &view[(n_threads + 1) * CACHE_LINE]
        cdef stages_run work = stages_run(
            self.list.stages + start, end - start, n_threads, shares, shared, shared + self.list.shared, size)
        with nogil:
            if n_threads == 1 or not needs_substitute():
                run_all(&work)
            elif not run_in_substitute(run_all, &work):
                work.n_threads = 1
                run_all(&work)
        return 0

    def timed(self, *, workspace, int n_threads):
        """Run everything on one thread, the stages divided as among n_threads, and return how long each part took.

        For each stage: seconds of what each thread does first, which is 0 for most; a list with the seconds of each
        piece, or of each thread's share where that is done in one call, or none if the stage is left out on so many
        threads; and whether one thread does the whole stage.
        """
        if not 1 <= n_threads <= MOST_THREADS:
            raise ValueError(f"n_threads must be from 1 to {MOST_THREADS}, got {n_threads}")
        cdef ptrdiff_t start = 0
        found = []
        for position, function, arguments in self.calls:
            self.time_stages(found, start, position, workspace, n_threads)
            function(*arguments)
            start = position
        self.time_stages(found, start, self.list.count, workspace, n_threads)
        return found

    cdef int time_stages(
        self, list found, ptrdiff_t start, ptrdiff_t end, object workspace, int n_threads
    ) except -1:
        memory = reserve(workspace, CACHE_LINE + self.list.shared + self.list.scratch)
        cdef unsigned char[::1] view = memory
        cdef char *shared = <char *> &view[CACHE_LINE]
        cdef char *scratch = shared + self.list.shared
        cdef const stage *now
        cdef ptrdiff_t i, part, parts, piece, first, last
        cdef double before, prepared
        note_threads(shared, n_threads)
        for i in range(start, end):
            now = &self.list.stages[i]
            seconds, prepared = [], 0
            if is_left_out(now, n_threads):
                found.append((0.0, [], bool(now.alone)))
                continue
            parts = 1 if now.alone or now.pieces == 1 else n_threads
            for part in range(parts):
                first, last = part * now.pieces // parts, (part + 1) * now.pieces // parts
                if now.prepare != NULL and first < last:
                    before = clock()
                    now.prepare(now.work, shared, scratch)
                    prepared = clock() - before
                if now.run_range == NULL:
                    for piece in range(first, last):
                        before = clock()
                        now.run(now.work, piece, shared, scratch)
                        seconds.append(clock() - before)
                else:
                    before = clock()
                    if first < last:
                        now.run_range(now.work, first, last, shared, scratch)
                    seconds.append(clock() - before)
            found.append((prepared, seconds, bool(now.alone)))
        return 0


cdef inline double clock() noexcept nogil:
    """Seconds, to less than a nanosecond, for which there have been too many since 1970."""
    cdef timespec now
    timespec_get(&now, TIME_UTC)
    return <double> (now.tv_sec % 1_000_000) + 1e-9 * now.tv_nsec


cdef inline void note_threads(char *shared, ptrdiff_t n_threads) noexcept nogil:
    """Write down how many threads there are (stages.pxd)."""
    (<ptrdiff_t *> (shared - CACHE_LINE))[0] = n_threads


# A run of consecutive stages, with its memory.
cdef struct stages_run:
    const stage *stages
    ptrdiff_t count
    int n_threads
    share *shares       # one for each thread
    char *shared
    char *scratch       # `size` bytes for each thread
    ptrdiff_t size


cdef void run_all(void *work) noexcept nogil:
    cdef const stages_run *r = <const stages_run *> work
    cdef const stage *now
    cdef ptrdiff_t i, parts
    cdef unsigned before = begin_arithmetic()
    note_threads(r.shared, r.n_threads)
    for i in range(r.count):
        now = &r.stages[i]
        if is_left_out(now, r.n_threads):
            continue
        parts = 1 if now.alone or now.pieces == 1 else r.n_threads
        share_out(now, r.shares, parts)
        if parts == 1:
            work_off(now, r.shares, 1, 0, r.shared, r.scratch)
        else:
            with parallel(num_threads=r.n_threads):
                take_part(r, now, threadid())
    end_arithmetic(before)


cdef object reserve(object workspace, ptrdiff_t nbytes):
    """At least nbytes bytes of the caller's workspace (cvae/runtime/workspace.py)."""
    nbytes = max(1, nbytes)
    buffer = workspace.reserve(nbytes)
    cdef unsigned char[::1] view = buffer
    if view is None or view.shape[0] < nbytes:
        raise ValueError(f"workspace must reserve at least {nbytes} bytes")
    return buffer


cdef void share_out(const stage *now, share *shares, ptrdiff_t parts) noexcept nogil:
    """Neighbouring pieces go to the same thread, and the same pieces in every stage, so that much of what a thread
    reads is already in its cache."""
    cdef ptrdiff_t i
    for i in range(parts):
        shares[i].next, shares[i].end = i * now.pieces // parts, (i + 1) * now.pieces // parts
        shares[i].at_once = 1 if now.run_range == NULL else shares[i].end - shares[i].next


cdef void take_part(const stages_run *r, const stage *now, ptrdiff_t own) noexcept nogil:
    """Work off a stage in a thread that may be OpenMP's own."""
    cdef unsigned before = begin_arithmetic()
    work_off(now, r.shares, r.n_threads, own, r.shared, r.scratch + own * r.size)
    end_arithmetic(before)


cdef void work_off(
    const stage *now, share *shares, ptrdiff_t parts, ptrdiff_t own, char *shared, char *scratch
) noexcept nogil:
    """Work off the thread's own share, then take unstarted pieces of other threads' shares, so that a delayed thread
    does not stall the stage."""
    cdef bint prepared = now.prepare == NULL
    cdef ptrdiff_t turn, first
    cdef share *part
    for turn in range(parts):
        part = &shares[(own + turn) % parts]
        first = claim(&part.next, part.at_once)
        while first < part.end:
            if not prepared:
                now.prepare(now.work, shared, scratch)
                prepared = True
            if now.run_range == NULL:
                now.run(now.work, first, shared, scratch)
            else:
                now.run_range(now.work, first, part.end, shared, scratch)
            first = claim(&part.next, part.at_once)


def is_unchanged(list entries, list sizes):
    """Return whether dictionaries are as they were.

    entries: (dictionary, key, value), compared by identity; None also for a key that is missing.  sizes: (dictionary,
    number of keys).  Compiled, for it is called for each single image that is encoded or decoded.
    """
    cdef tuple entry
    cdef PyObject *value
    for entry in entries:
        value = PyDict_GetItem(entry[0], entry[1])
        if value != <PyObject *> entry[2] and not (value == NULL and entry[2] is None):
            return False
    for entry in sizes:
        if PyDict_Size(entry[0]) != entry[1]:
            return False
    return True


def has_values(dict dictionary, tuple keys, tuple values):
    """Return whether a dictionary has these values, compared by identity, under these keys."""
    cdef Py_ssize_t i
    for i in range(len(keys)):
        if PyDict_GetItem(dictionary, keys[i]) != <PyObject *> values[i]:
            return False
    return True
