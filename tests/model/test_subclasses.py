"""Classes that users derive from the models, with scikit-learn's own bases and without."""

import copy
import functools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from small_vae import assert_same_bits, parameters, random_images, small_vae, subprocess_environment

import cvae


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


class Halved(cvae.VAE):
    """A model with an argument of its own and another method."""

    def __init__(self, width=4, share=0.5, note=None, T=2):
        super().__init__(["Flatten()"], [f"FullyConnected(n_out={width})"], T=T, n_epochs=1, batchsize=4, verbose=False)
        self.width, self.share, self.note = width, share, note

    def transform(self, X, y=None, **others):
        return super().transform(X, y, **others) * self.share


class Named(cvae.BernoulliVAE):
    """A model with another method alone."""

    def score(self, X, y=None, sample_weight=None):
        return 7.0


class Weighted(cvae.VAE):
    """A model whose objective follows from an argument of its own, with a name that `BernoulliVAE` has too."""

    def __init__(self, beta=1.0):
        super().__init__("mlp", objective=f"ELBO(beta={beta})", T=2)
        self.beta = beta


def test_an_argument_of_ones_own_takes_effect_whatever_its_name():
    assert Weighted().set_params(beta=4).objective == "ELBO(beta=4)"


def test_a_class_of_ones_own_is_restored_with_its_arguments(tmp_path):
    X, path = random_images(6), tmp_path / "model"
    vae = Halved(width=3, share=0.25).fit(X)
    vae.save(path)
    other = cvae.load(path, Halved)
    assert type(other) is Halved
    assert other.get_params() == {"width": 3, "share": 0.25, "note": None, "T": 2}
    assert (other.batchsize, other.n_epochs) == (4, 1)
    np.testing.assert_array_equal(other.transform(X), vae.transform(X))
    assert_same_bits(parameters(other.partial_fit(X)), parameters(vae.partial_fit(X)))
    other.set_params(width=5).fit(X)
    assert cvae.load(path, cls=cvae.VAE).decode(np.zeros((1, 2))).shape == (1, *X.shape[1:])


def test_a_model_of_the_package_may_become_one_of_ones_own(tmp_path):
    X = random_images(6)
    vae = small_vae().fit(X, n_epochs=1)
    vae.save(tmp_path / "model")
    named = cvae.load(tmp_path / "model", Named)
    assert (type(named), named.score(X)) == (Named, 7.0)
    assert_same_bits(parameters(named), parameters(vae))
    with pytest.raises(ValueError, match="holds a BernoulliVAE, got the class Halved"):
        cvae.load(tmp_path / "model", Halved)


def test_a_class_of_ones_own_is_not_lost_without_a_word(tmp_path):
    vae, path = Halved().fit(random_images(6)), tmp_path / "model"
    vae.save(path)
    with pytest.warns(UserWarning, match="was saved from Halved, a class derived from VAE, which this returns") as seen:
        assert type(cvae.load(path)) is cvae.VAE
    assert seen[0].filename == __file__
    vae.set_params(note=print).fit(random_images(6)).save(path)
    with pytest.warns(UserWarning, match="does not hold note of the Halved, which have their defaults"):
        assert cvae.load(path, Halved).note is None


@pytest.mark.parametrize("cls", [dict, "VAE", cvae.VAE()])
def test_what_a_file_is_loaded_as_is_a_class_of_models(cls, tmp_path):
    with pytest.raises(TypeError, match="cls must be one of the classes BernoulliVAE, VAE, or derived from one, got"):
        cvae.load(tmp_path / "model", cls)


class Open(cvae.VAE):
    """A model that fixes some arguments of its base and passes others on."""

    def __init__(self, T=2, width=8, **others):
        layers = ["Flatten()", f"FullyConnected(n_out={width})"]
        super().__init__(layers, T=T, n_epochs=1, verbose=False, **others)
        self.width = width


class Narrow(Open):
    """One that fixes an argument of that one."""

    def __init__(self, **others):
        others.setdefault("batchsize", 4)
        super().__init__(width=3, **others)


def test_arguments_that_a_class_passes_on_by_itself_are_none_of_its_own(tmp_path):
    X, vae = random_images(8), Open(T=3, batchsize=4, random_state=0)
    params = vae.get_params()
    assert (params["T"], params["width"], params["batchsize"], params["decoder"]) == (3, 8, 4, "auto")
    assert not {"encoder", "n_epochs", "verbose"} & params.keys()
    assert repr(vae) == "Open(T=3, batchsize=4, random_state=0)"
    for same in (clone(vae), copy.deepcopy(vae), pickle.loads(pickle.dumps(vae))):
        assert same.get_params() == params
        assert_same_bits(parameters(same.fit(X)), parameters(vae.fit(X)))
    vae.save(tmp_path / "model")
    assert cvae.load(tmp_path / "model", Open).get_params() == params
    assert vae.set_params(width=4, lr=0.01).encoder[1] == "FullyConnected(n_out=4)"
    assert (vae.get_params()["lr"], vae.T, vae.n_epochs) == (0.01, 3, 1)
    search = GridSearchCV(Open(), {"width": [2, 3], "batchsize": [4]}, cv=2).fit(X)
    assert search.best_estimator_.encoder[1] == f"FullyConnected(n_out={search.best_params_['width']})"


@pytest.mark.parametrize("name", ["encoder", "n_epochs"])
def test_arguments_that_a_class_passes_on_by_itself_cannot_be_set(name):
    vae = Open()
    before = vars(vae).copy()
    with pytest.raises(ValueError, match=f"{name} must be left to Open, whose constructor passes it on: .*multiple"):
        vae.set_params(**{name: 5})
    assert vars(vae) == before
    assert vae.set_params(**{name: getattr(vae, name)}) is vae  # the value that it has


def test_a_class_of_a_class_may_have_defaults_of_its_own():
    vae = Narrow()
    assert not {"width", "batchsize", "encoder"} & vae.get_params().keys()
    assert (clone(vae).width, clone(vae).batchsize) == (3, 4)
    assert clone(vae.set_params(batchsize=5)).get_params() == vae.get_params()
    assert (vae.batchsize, vae.width) == (5, 3)
    vae.lr = 0.5
    assert clone(vae).lr == 0.5


class Forgetful(cvae.VAE):
    """A model that leaves out the constructor of its base."""

    def __init__(self, T=2):
        self.T = T


def test_a_class_that_does_not_call_its_base_is_told():
    with pytest.raises(AttributeError, match=r"no attribute '\w+': its class's __init__ must call super\(\).__init__"):
        Forgetful().fit(random_images(6))


def test_constructors_that_pass_on_arguments_without_names_keep_them():
    class Passing(cvae.VAE):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    vae = Passing(["Flatten()"], T=3)
    assert vae.set_params(T=5).get_params()["encoder"] == ["Flatten()"]
    assert clone(vae).encoder == ["Flatten()"]
    assert repr(vae) == "Passing(encoder=['Flatten()'], T=5)"


def test_a_constructor_may_be_a_partial_method():
    class Small(cvae.VAE):
        __init__ = functools.partialmethod(cvae.VAE.__init__, T=4)

    assert Small().T == 4
