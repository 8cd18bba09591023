# A step of an optimizer as the kernels take it (kernels/optimizers.h), from its arrays.

from cython cimport floating

from tables cimport ADAGRAD, ADAM, RMSPROP, SGD, parameter_update


cdef inline int fill_update(
    object program, parameter_update *update, str rule, floating[::1] param, tuple states, const double[::1] scalars,
) except -1:
    """rule: "sgd", "adagrad", "rmsprop" or "adam"; states: its state, or its two, of the parameter's size and type.

    The program keeps state and scalars where they are.
    """
    cdef ptrdiff_t n_scalars = 3
    cdef floating[::1] state, second_state
    if rule == "sgd":
        update.rule = SGD
    elif rule == "adagrad":
        update.rule = ADAGRAD
    elif rule == "rmsprop":
        update.rule, n_scalars = RMSPROP, 4
    elif rule == "adam":
        update.rule, n_scalars = ADAM, 7
    else:
        raise ValueError(f"rule must be 'sgd', 'adagrad', 'rmsprop' or 'adam', got {rule!r}")
    if len(states) != 1 + (update.rule == ADAM) or any([array is None for array in states]):
        raise ValueError(f"{rule} must have {1 + (update.rule == ADAM)} arrays of state, got {len(states)}")
    if scalars.shape[0] != n_scalars:
        raise ValueError(f"scalars of {rule} must be {n_scalars} numbers, got {scalars.shape[0]}")
    state = states[0]
    second_state = states[len(states) - 1]
    if state.shape[0] != param.shape[0] or second_state.shape[0] != param.shape[0]:
        raise ValueError(
            "param and its state must have the same number of elements, got "
            f"{(param.shape[0], state.shape[0], second_state.shape[0])}"
        )
    update.param, update.state, update.second_state = &param[0], &state[0], &second_state[0]
    update.scalars = &scalars[0]
    program.kept.append((state, second_state, scalars))
    return 0
