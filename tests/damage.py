"""Sound files of every format that is read, and changes to them that reach behind their checksums and lengths."""

import contextlib
import gzip
import io
import json
import random
import re
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import zarr
from data_files import DEEP, GREY, IMAGES, LABELS, NPY, RGB, deep_png_bytes, deep_tiff_bytes, idx_bytes
from PIL import Image, features
from small_vae import random_images

import cvae

# --------------------------------------------------------------------- sound files


def picture(format, pixels, *others, **options):
    stream = io.BytesIO()
    pages = {"save_all": True, "append_images": [Image.fromarray(other) for other in others]} if others else {}
    Image.fromarray(pixels).save(stream, format, **pages, **options)
    return stream.getvalue()


def archive(save):
    stream = io.BytesIO()
    save(stream, images=IMAGES, labels=LABELS)
    return stream.getvalue()


def hdf5():
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("images", data=IMAGES, compression="gzip")
        file["labels"] = LABELS
    return stream.getvalue()


def zarr_archive():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.zarr.zip")
        with contextlib.closing(zarr.storage.ZipStore(path, mode="w")) as store:
            group = zarr.open_group(store, mode="w")
            group.create_array("images", data=IMAGES)
        return path.read_bytes()


def models():
    """Return the files of some small models by name."""
    X, y = random_images(4), np.arange(4) % 2
    encoder = ["Conv2D(2, 3, act_fn='ReLU')", "BatchNorm2D()", "Flatten()"]
    decoder = ["Residual(['FullyConnected(2)'])", "FullyConnected(5)"]
    made = {
        "numpy-ml": cvae.BernoulliVAE(
            T=2, latent_dim=3, enc_conv1_out_ch=2, enc_conv2_out_ch=2, enc_conv1_kernel_shape=3,
            enc_conv2_kernel_shape=2,
            n_epochs=1, batchsize=4, random_state=0, verbose=False, optimizer="SGD(lr=0.01, momentum=0.5)",
        ).fit(X),
        "layers": cvae.VAE(encoder, decoder, T=2, random_state=0, verbose=False).fit(X, n_epochs=1),
        "conditional": cvae.VAE(
            ["Flatten()", "FullyConnected(4)"], [], "Gaussian('pixel')", T=2, condition="classes", random_state=0,
            verbose=False
        ).fit(X, y, n_epochs=1),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        found = {}
        for name, vae in made.items():
            vae.save(path)
            found[name] = path.read_bytes()
        return found


SOUND = {
    "a.png": picture("PNG", RGB[0], exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "deep.png": deep_png_bytes(DEEP[..., :3]),
    "a.jpg": picture("JPEG", RGB[0]),
    "mpo.jpg": picture("MPO", *RGB[:2]),
    "a.webp": picture("WEBP", RGB[0]),
    "a.bmp": picture("BMP", RGB[0]),
    "a.gif": picture("GIF", *GREY),
    "a.tif": picture("TIFF", *GREY),
    "lzw.tif": picture("TIFF", RGB[0], compression="tiff_lzw"),
    "deep.tif": deep_tiff_bytes(DEEP[..., :3], "<", deflated=False),
    "a.ppm": picture("PPM", RGB[0]),
    "a.npy": NPY,
    "a.npz": archive(np.savez),
    "deflated.npz": archive(np.savez_compressed),
    "idx": idx_bytes(IMAGES),
    "idx.gz": gzip.compress(idx_bytes(IMAGES), mtime=0),
    "a.csv": b"label,a,b,c,d\n1,2,3,4,5\n6,7,8,9,10\n",
    "words.tsv": b"class\ta\tb\tc\td\nx\t1\t2\t3\t4\ny\t5\t6\t7\t8\n",
    "a.h5": hdf5(),
    "a.zarr.zip": zarr_archive(),
}
if features.check("avif"):
    SOUND["a.avif"] = picture("AVIF", RGB[0])

CONFIGS = (
    b'T = 3\nencoder = ["Conv2D(8, 3, stride=2)", "Flatten()"]\ndecoder = "mlp"\nlr = 0.1\nvalue_range = [0, 255]\n',
    b'latent_dim = 8\nenc_conv1_kernel_shape = [3, 3]\noptimizer = "Adam(lr_scheduler=CosineScheduler(0.1, 9))"\n',
    b'likelihood = "Gaussian(scale=0.1)"\nobjective = "ELBO(beta=Linear(0, 1, 9))"\ndtype = "float64"\n',
)  # fmt: skip

# ------------------------------------------------------------------------- changes

_PIECES = [
    *(bytes([value]) * n for value in (0, 1, 127, 128, 255) for n in (1, 2, 4, 8)),
    *(struct.pack(f"{order}{size}", value) for order in "<>" for size, value in (
        ("I", 1), ("I", 1 << 16), ("I", 0x7FFFFFFF), ("I", 0xFFFFFFF0), ("H", 0x7FFF), ("Q", 1 << 62), ("d",
        float("nan")),
    )),
    b"(" * 50, b"-" * 50, b"[" * 2000, b"1e999", b"1" * 5000, b"nan", b"\n", b",", b'"', b"../../x", b"\0",
    b"PK\x01\x02",
    b"IDAT", b"\xed\xb2\x80", b"{}", b"O8", b"<f8", b"|V0", b"|S0", b"(2**63,)", b"-1", b"1_0", b"0x10", b"True",
]  # fmt: skip
_VALUES = [
    None, True, -1, 0, 1, 2, 3, 1.5, 2**31, 2**63, 10**40, -1e308, 1e-320, float("nan"), float("inf"), "", "x", "1",
    [], {},
    [[]], [0, 0, 0], [1 << 40] * 3, {"a": 1}, "float64", "\udc80", "a" * 2000, "(" * 500, "Conv2D(2, 3)",
    "FullyConnected(2)",
    "FullyConnected(100000000)", "Residual(['Flatten()'] * 9)", "Adam(lr=nan)", "SGD(momentum=2)", "auto", "PCG64",
    "Generator",
    "__class__", "os.system('x')", "../../x", "encoder/Conv1/W",
]  # fmt: skip


def changed_bytes(content, rng):
    """Return content with some of its bytes replaced, moved, repeated or cut."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        at, what = rng.randrange(len(content) + 1), rng.randrange(6)
        n = rng.choice((1, 1, 2, 4, 8, rng.randrange(1, 40)))
        if what == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            piece = rng.choice(_PIECES)
            content[at : at + len(piece)] = piece
        elif what == 2:
            content[at:at] = rng.choice(_PIECES)
        elif what == 3:
            del content[at : at + n]
        elif what == 4:
            other = rng.randrange(len(content) + 1)
            content[at : at + n * rng.randrange(2)] = content[other : other + n]
        elif rng.random() < 0.2:
            del content[max(1, at) :]
        else:
            content[at : at + n] = rng.randbytes(n)
    return bytes(content)


def changed(name, content, rng):
    """Return the content of a file of this name with changes, of its structure about every second time."""
    change = next((each for ending, each in _STRUCTURES.items() if name.endswith(ending)), None)
    if change is not None and rng.random() < 0.6:
        with contextlib.suppress(Exception):  # of content that is not sound any more
            return change(content, rng)
    return changed_bytes(content, rng)


def _changed_png(content, rng):
    chunks, at = [], 8
    while at < len(content):
        (n,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + n]))
        at += 12 + n
    i = rng.randrange(len(chunks))
    name, inner = chunks[i]
    if name == b"IDAT" and rng.random() < 0.7:
        inner = zlib.compress(changed_bytes(zlib.decompress(inner), rng))
    else:
        inner = changed_bytes(inner, rng)
    kinds = (b"tRNS", b"PLTE", b"iTXt", b"zTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"IDAT", b"IHDR")
    chunks[i : i + 1] = [(name if rng.random() < 0.8 else rng.choice(kinds), inner)] * rng.choice((0, 1, 1, 1, 1, 2))
    return content[:8] + b"".join(
        struct.pack(">I", len(inner)) + name + inner + struct.pack(">I", zlib.crc32(name + inner))
        for name, inner in chunks
    )


def _changed_npy(content, rng):
    (n,) = struct.unpack_from("<H", content, 8)
    header = (
        changed_bytes(content[10 : 10 + n], rng) if rng.random() < 0.5 else _changed_numbers(content[10 : 10 + n], rng)
    )
    return content[:8] + struct.pack("<H", len(header)) + header + content[10 + n :]


def _changed_numbers(text, rng):
    """Return text with one of its numbers or words replaced."""
    places = [match.span() for match in re.finditer(rb"\d+|[A-Za-z_]+|[<>|]\w+", text)]
    start, end = rng.choice(places)
    value = rng.choice(
        (b"0", b"-1", b"1", b"2", b"16", b"65536", b"2147483648", b"9" * 20, b"1e9", b"nan", b"x", b"O", b"|V9")
    )
    return text[:start] + value + text[end:]


def _changed_zip(content, rng):
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        members = [(info.filename, source.read(info)) for info in source.infolist()]
    i = rng.randrange(len(members))
    name, inner = members[i]
    inner = (_changed_npy if inner.startswith(b"\x93NUMPY") else _changed_text)(inner, rng)
    if rng.random() < 0.1:
        name = rng.choice(("../x.npy", "/x.npy", "images.npy", "x\0.npy", "x_test.npy", "a" * 500, "images/zarr.json"))
    members[i : i + 1] = [(name, inner)] * rng.choice((0, 1, 1, 1, 1, 2))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as target:
        for name, inner in members:
            target.writestr(name, inner)
    return stream.getvalue()


def _changed_text(content, rng):
    """Return text, such as JSON or a table, with a value replaced."""
    if content.lstrip()[:1] in (b"{", b"["):
        return json.dumps(_changed_value(json.loads(content), rng)).encode()
    return (_changed_numbers if rng.random() < 0.5 else changed_bytes)(content, rng)


def _changed_value(value, rng):
    """Return a value of JSON in which something, anywhere, is another value, missing or in another place."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        if isinstance(value, str) and rng.random() < 0.6:
            return changed_bytes(value.encode("utf-8", "surrogatepass"), rng).decode("utf-8", "replace")
        return rng.choice(_VALUES)
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    value = value.copy()
    what = rng.random()
    if what < 0.08:
        del value[key]
    elif what < 0.16:
        value[key] = rng.choice(list(value.values()) if isinstance(value, dict) else value)
    elif what < 0.2 and isinstance(value, dict):
        value[str(rng.choice(_VALUES))] = value[key]
    else:
        value[key] = _changed_value(value[key], rng)
    return value


def _changed_model(content, rng):
    n = int.from_bytes(content[:8], "little")
    header, arrays = json.loads(content[8 : 8 + n]), content[8 + n :]
    if rng.random() < 0.85:
        description = json.loads(header["__metadata__"]["cvae"])
        for _ in range(rng.choice((1, 1, 2))):
            description = _changed_value(description, rng)
        header["__metadata__"]["cvae"] = json.dumps(description)
    elif rng.random() < 0.5:
        header = _changed_value(header, rng)
    else:
        arrays = changed_bytes(arrays, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + arrays


def _changed_gzip(content, rng):
    return gzip.compress(changed_bytes(gzip.decompress(content), rng), 1, mtime=0)


_STRUCTURES = {
    ".png": _changed_png,
    ".npy": _changed_npy,
    ".npz": _changed_zip,
    ".zip": _changed_zip,
    ".gz": _changed_gzip,
    ".csv": _changed_text,
    ".tsv": _changed_text,
    ".toml": _changed_text,
    ".safetensors": _changed_model,
}


def seeded(number):
    return random.Random(number)
