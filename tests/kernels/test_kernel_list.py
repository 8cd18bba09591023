"""Every kernel of csrc/kernels/kernel_list.h has a plain reference that tests hold it against."""

import re
from pathlib import Path

import numpy as np
import oracles
import program_checks

from cvae._kernels import elementwise, optimizers
from cvae.activations import ACTIVATIONS, GELU, ActivationBase

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]
LIST = ROOT / "csrc" / "kernels" / "kernel_list.h"

# What a kernel is held against.  Kernels that tell how much memory others need are held against guards around it.
ENOUGH_MEMORY = program_checks.Guarded
REFERENCES = {
    "pack_panels": oracles.conv2d_forward,
    "column_sums": oracles.dense_backward,
    "add_column_sums": oracles.conv_pool_backward,
    "add_bias": oracles.conv_transpose2d_forward,
    "conv2d_has_few_outputs": oracles.conv2d_forward,
    "conv2d_forward": oracles.conv2d_forward,
    "conv2d_grad_input": oracles.conv2d_grad_input,
    "conv2d_grad_input_scratch": ENOUGH_MEMORY,
    "conv2d_grad_weight": oracles.conv2d_grad_weight,
    "conv2d_grad_weight_scratch": ENOUGH_MEMORY,
    "conv_pool_grad_weight": oracles.conv_pool_backward,
    "conv_pool_grad_weight_scratch": ENOUGH_MEMORY,
    "conv_pool_patch": ENOUGH_MEMORY,
    "conv_pool_collect": oracles.conv_pool_backward,
    "winograd_channels": ENOUGH_MEMORY,
    "winograd_kernel": oracles.conv2d_forward,
    "winograd_kernel_size": ENOUGH_MEMORY,
    "winograd_tiles": oracles.conv2d_forward,
    "winograd_block": oracles.conv2d_forward,
    "winograd_scratch": ENOUGH_MEMORY,
    "winograd_forward": oracles.conv2d_forward,
    "winograd_backward": oracles.conv2d_grad_input,
    "winograd_collect_kernel": oracles.conv2d_grad_weight,
    "winograd_rows_kernel": oracles.conv2d_forward,
    "winograd_rows_kernel_size": ENOUGH_MEMORY,
    "winograd_rows_forward": oracles.conv2d_forward,
    "winograd_rows_bands": oracles.conv2d_forward,
    "winograd_rows_scratch": ENOUGH_MEMORY,
    "dense_forward": oracles.dense_forward,
    "dense_backward": oracles.dense_backward,
    "dense_grad_input": oracles.dense_backward,
    "dense_grad_weight": oracles.dense_backward,
    "dense_backward_scratch": ENOUGH_MEMORY,
    "live_size": ENOUGH_MEMORY,
    "live_find": oracles.dense_backward,
    "live_copy": oracles.dense_backward,
    "pool2d_max_forward": oracles.pool2d_max_forward,
    "pool2d_max_backward": oracles.pool2d_max_backward,
    "pool2d_average_forward": oracles.pool2d_average_forward,
    "pool2d_average_backward": oracles.pool2d_average_backward,
    "upsample2d_forward": oracles.upsample2d_forward,
    "upsample2d_backward": oracles.upsample2d_backward,
    "normalization_sums": oracles.normalization_statistics,
    "normalization_statistics": oracles.normalization_statistics,
    "normalization_factors": oracles.normalize,
    "normalize": oracles.normalize,
    "normalization_gradients": oracles.normalize_backward,
    "normalization_collect": oracles.normalize_backward,
    "normalize_backward": oracles.normalize_backward,
    "running_average": oracles.running_average,
    "condition_forward": oracles.condition_forward,
    "condition_backward": oracles.condition_backward,
    "relu_backward": oracles.relu_backward,
    "add": oracles.add,
    "scale": oracles.scale,
    "set_zero": oracles.conv2d_grad_weight,
    "sum_accumulators": oracles.conv2d_grad_weight,
    "sigmoid": oracles.sigmoid,
    "clip": oracles.clip,
    "map_pixels": oracles.map_pixels,
    "unmap_pixels": oracles.unmap_pixels,
    "scale_bytes": oracles.scale_bytes,
    "narrow": oracles.conv_pool_forward,
    "widen": oracles.conv_pool_backward,
    "binarize": oracles.binarize,
    "threshold": np.greater,
    "is_in_unit_range": oracles.in_unit_range,
    "activation_forward": ActivationBase.fn,
    "activation_backward": ActivationBase.grad,
    "bce_with_logits": oracles.bce_with_logits,
    "gaussian_kl": oracles.kl_divergence,
    "continuous_bernoulli": oracles.continuous_bernoulli,
    "continuous_bernoulli_mean": oracles.continuous_bernoulli_mean,
    "gaussian": oracles.gaussian,
    "laplace": oracles.laplace,
    "gaussian_per_pixel": oracles.gaussian_per_pixel,
    "laplace_per_pixel": oracles.laplace_per_pixel,
    "discretized_logistic": oracles.discretized_logistic,
    "free_bits": oracles.free_bits,
    "importance_weights": oracles.importance_weighted,
    "importance_gradient": oracles.importance_weighted,
    "scale_row": oracles.importance_weighted,
    "latent_sample": oracles.latent_sample,
    "latent_backward": oracles.latent_backward,
    "update_parameter": (oracles.sgd, oracles.adagrad, oracles.rmsprop, oracles.adam, oracles.adamw),
    "sum_of_squares": oracles.clipped,
}


def listed():
    return re.findall(r"^KERNEL\(\s*\w+,\s*(\w+),", LIST.read_text(), re.MULTILINE)


def test_the_list_can_be_read():
    names = listed()
    assert len(names) == len(set(names)) == LIST.read_text().count("\nKERNEL(")
    assert {"conv2d_forward", "sum_of_squares"} <= set(names)


def test_every_kernel_has_a_reference():
    assert set(listed()) == set(REFERENCES)


def test_every_kernel_is_called_without_python():
    """By the program that other compilers, processors and checkers of memory run (tests/long)."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/long/kernel_program").iterdir())
    assert set(listed()) <= set(re.findall(r"(?:TABLE\.|IN_TWO\()(\w+)", source))


def test_every_optimizer_has_a_reference():
    assert {reference.__name__ for reference in REFERENCES["update_parameter"]} == set(optimizers.rules())


def test_every_activation_has_a_reference():
    activations = [*(make() for make in ACTIVATIONS.values()), GELU(approximate=False)]
    compiled = dict(activation.compiled for activation in activations if activation.compiled)
    assert {name: len(constants) for name, constants in compiled.items()} == elementwise.activations()


def test_every_reference_is_used_by_a_test_of_kernels():
    others = {"test_kernel_list.py", "test_oracles.py", "test_reference_oracles.py"}
    source = "".join(path.read_text() for path in TESTS.glob("test_*.py") if path.name not in others)
    for references in REFERENCES.values():
        for reference in references if isinstance(references, tuple) else (references,):
            assert re.search(rf"\b{reference.__name__}\b", source), reference
