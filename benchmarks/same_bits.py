"""Hold the numbers of this checkout against those of another revision, bit for bit.

    python benchmarks/same_bits.py REVISION

builds the revision in a temporary folder, trains nine models there and here, and compares their parameters, the order
of whose sums a change of speed or structure must not touch. A model file that the revision wrote is loaded here, and
has to go on training with the same bits as there.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Trains each case with the cvae that it finds, writes parameters to an .npz file and models to a folder.
WORK = """
import sys
import numpy as np
import cvae

out, folder, go_on = sys.argv[1:]
digits = cvae.datasets.load("mnist-sample").images[:600]
colours = np.random.default_rng(0).integers(0, 256, (96, 64, 64, 3), dtype=np.uint8)
narrow = {"enc_conv1_out_ch": 8, "enc_conv2_out_ch": 16, "latent_dim": 64}
CASES = {
    "default": ({}, digits),
    "3x3": ({"enc_conv1_kernel_shape": 3, "enc_conv2_kernel_shape": 3}, digits),
    "same": ({"enc_conv1_pad": "same", "enc_conv2_pad": "same", **narrow}, digits),
    "stride 2": ({"enc_conv1_stride": 2, "enc_pool2_stride": 2, **narrow}, digits),
    "64x64x3": (narrow, colours),
    "float64": ({"dtype": "float64"}, digits),
    "batch 1": ({"batchsize": 1, **narrow}, digits[:40]),
    "Adam with clip_norm": ({"optimizer": "Adam(lr=0.001, clip_norm=0.5)"}, digits),
    "frozen layers": ({"T": 7}, digits),
}
arrays = {}
for name, (changes, images) in CASES.items():
    path = f"{folder}/{name}.safetensors"
    if go_on == "load":
        vae = cvae.load(path)
    else:
        vae = cvae.BernoulliVAE(**{"batchsize": 64, **changes}, random_state=0, verbose=False)
        vae.fit(images, n_epochs=1)
        if name == "frozen layers":
            vae.encoder["Conv1"].freeze()
            vae.decoder["FC1"].freeze()
        vae.fit(images, n_epochs=1)
        if go_on == "save":
            vae.save(path)
    for stage in ("trained", "trained on"):
        for part, layers in vae.parameters["components"].items():
            for layer, parameters in layers.items():
                for key, array in parameters.items():
                    arrays[f"{name}/{stage}/{part}/{layer}/{key}"] = array.copy()
        arrays[f"{name}/{stage}/ELBO"] = vae.elbo(images[:20])
        vae.fit(images, n_epochs=1)
np.savez(out, **arrays)
"""


def run(root: Path, *arguments: str) -> dict[str, bytes]:
    """Train with the package in a folder; return the bytes of all arrays by name."""
    import numpy as np

    subprocess.run(
        [sys.executable, "-c", WORK, *arguments], check=True, env={**os.environ, "PYTHONPATH": str(root)}, cwd=root
    )
    with np.load(arguments[0]) as file:
        return {name: file[name].tobytes() for name in file.files}


def build(revision: str, folder: Path) -> Path:
    """Check a revision out and compile it in place."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "-q", revision], check=True, cwd=folder)
    subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], check=True, cwd=folder)
    return folder


def report(title: str, here: dict[str, bytes], there: dict[str, bytes]) -> bool:
    different = [name for name in there if here[name] != there[name]]
    print(f"{title}: {len(there) - len(different)} of {len(there)} arrays are equal to the last bit")
    for name in different[:20]:
        print(f"  not {name}")
    return not different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="a git revision, or the folder of a checkout that is built in place")
    revision = parser.parse_args().revision
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        other = Path(revision).resolve() if Path(revision).is_dir() else build(revision, folder / "other")
        there = run(other, str(folder / "there.npz"), name, "save")
        here = run(ROOT, str(folder / "here.npz"), name, "train")
        loaded = run(ROOT, str(folder / "loaded.npz"), name, "load")
    same = report("trained here", here, there)
    return 0 if report("loaded from its files", loaded, there) and same else 1


if __name__ == "__main__":
    sys.exit(main())
