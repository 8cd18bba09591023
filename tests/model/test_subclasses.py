"""Classes that users derive from the models, with scikit-learn's own bases and without."""

import subprocess
import sys

import pytest
from small_vae import subprocess_environment


def run(program):
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, env=subprocess_environment(), capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "bases",
    [
        "TransformerMixin, BaseEstimator, cvae.VAE",
        "BaseEstimator, cvae.BernoulliVAE",
        "cvae.VAE, BaseEstimator, TransformerMixin",
    ],
)
def test_bases_that_contradict_a_model_s_are_refused_and_break_no_other_class(bases):
    program = f"""
import cvae
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
try:
    class Mine({bases}): pass
except TypeError as error:
    print(error)
class Other(ClassifierMixin, cvae.VAE): pass
for vae in (cvae.VAE("mlp"), Other(T=3)):
    print(vae, isinstance(vae, BaseEstimator), callable(vae.set_output))
"""
    message, *models = run(program).splitlines()
    assert "Mine must not have the bases" in message
    assert "leave those of scikit-learn out" in message
    assert models == ["VAE(encoder='mlp') True True", "Other(T=3) True True"]


def test_bases_in_scikit_learn_s_order_behind_a_model_are_no_matter():
    program = """
import cvae
from sklearn.base import BaseEstimator, TransformerMixin, clone
class Mine(cvae.VAE, TransformerMixin, BaseEstimator): pass
print(clone(Mine(T=3)))
"""
    assert run(program) == "Mine(T=3)\n"
