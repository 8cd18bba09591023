# Builds the update of a parameter by an optimizer, as the kernels take it (kernels/optimizers.h), from its arrays.

from cython cimport floating

cdef extern from "kernels/kernels.h" nogil:
    ctypedef struct update_rule:
        const char *name
        int n_states, n_scalars

    ctypedef struct parameter_update:
        const update_rule *rule
        void *param
        void **states
        const double *scalars


cdef inline const update_rule *find_rule(const update_rule *rules, str name) except NULL:
    """The rule of this name, or ValueError."""
    names = []
    while rules.name != NULL:
        names.append(rules.name.decode())
        if names[len(names) - 1] == name:
            return rules
        rules += 1
    raise ValueError(f"rule must be one of {', '.join(names)}, got {name!r}")


cdef inline int fill_update(
    object program, parameter_update *update, const update_rule *rules, str name, floating[::1] param, tuple states,
    const double[::1] scalars,
) except -1:
    """An update of param by the rule of this name; its states have the parameter's size and type.

    The program keeps states and scalars alive.
    """
    cdef const update_rule *rule = find_rule(rules, name)
    cdef floating[::1] state
    cdef ptrdiff_t i
    if len(states) != rule.n_states or any([array is None for array in states]):
        raise ValueError(f"{name} must have {rule.n_states} arrays of state, got {len(states)}")
    if scalars.shape[0] != rule.n_scalars:
        raise ValueError(f"scalars of {name} must be {rule.n_scalars} numbers, got {scalars.shape[0]}")
    for i in range(rule.n_states):
        state = states[i]
        if state.shape[0] != param.shape[0]:
            raise ValueError(
                "param and its states must have the same number of elements, got "
                f"{param.shape[0]} and {state.shape[0]}"
            )
        update.states[i] = &state[0]
        program.kept.append(state)
    update.rule, update.param, update.scalars = rule, &param[0], &scalars[0]
    program.kept.append(scalars)
    return 0
