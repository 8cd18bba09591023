"""Models in skops files, which run no code while they are loaded, as pickles may."""

import numpy as np
import pytest
import skops.io
from export_cases import CASES, images, trained


@pytest.mark.parametrize("name", ["numpy-ml", "normalization", "classes", "Gaussian optimal"])
def test_a_model_comes_back_and_goes_on_training(name, tmp_path):
    vae, X, y = trained(name), images(CASES[name]), CASES[name].labels
    skops.io.dump(vae, tmp_path / "model.skops")
    types = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
    assert all(each.startswith(("cvae.", "numpy.")) for each in types)
    again = skops.io.load(tmp_path / "model.skops", trusted=types)
    np.testing.assert_array_equal(again.elbo(X, y=y), vae.elbo(X, y=y))
    assert np.isfinite(again.fit(X, y, n_epochs=1).elbo(X, y=y)).all()
