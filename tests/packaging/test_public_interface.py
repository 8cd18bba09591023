"""The public names: they exist, are documented and are light to import."""

import inspect
import re
import subprocess
import sys

import pytest
from small_vae import subprocess_environment

import cvae
from cvae import (
    BernoulliVAE,
    activations,
    callbacks,
    initializers,
    layers,
    likelihoods,
    losses,
    objectives,
    optimizers,
    schedulers,
)
from cvae.parsing import subclasses_by_name

PUBLIC = {
    cvae: [
        "VAE", "BernoulliVAE", "NotFittedError", "VAEOutlierDetector", "callbacks", "datasets", "explorer", "export",
        "get_num_threads", "load", "minibatch", "plotting", "set_num_threads",
    ],
    callbacks: [
        "Callback", "CSVLogger", "EarlyStopping", "LambdaCallback", "MLflow", "ModelCheckpoint", "ReduceLROnPlateau",
        "TensorBoard",
    ],
    layers: [
        "Condition", "Conv2D", "ConvTranspose2D", "Pool2D", "Upsample2D", "Flatten", "Reshape", "FullyConnected",
        "BatchNorm1D", "BatchNorm2D", "GroupNorm", "Residual",
    ],
    activations: [
        "ReLU", "LeakyReLU", "GELU", "ELU", "SELU", "Sigmoid", "HardSigmoid", "Tanh", "SoftPlus", "Exponential",
        "Affine", "Identity",
    ],
    losses: ["VAELoss"],
    likelihoods: ["Bernoulli", "Likelihood"],
    objectives: ["ELBO", "Objective"],
    optimizers: ["SGD", "AdaGrad", "RMSProp", "Adam", "AdamW"],
    schedulers: ["ConstantScheduler", "CosineScheduler", "ExponentialScheduler", "NoamScheduler", "KingScheduler"],
    initializers: ["WeightInitializer", "ActivationInitializer", "OptimizerInitializer", "SchedulerInitializer"],
}  # fmt: skip
METHODS = [
    "fit", "partial_fit", "fit_transform", "encode", "transform", "decode", "inverse_transform", "reconstruct",
    "sample", "fit_prior", "interpolate", "elbo", "elbo_terms", "score_samples", "score", "log_likelihood",
    "active_units", "error_map", "summary", "copy", "save", "get_params", "set_params", "get_feature_names_out",
    "forward", "backward", "update", "flush_gradients", "parameters", "gradients", "hyperparameters",
    "derived_variables", "classes_", "pixel_offset_", "pixel_scale_", "n_features_in_", "feature_names_in_",
]  # fmt: skip


def test_the_package_lists_what_is_public_and_has_it_without_another_import():
    shown = {name for name in dir(cvae) if not name.startswith("_")}
    assert shown == {*PUBLIC[cvae], *cvae._MODULES}
    assert shown > {module.__name__.removeprefix("cvae.") for module in PUBLIC if module is not cvae}
    code = f"import cvae; print(*(getattr(cvae, name).__name__ for name in {sorted(shown)}))"
    subprocess.run([sys.executable, "-c", code], env=subprocess_environment(), check=True)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in PUBLIC for name in PUBLIC[module]])
def test_public_names_exist_and_are_documented(module, name):
    thing = getattr(module, name)
    assert inspect.getdoc(thing)
    assert not name.startswith("_")


def test_call_strings_name_the_public_layers_and_the_one_that_models_append():
    named = subclasses_by_name(layers.LayerBase).values()
    own = {layer.__name__ for layer in named if layer.__module__.startswith("cvae.")}
    assert own == {*layers.__all__, "AppendedNumber"} - {"LayerBase"}


def test_the_packages_own_list_of_names_is_right():
    assert set(cvae.__all__) == {*PUBLIC[cvae], "__version__"}
    assert re.fullmatch(r"\d+(\.\d+)*(\+\w+)?", cvae.__version__)


@pytest.mark.parametrize("name", METHODS)
def test_the_models_methods_exist_and_are_documented(name):
    member = inspect.getattr_static(BernoulliVAE, name)
    assert inspect.getdoc(member)
    if callable(member):
        annotations = inspect.signature(member).parameters.values()
        assert all(p.annotation is not p.empty for p in annotations if p.name != "self")
        assert inspect.signature(member).return_annotation is not inspect.Signature.empty


def test_the_model_has_no_other_public_methods_or_attributes():
    methods = {name for cls in own_classes() for name in vars(cls) if not name.startswith("_")}
    methods -= {"set_fit_request", "set_partial_fit_request", "set_transform_request"}  # of scikit-learn
    methods -= {"set_inverse_transform_request", "set_score_request"}
    arguments = set(inspect.signature(BernoulliVAE).parameters)
    vae = BernoulliVAE()
    assert methods - arguments == {*METHODS, "loss", "encoder", "decoder"} - arguments
    assert set(vars(vae)) == arguments
    assert len(vae.encoder) == 7
    assert {name for name in vars(vae) if not name.startswith("_")} == {*arguments, "encoder_", "decoder_", "history_"}


def own_classes():
    """Return the classes of this package that the model consists of."""
    return [cls for cls in BernoulliVAE.__mro__ if cls.__module__.startswith("cvae.")]


