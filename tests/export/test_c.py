"""Exported C files, compiled with warnings as errors and called beside the models that they were written from."""

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest
from export_cases import CASES, images, terms_at_the_mean, trained

from cvae import VAE, NotFittedError
from cvae.export import to_c
from cvae.export.c import c_source
from cvae.export.c_source import Source

STRICT = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
# The baseline's vectors, those of this machine, and none.
TARGETS = {"baseline": ("-O1",), "native": ("-O2", "-march=native"), "plain": ("-O1", "-DPLAIN_C99")}
SMALL = [name for name in CASES if name != "auto"]  # which takes long to compile, and has the layers of others
SOME = ["numpy-ml", "padding", "transposed", "normalization", "activations", "float64"]


class Compiled:
    """The functions of an exported file, for one image after another."""

    def __init__(self, vae, folder, flags, compiler="gcc"):
        source = folder / "model.c"
        to_c(vae, source)
        library = folder / "model.so"
        subprocess.run([compiler, *STRICT, *flags, "-shared", "-fPIC", source, "-o", library, "-lm"], check=True)
        self._library = ctypes.CDLL(str(library))
        self._library.cvae_elbo.restype = ctypes.c_double
        self._vae, self._dtype = vae, np.dtype(vae.dtype)
        size = int(re.search(r"^#define CVAE_SCRATCH (\d+)$", source.read_text(), re.MULTILINE)[1])
        # Of no particular alignment, dirty, and with a margin that must stay as it is.
        self._scratch = np.full(size + 9, np.nan, self._dtype)

    def __call__(self, name, *arrays):
        """Call a function with arrays, or other arguments, and the scratch memory."""
        arguments = [pointer(each) if isinstance(each, np.ndarray) else each for each in arrays]
        result = getattr(self._library, f"cvae_{name}")(*arguments, pointer(self._scratch[1:-8]))
        assert np.isnan(self._scratch[[0, *range(-8, 0)]]).all()
        return result

    def pixels(self, image):
        """Return an image as the functions take it."""
        if image.dtype != np.uint8:
            return image.astype(self._dtype)
        out = np.empty(image.shape, self._dtype)
        self._library.cvae_from_bytes(pointer(image), pointer(out))
        return out

    def label(self, label):
        if label is None:
            return ()
        if self._vae.condition == "classes":
            return (int(np.searchsorted(self._vae.classes_, label)),)
        return (np.asarray(label, self._dtype),)


def pointer(array):
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def assert_close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max()))


def check(vae, case, compiled):
    """Compare all functions with the model, image by image."""
    X, labels, T = images(case), case.labels, vae.T
    y = [None] * len(X) if labels is None else labels
    mean, log_var = vae.encode(X, labels)
    decoded, terms = vae.decode(mean, labels), terms_at_the_mean(vae, X, labels)
    for i, image in enumerate(X):
        pixels, label = compiled.pixels(image), compiled.label(y[i])
        codes = np.empty((2, T), vae.dtype)
        compiled("encode", pixels, *label, *codes)
        assert_close(codes[0], mean[i])
        assert_close(codes[1], log_var[i])
        out = np.empty(image.shape, vae.dtype)
        compiled("decode", mean[i], *label, out)
        assert_close(out, decoded[i])
        out.fill(np.nan)
        compiled("reconstruct", pixels, *label, out)
        assert_close(out, decoded[i])
        assert_close(compiled("elbo", pixels, *label, None), -(terms[0][i] + terms[1][i]))


@pytest.mark.parametrize("name", SMALL)
def test_all_functions_compute_what_the_model_does(name, tmp_path):
    check(trained(name), CASES[name], Compiled(trained(name), tmp_path, TARGETS["baseline"]))


@pytest.mark.parametrize("target", ["native", "plain"])
@pytest.mark.parametrize("name", SOME)
def test_other_targets_compute_the_same(name, target, tmp_path):
    check(trained(name), CASES[name], Compiled(trained(name), tmp_path, TARGETS[target]))


