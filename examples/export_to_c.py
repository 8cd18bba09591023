"""A trained model as one file of C.

``cvae.export.to_c`` writes C99 without dependencies that encodes, decodes and scores an image without allocating
memory, for programs in which there is no Python. Here a program of ten lines scores a test digit, and agrees with
Python::

    python examples/export_to_c.py --epochs 5 --folder build/c-example

needs a C compiler, ``cc`` or what the environment variable CC names.
"""

import argparse
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import cvae
from cvae.export import to_c

PROGRAM = """\
#include <stdio.h>
#define CVAE_DECLARATIONS
#include "model.c"

static unsigned char bytes[CVAE_ROWS * CVAE_COLS * CVAE_CHANNELS];
static float image[CVAE_ROWS * CVAE_COLS * CVAE_CHANNELS], scratch[CVAE_SCRATCH];

int main(void) {
    if (fread(bytes, 1, sizeof bytes, stdin) != sizeof bytes) return 1;
    cvae_from_bytes(bytes, image);
    printf("%.6f\\n", cvae_elbo(image, NULL, scratch)); /* NULL: at the mean of the code */
    return 0;
}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folder", help="where to write the C files and the program; default: a temporary folder")
    args = parser.parse_args()

    digits = cvae.datasets.load("mnist-sample")
    encoder = ["Conv2D(out_ch=8, kernel_shape=3, stride=2, act_fn='ReLU')", "Flatten()"]
    decoder = ["FullyConnected(n_out=128, act_fn='ReLU')"]
    vae = cvae.VAE(encoder, decoder, T=8, random_state=0).fit(digits.images, n_epochs=args.epochs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        to_c(vae, folder / "model.c")
        (folder / "main.c").write_text(PROGRAM)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        flags = ["-std=c99", "-O2", "-o", "score", "main.c", "model.c", "-lm"]
        subprocess.run([*compiler, *flags], cwd=folder, check=True)
        done = subprocess.run(
            [folder.resolve() / "score"], input=digits.test_images[0].tobytes(), stdout=subprocess.PIPE, check=True
        )
    in_c = float(done.stdout)

    # The same by hand: the code's mean in the place of a drawn code.
    mean, log_var = vae.encode(digits.test_images[:1])
    p, x = vae.decode(mean).astype(float), digits.test_images[:1] / 255
    kl = 0.5 * np.sum(mean**2 + np.exp(log_var) - 1 - log_var)
    in_python = np.sum(x * np.log(p) + (1 - x) * np.log1p(-p)) - kl
    print(f"ELBO of a test digit in C: {in_c:.3f} nats, in Python: {in_python:.3f} nats")


if __name__ == "__main__":
    main()
