"""Models that have, all together, every public layer, activation, likelihood, objective and optimizer, trained on any
number of threads. The layers are large enough for threads to share their work; the last batch is smaller."""

import inspect

import numpy as np

import cvae
from cvae import activations, likelihoods, objectives, optimizers

# For each layer, what is before and after it in an encoder of images (12, 10, 4), and further arguments of the model.
CONVOLUTION = "Conv2D(33, 3, act_fn='ReLU')"
LAYERS = {
    "BatchNorm1D": (["Flatten()", "FullyConnected(70)", "BatchNorm1D(act_fn='ReLU')"], {}),
    "BatchNorm2D": (["BatchNorm2D(act_fn='ReLU')", "Flatten()"], {}),
    "Condition": (["Condition()", CONVOLUTION, "Flatten()"], {"condition": "classes"}),
    "Conv2D": ([CONVOLUTION, "Pool2D(2, 2)", "Conv2D(17, (2, 3), stride=2)", "Flatten()"], {}),
    "ConvTranspose2D": (["ConvTranspose2D(17, 3, stride=2)", "Flatten()"], {}),
    "Flatten": (["Flatten()"], {}),
    "FullyConnected": (["Flatten()", "FullyConnected(130, act_fn='ReLU')", "FullyConnected(70)"], {}),
    "GroupNorm": (["GroupNorm(2, act_fn='ReLU')", "Flatten()"], {}),
    "Pool2D": (["Pool2D(3, 2)", "Pool2D(2, 1, mode='average')", "Flatten()"], {}),
    "Reshape": (["Reshape((10, 12, 4))", CONVOLUTION, "Flatten()"], {}),
    "Residual": (["Residual([\"Conv2D(4, 3, pad='same', act_fn='ReLU')\", 'GroupNorm(1)'])", "Flatten()"], {}),
    "Upsample2D": (["Upsample2D(2)", "Upsample2D((1, 2), 'bilinear')", "Conv2D(5, 4, stride=3)", "Flatten()"], {}),
}
VARIANTS = {
    "Gaussian": ["Gaussian(0.3)", "Gaussian('shared')", "Gaussian('optimal')", "Gaussian('pixel')"],
    "Laplace": ["Laplace(0.3)", "Laplace('shared')", "Laplace('optimal')", "Laplace('pixel')"],
    "ELBO": ["ELBO(beta=0.5, n_samples=3)", "ELBO(free_bits=0.3)"],
    "IWAE": ["IWAE(k=3)", "IWAE(k=3, gradient='doubly_reparameterized')"],
    "SGD": ["SGD(momentum=0.9)"],
    "Adam": ["Adam(clip_norm=0.5)"],
}


def public(module, base):
    """Return the names of the classes in a module that a user may choose, subclasses of `base`."""
    classes = {name: each for name, each in vars(module).items() if inspect.isclass(each) and name[0] != "_"}
    return sorted(n for n, each in classes.items() if issubclass(each, base) and not inspect.isabstract(each))


def texts(module, base):
    return [text for name in public(module, base) for text in VARIANTS.get(name, [f"{name}()"])]


def cases():
    """Return the arguments of a model for each case, by its name."""
    dense = ["Flatten()", "FullyConnected(64, act_fn='ReLU')"]
    found = {name: {"encoder": encoder, **more} for name, (encoder, more) in LAYERS.items()}
    for text in texts(activations, activations.ActivationBase):
        found[text] = {"encoder": ["Flatten()", f'FullyConnected(64, act_fn="{text}")']}
    for text in texts(likelihoods, likelihoods.Likelihood):
        found[text] = {"encoder": dense, "likelihood": text}
    for text in texts(objectives, objectives.Objective):
        found[text] = {"encoder": dense, "objective": text}
    for text in texts(optimizers, optimizers.OptimizerBase):
        found[text] = {"encoder": dense, "optimizer": text}
    return found


def results(arguments, dtype, n_threads):
    """Return what a model computes on a number of threads: its parameters, codes and likelihoods."""
    X = np.random.default_rng(0).integers(0, 256, (50, 12, 10, 4), np.uint8)
    labels = np.arange(50) % 3 if "condition" in arguments else None
    decoder = ["FullyConnected(64, act_fn='ReLU')"]
    how = {"T": 3, "decoder": decoder, "batchsize": 32, "n_epochs": 1, "random_state": 0, "verbose": False}
    vae = cvae.VAE(**how | arguments, dtype=dtype, n_threads=n_threads).fit(X, labels)
    given = {} if labels is None else {"y": labels}
    arrays = [array for layer in vae._layers().values() for array in layer.parameters.values() if array is not None]
    few = {name: values[:9] for name, values in given.items()}
    return [*arrays, *vae.encode(X, **given), vae.log_likelihood(X[:9], n_samples=20, **few)]


def differing(names, dtypes, threads):
    """Return (case, dtype, number of threads) of all results that are not those of the first number of threads."""
    found = []
    for name in names:
        for dtype in dtypes:
            first, *others = (results(cases()[name], dtype, n) for n in threads)
            for n, other in zip(threads[1:], others, strict=True):
                pairs = zip(first, other, strict=True)
                if not all(a.tobytes() == b.tobytes() and np.isfinite(a).all() for a, b in pairs):
                    found.append((name, dtype, n))
    return found