SIGNATURES = {
    "fit": "(self, X, y=None, *, n_epochs=None, batchsize=None, verbose=None, validation_data=None, "
    "validation_fraction=None, callbacks=(), accumulate=None, n_shards=None, comm=None, parts=False, **weights)",
    "partial_fit": "(self, X, y=None, *, classes=None, **weights)",
    "encode": "(self, X, y=None)",
    "transform": "(self, X, y=None, *, out=None)",
    "decode": "(self, Z, y=None)",
    "inverse_transform": "(self, Z, y=None)",
    "reconstruct": "(self, X, y=None, *, out=None)",
    "sample": "(self, n=None, random_state=None, *, y=None, prior='normal', temperature=1.0)",
    "fit_prior": "(self, X, n_components=10, *, y=None, random_state=0)",
    "interpolate": "(self, a, b, n=10, method='linear', *, y=None)",
    "elbo": "(self, X, random_state=0, *, y=None)",
    "score_samples": "(self, X, y=None)",
    "score": "(self, X, y=None, sample_weight=None)",
    "log_likelihood": "(self, X, n_samples=100, random_state=0, *, y=None)",
    "active_units": "(self, X, threshold=0.01, *, y=None)",
    "error_map": "(self, X, kind='likelihood', *, y=None)",
    "summary": "(self, image_shape=None, *, y=None, batchsize=None)",
    "copy": "(self, *, optimizer_state=True)",
    "save": "(self, path, *, optimizer_state=True)",
    "forward": "(self, X_train, retain_derived=True, noise=None, y=None)",
    "backward": "(self, X_train, X_recon)",
    "update": "(self, cur_loss=None)",
    "flush_gradients": "(self)",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_keep_their_names_order_and_defaults(name):
    signature = inspect.signature(getattr(BernoulliVAE, name))
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == SIGNATURES[name]


def run(code, folder):
    """Run code in a new Python process with warnings as errors, and return what it prints."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env=subprocess_environment(),
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_pictures_and_detectors_are_found_without_an_import_of_their_own(tmp_path):
    code = "import sys, cvae; cvae.plotting.samples; print('matplotlib' in sys.modules); cvae.VAEOutlierDetector"
    assert run(code, tmp_path) == "False\n"


def test_importing_cvae_imports_no_optional_package(tmp_path):
    loaded = run("import sys, cvae; print(*{name.partition('.')[0] for name in sys.modules})", tmp_path).split()
    heavy = {"matplotlib", "sklearn", "scipy", "torch", "PIL", "onnx", "pandas", "joblib", "mpi4py", "pytest"}
    assert heavy.isdisjoint(loaded)
    assert {"cvae", "numpy"} <= set(loaded)


def test_training_saving_and_loading_need_no_optional_package(tmp_path):
    """With none of the optional packages importable."""
    code = """
import sys
for name in ("matplotlib", "sklearn", "scipy", "torch", "PIL", "joblib"):
    sys.modules[name] = None
import cvae
digits = cvae.datasets.load("mnist-sample")
vae = cvae.BernoulliVAE(T=2, latent_dim=8, verbose=False).fit(digits.images[:64], n_epochs=1)
vae.save("model")
print(cvae.load("model").reconstruct(digits.test_images[:3]).shape)
"""
    assert run(code, tmp_path) == "(3, 28, 28, 1)\n"


def test_importing_prints_nothing(tmp_path):
    assert run("import cvae", tmp_path) == ""


def test_numpy_mls_calls_run(tmp_path):
    code = """
from cvae import BernoulliVAE, datasets
X = datasets.load("mnist-sample").images[:16] / 255
vae = BernoulliVAE(2, 16, verbose=False)
X_recon = vae.forward(X)
vae.backward(X, X_recon)
vae.update(1.0)
vae.flush_gradients()
print(X_recon.shape, vae.encoder["Conv1"].optimizer.cur_step, vae.decoder["FC2"].parameters["W"].shape)
"""
    assert run(code, tmp_path) == "(16, 784) 1 (16, 784)\n"


def test_dir_lists_public_names_alone_and_all_of_them_are_reached(tmp_path):
    code = "import cvae; print(*(name for name in dir(cvae) if getattr(cvae, name) is not None))"
    names = run(code, tmp_path).split()
    modules = {"activations", "architectures", "initializers", "layers", "likelihoods", "losses", "objectives"}
    assert set(names) == {*cvae.__all__, *modules, "optimizers", "schedulers"}


@pytest.mark.parametrize(
    ("name", "home"),
    [("Adam", "optimizers"), ("Conv2D", "layers"), ("Gaussian", "likelihoods"), ("ReLU", "activations"),
     ("EarlyStopping", "callbacks"), ("CosineScheduler", "schedulers"), ("IWAE", "objectives")],
)  # fmt: skip
def test_a_class_that_is_looked_for_in_the_package_itself_is_found_by_the_message(name, home):
    with pytest.raises(AttributeError, match=rf"'cvae' has no attribute '{name}': it is cvae\.{home}\.{name}$"):
        getattr(cvae, name)
    assert getattr(getattr(cvae, home), name).__name__ == name


def test_a_name_that_is_nowhere_is_an_attribute_error_without_advice():
    with pytest.raises(AttributeError, match=r"'cvae' has no attribute 'Nothing'$"):
        cvae.Nothing  # noqa: B018
