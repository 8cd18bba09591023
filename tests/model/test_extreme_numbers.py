"""Log variances of +-100: where training can go on, and where it stops with a word."""

import numpy as np
import pytest

import cvae

X = np.random.default_rng(0).random((20, 6, 6))


@pytest.mark.parametrize("objective", ["ELBO", "IWAE(k=3)", "IWAE(k=3, gradient='doubly_reparameterized')"])
@pytest.mark.parametrize("likelihood", ["Bernoulli", "ContinuousBernoulli", "Gaussian('pixel')", "Laplace('shared')"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_log_variances(dtype, likelihood, objective):
    for log_var in (100, -100):
        vae = cvae.VAE(
            "mlp", T=2, likelihood=likelihood, objective=objective, n_epochs=1, random_state=0, dtype=dtype,
            verbose=False, warm_start=True,
        ).fit(X)  # fmt: skip
        code = [layer for path, layer in vae._layers().items() if path.startswith("encoder")][-1]
        code.parameters["W"][:, 2:], code.parameters["b"][..., 2:] = 0, log_var
        mean, found = vae.encode(X)
        np.testing.assert_array_equal(found, log_var)
        assert np.isfinite(vae.log_likelihood(X[:3], n_samples=5)).all()
        kl = 0.5 * (mean.astype(float) ** 2 + np.exp(float(log_var)) - log_var - 1).sum(axis=1)
        got = vae.elbo(X)
        if log_var > 0:  # nothing else is of that size
            np.testing.assert_allclose(-got, kl, rtol=1e-6)
            if dtype == "float32":  # in which a gradient would be infinite
                with pytest.raises(FloatingPointError, match="the loss became"):
                    vae.fit(X)
        else:
            assert (got < -kl + 200).all()
            assert np.isfinite(vae.fit(X).history_["loss"]).all()
            assert np.isfinite(code.parameters["b"]).all()
