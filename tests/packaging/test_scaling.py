"""The prediction of how training scales: schedules that can be worked out by hand, and names of stages."""

import numpy as np
import pytest

import cvae


@pytest.fixture
def replayed(modules):
    stages, replay = modules("stages", "replay")

    def stage(*pieces, prepare=0.0, shares=None, alone=False, layer="", descends=False):
        of_threads = shares or dict.fromkeys((1, 2, 4, 16), pieces)
        times = {n: np.array(each, float) for n, each in of_threads.items()}
        return stages.Stage("stage", layer, dict.fromkeys(times, prepare), times, bool(shares), alone, descends)

    def step(*of_step, outside=0.0, gradients=None):
        return stages.Step(8, list(of_step), outside, gradients or {})

    return replay, stage, step


def test_threads_take_pieces_of_those_that_are_late(replayed):
    replay, stage, _ = replayed
    assert replay.stage_seconds(stage(1, 1, 1, 1), 1, 0) == 4
    assert replay.stage_seconds(stage(1, 1, 1, 1), 2, 0) == 2
    assert replay.stage_seconds(stage(5, 1, 1, 1, 1, 1), 2, 0) == 5  # the first thread's share is 5, 1, 1
    assert replay.stage_seconds(stage(1, 1, 1), 16, 0) == 1
    assert replay.stage_seconds(stage(1, 1, 1, 1, prepare=2), 2, 0) == 4
    assert replay.stage_seconds(stage(1, 1, 1, 1), 4, 0.5) == 2  # 1, and 0.5 times log2(4) to share it
    assert replay.stage_seconds(stage(1, 1, 1, 1, alone=True), 4, 0.5) == 4
    assert replay.stage_seconds(stage(1), 4, 0.5) == 1
    assert replay.stage_seconds(stage(), 4, 0.5) == 0  # left out


def test_a_share_in_one_call_is_never_taken_from(replayed):
    replay, stage, _ = replayed
    of_threads = {1: np.array([6.0]), 2: np.array([4.0, 3.0])}
    assert replay.stage_seconds(stage(6, shares=of_threads), 1, 0) == 6
    assert replay.stage_seconds(stage(6, shares=of_threads), 2, 0) == 4


def test_efficiency_and_what_it_is_lost_by(replayed):
    replay, stage, step = replayed
    of_step = step(stage(1, 1, 1, 1), stage(2, 2), outside=1.0)
    assert replay.step_seconds(of_step, 4, 0) == 1 + 1 + 2
    assert replay.efficiency(of_step, 4, 0) == pytest.approx(9 / 16)
    (first, of_first), (second, of_second), (_, of_third) = replay.losses(of_step, 4, 0)
    assert (first, of_first) == ("stage", pytest.approx((2 - 1) / 4))
    assert (second, of_second) == ("Python and random numbers", pytest.approx(0.75 / 4))
    assert of_third == 0


def test_gradients_are_summed_after_the_backward_pass_or_during_it(replayed):
    replay, stage, step = replayed
    network = replay.Network("slow", latency=0.5, bandwidth=10.0)
    assert replay.reduction_seconds(40, 1, network) == 0
    took = replay.reduction_seconds(40, 4, network)
    assert took == pytest.approx(2 * 2 * 0.5 + 2 * 30 / 10, rel=1e-6)
    layers = {"upper": 40, "lower": 0}
    of_step = step(
        stage(3), stage(1, layer="upper", descends=True), stage(20, layer="lower", descends=True), gradients=layers
    )
    assert replay.rank_seconds(of_step, 1, 0, 4, network) == pytest.approx(24 + took, rel=1e-6)
    # The upper layer's are on their way for 8 s while the lower one takes 20; its own nothing takes 2 s.
    assert replay.rank_seconds(of_step, 1, 0, 4, network, overlaps=True) == pytest.approx(24 + 2, rel=1e-6)
    assert replay.rank_seconds(of_step, 1, 0, 1, network, overlaps=True) == 24


def test_all_stages_of_a_step_are_measured_by_name(modules):
    (stages,) = modules("stages")
    vae = cvae.BernoulliVAE(
        latent_dim=16, enc_conv1_kernel_shape=3, enc_conv2_kernel_shape=3, random_state=0, verbose=False
    )
    images = np.random.default_rng(0).random((24, 12, 12, 1), dtype=np.float32)
    step = stages.measure_step(vae, images, batch=8, threads=(1, 2, 4), rounds=1)
    names = [stage.name for stage in step.stages]
    assert names[0] == "pixelwise.gather"
    for part in (
        "Conv1 conv_pool.forward",
        "FC2 dense.dense_backward (1 of ",
        "losses.bce_with_logits",
        "latent.sample",
    ):
        assert any(name.startswith(part) for name in names), part
    assert {stage.layer for stage in step.stages if stage.descends} == {"", *step.gradients}
    for stage in step.stages:
        assert all((each >= 0).all() for each in stage.pieces.values()), stage.name
        assert any(len(each) for each in stage.pieces.values()), stage.name
    assert step.gradients["FC5"] == 4 * (16 * 10 + 10)
    assert step.outside > 0
    same = cvae.BernoulliVAE(**vae.get_params()).partial_fit(images)
    assert same.score(images) > -1000  # nothing is left in the place of the kernels
    assert len(stages.measure_steps(vae, images, 8, 1)) == 2