def test_noise_draws_the_code(tmp_path):
    vae, X = trained("numpy-ml"), images(CASES["numpy-ml"])
    compiled = Compiled(vae, tmp_path, TARGETS["baseline"])
    passes, noise = vae._passes(len(X), training=False), np.random.default_rng(0).normal(size=(len(X), vae.T))
    passes.images[: len(X)] = X
    expected = -sum(passes.terms(noise))
    got = [compiled("elbo", x, z) for x, z in zip(X, noise.astype(np.float32), strict=True)]
    assert_close(got, expected)


@pytest.mark.parametrize("target", TARGETS)
def test_a_pixel_that_is_no_number_is_not_lost_on_the_way(target, tmp_path):
    vae, case = trained("numpy-ml"), CASES["numpy-ml"]
    compiled, image = Compiled(vae, tmp_path, TARGETS[target]), images(case)[0]
    for row, col in ((0, 0), (4, 4)):
        broken, codes = image.copy(), np.zeros((2, vae.T), np.float32)
        broken[row, col] = np.nan
        compiled("encode", broken, *codes)
        assert np.isnan(codes).all()
        assert np.isnan(compiled("elbo", broken, None))


def test_the_file_is_its_own_header_also_in_cpp(tmp_path):
    to_c(trained("numpy-ml"), tmp_path / "model.c", prefix="digits")
    (tmp_path / "use.c").write_text(
        '#define DIGITS_DECLARATIONS\n#include "model.c"\nint printf(const char *, ...);\n'
        "static float image[DIGITS_ROWS * DIGITS_COLS * DIGITS_CHANNELS], scratch[DIGITS_SCRATCH];\n"
        'int main(void) { printf("%.4f", digits_elbo(image, NULL, scratch)); return 0; }\n'
    )
    command = ["gcc", *STRICT, "-O1", "use.c", "model.c", "-o", "use", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "use"], capture_output=True, text=True, check=True).stdout
    black = np.zeros((1, *CASES["numpy-ml"].image_shape), np.float32)
    assert float(printed) == pytest.approx(-float(sum(terms_at_the_mean(trained("numpy-ml"), black))[0]), abs=1e-3)
    if shutil.which("g++"):
        text = '#define DIGITS_DECLARATIONS\n#include "model.c"\nvoid *address = (void *)digits_encode;\n'
        (tmp_path / "use.cpp").write_text(text)
        subprocess.run(["g++", "-c", "use.cpp"], cwd=tmp_path, check=True)


def test_the_numbers_in_the_file_are_exact():
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
    numbers = np.concatenate([bits.view(np.float32), np.float32([0, -0.0, 1, -2, 0.5, 1e-45, 3.4e38, 1e22])])
    numbers = numbers[np.isfinite(numbers)]
    source = Source("float32")
    source.array(numbers)
    texts = re.findall(r"[^,{}\n]+", source.arrays().split("=")[1].strip().rstrip(";"))
    again = np.array([np.float32(float(text)) for text in texts if text.strip()])
    np.testing.assert_array_equal(again.view(np.uint32), numbers.view(np.uint32))
    assert all("." in text or "e" in text for text in texts if text.strip())


def test_wrong_arguments_are_refused(tmp_path):
    vae = trained("numpy-ml")
    for prefix in ("2x", "a-b", "", 3):
        with pytest.raises(ValueError, match="prefix must be a C identifier, got"):
            c_source(vae, prefix=prefix)
    with pytest.raises(NotFittedError):
        to_c(VAE(), tmp_path / "model.c")
    with pytest.warns(UserWarning, match="binarize='dynamic'"):
        c_source(VAE("mlp", T=2, binarize="dynamic", verbose=False).fit(images(CASES["numpy-ml"]), n_epochs=1))
    assert list(tmp_path.iterdir()) == []


def test_parameters_that_are_not_finite_are_refused():
    vae = VAE("mlp", T=2, verbose=False).fit(images(CASES["numpy-ml"]), n_epochs=1)
    next(iter(vae.decoder_.values())).W[0, 0] = np.inf
    with pytest.raises(ValueError, match="parameters must be finite"):
        c_source(vae)
