"""The same seed gives the same model file, regardless of the number of threads and of earlier work."""

import subprocess
import sys

import numpy as np
import pytest
from small_vae import assert_same_bits, parameters, random_images, small_vae, subprocess_environment

from cvae._kernels import dispatch

# The layers and images are large enough for threads to share most of the work, and the last batch is smaller.
TRAIN = """
import sys
import cvae

digits = cvae.datasets.load("mnist-sample")
seed, path, dtype = int(sys.argv[1]), sys.argv[2], sys.argv[3]
vae = cvae.BernoulliVAE(
    latent_dim=96, enc_conv1_out_ch=16, enc_conv2_out_ch=33, enc_conv1_pad="same", optimizer="Adam(clip_norm=1.0)",
    batchsize=50, n_epochs=2, dtype=dtype, random_state=seed, verbose=False,
)
vae.fit(digits.images[:120], validation_data=digits.test_images[:140])
vae.history_["log_likelihood"] = vae.log_likelihood(digits.test_images[:2], n_samples=130).tolist()
vae.history_["codes"] = vae.transform(digits.test_images[:140]).ravel().tolist()
vae.save(path)
print(cvae.get_num_threads())
"""


def model_file(folder, *, seed=0, threads=1, dtype="float32", name="model", **environment):
    """Train in a subprocess with OMP_NUM_THREADS set, and return the bytes of its model file."""
    path = folder / f"{name}-{seed}-{threads}-{dtype}.safetensors"
    run = subprocess.run(
        [sys.executable, "-c", TRAIN, str(seed), str(path), dtype],
        env={**subprocess_environment(), "OMP_NUM_THREADS": str(threads), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{threads if dispatch.has_openmp() else 1}\n"
    return path.read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_model_file_does_not_depend_on_the_number_of_threads(tmp_path, dtype):
    files = {threads: model_file(tmp_path, threads=threads, dtype=dtype) for threads in (1, 2, 3, 7)}
    assert len(files[1]) > 1_000_000
    assert [threads for threads, content in files.items() if content != files[1]] == []


@pytest.mark.skipif(not dispatch.has_openmp(), reason="the kernels were built without OpenMP")
@pytest.mark.parametrize("limit", [1, 2])
def test_all_work_is_done_if_fewer_threads_come_than_were_asked_for(tmp_path, limit):
    limited = model_file(tmp_path, threads=5, name="limited", OMP_THREAD_LIMIT=str(limit))
    assert limited == model_file(tmp_path)


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tmp_path):
    files = [model_file(tmp_path, seed=seed, name=name) for seed, name in ((0, "a"), (0, "b"), (1, "c"))]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_no_seed_gives_another_model_each_time():
    X = random_images()
    first, second = (parameters(small_vae(random_state=None).fit(X)) for _ in range(2))
    for path, W in first.items():
        assert not np.array_equal(W, second[path]), path


def test_each_epoch_has_its_own_noise_and_order():
    """At a learning rate of 0, nothing else differs between epochs."""
    vae = small_vae(optimizer="SGD(lr=0)").fit(random_images(), n_epochs=5)
    assert len(set(vae.history_["loss"])) == 5
    assert vae.history_["kl"] == [pytest.approx(vae.history_["kl"][0])] * 5


def test_numpys_global_generator_is_neither_used_nor_moved():
    state = np.random.get_state
    before = state()
    vae = small_vae().fit(random_images())
    vae.sample(3)
    assert str(state()) == str(before)
    np.random.random()  # noqa: NPY002
    assert_same_bits(parameters(small_vae().fit(random_images())), parameters(vae))


def test_earlier_work_of_other_shapes_leaves_no_trace():
    """Buffers and the workspace are shared and grow; their previous contents must not have any effect."""
    X = random_images()
    fresh = parameters(small_vae().fit(X))
    vae = small_vae()
    small_vae(enc_conv1_out_ch=40, latent_dim=300).fit(random_images(30, (20, 20, 3)), batchsize=30)
    vae.fit(X)
    assert_same_bits(parameters(vae), fresh)
