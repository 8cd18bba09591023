"""Warnings point to the line of the user, whatever it calls."""

import warnings

import numpy as np
import pandas as pd
import pytest
from small_vae import random_images, small_vae

import cvae

X = random_images(40)
ONES = (X > 0.5).astype(np.uint8)  # which are taken for bytes
FRAME = pd.DataFrame(X.reshape(40, -1)).rename(columns=str)
KNOWN = {
    "images": cvae.VAE("mlp", T=2, n_epochs=1, random_state=0, verbose=False).fit(X),
    "rows": cvae.VAE("mlp", T=2, n_epochs=1, random_state=0, verbose=False).fit(FRAME),
}
CALLS = {
    "fit": lambda: small_vae().fit(ONES),
    "partial_fit": lambda: small_vae().partial_fit(ONES),
    "fit_transform": lambda: small_vae().fit_transform(ONES),
    "forward": lambda: small_vae().forward(ONES),
    "fit with other labels": lambda: cvae.VAE("mlp", T=2, condition="classes", verbose=False).fit(X, np.arange(40)),
    "fit again": lambda: thawing(KNOWN["images"].copy()).fit(X),
    **{
        f"{method} of {name}": lambda name=name, method=method, images=images: getattr(KNOWN[name], method)(images)
        for name, images in (("images", ONES), ("rows", X.reshape(40, -1)))
        for method in ("transform", "encode", "elbo", "score", "score_samples", "reconstruct", "error_map")
    },
    "detector": lambda: cvae.VAEOutlierDetector(KNOWN["rows"], prefit=True).fit(X.reshape(40, -1)),
    "plot": lambda: cvae.plotting.reconstructions(ONES[:4], KNOWN["images"]),
}


def thawing(vae):
    vae.encoder_["Code"].freeze()
    return vae


@pytest.mark.parametrize("name", CALLS)
def test_a_warning_points_here(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CALLS[name]()
    assert caught
    assert {warning.filename for warning in caught} == {__file__}
