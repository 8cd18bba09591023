/* Forked children.  GNU OpenMP keeps a pool of threads for every thread that asks it for some.  The thread that forks
 * still has its pool in the child, where the pool's threads do not exist: it would wait for them for ever.  Any other
 * thread of the child gets a new pool, so one of them takes over what the thread that forked would start. */
#ifndef CVAE_FORKS_H
#define CVAE_FORKS_H

#if defined(_OPENMP) && !defined(_WIN32)
#include <pthread.h>

static _Thread_local int has_forked; /* whether this is the thread of a child that its parent's fork returned to */

/* The thread that takes over; there is at most one in a process. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int exists;
    void (*run)(void *work); /* what it has to do, or NULL */
    void *work;
} substitute = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void after_fork_in_child(void) {
    has_forked = 1;
    pthread_mutex_init(&substitute.mutex, NULL);
    pthread_cond_init(&substitute.changed, NULL);
    substitute.exists = 0;
    substitute.run = NULL;
}

static void *take_over(void *unused) {
    (void)unused;
    pthread_mutex_lock(&substitute.mutex);
    for (;;) {
        while (!substitute.run) pthread_cond_wait(&substitute.changed, &substitute.mutex);
        substitute.run(substitute.work);
        substitute.run = NULL;
        pthread_cond_broadcast(&substitute.changed);
    }
    return NULL;
}

static int watch_forks(void) { return pthread_atfork(NULL, NULL, after_fork_in_child); }

/* Whether this thread must not start OpenMP's threads. */
static int needs_substitute(void) { return has_forked; }

/* Calls run(work) in another thread, and returns whether there is one. */
static int run_in_substitute(void (*run)(void *work), void *work) {
    pthread_mutex_lock(&substitute.mutex);
    if (!substitute.exists) {
        pthread_t thread;
        substitute.exists = pthread_create(&thread, NULL, take_over, NULL) == 0 && pthread_detach(thread) == 0;
    }
    if (substitute.exists) {
        substitute.run = run;
        substitute.work = work;
        pthread_cond_broadcast(&substitute.changed);
        while (substitute.run) pthread_cond_wait(&substitute.changed, &substitute.mutex);
    }
    pthread_mutex_unlock(&substitute.mutex);
    return substitute.exists;
}
#else
static int watch_forks(void) { return 0; }
static int needs_substitute(void) { return 0; }
static int run_in_substitute(void (*run)(void *work), void *work) {
    (void)run, (void)work;
    return 0;
}
#endif

#endif
