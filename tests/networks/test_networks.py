from __future__ import annotations

from functools import partial

import pytest
import torch

from stormcast_train.networks.config import NetworkConfig
from stormcast_train.networks.songunet import SongUNets, padded_shape
from stormcast_train.objectives.count import FixedCount
from stormcast_train.objectives.edm import denoising_error, precondition, training_sigma
from stormcast_train.objectives.edm_config import NoiseSpec
from stormcast_train.objectives.sampler import draw_residual
from stormcast_train.objectives.squared import squared_error

TINY = NetworkConfig(model_channels=8, channel_mult=(1, 2, 2), num_blocks=1)
SPEC = NoiseSpec()


@pytest.fixture(scope="module")
def denoiser():
    """With weights as a trained one may have them: its last layer begins near zero, and nothing it is told
    would matter.
    """
    network, generator = (
        precondition(SongUNets().denoiser(TINY, (9, 12), 5, 2, seed=0), SPEC).eval(),
        torch.Generator().manual_seed(0),
    )
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network.requires_grad_(False)


def test_a_grid_is_completed_to_the_multiple_of_its_levels():
    assert padded_shape((21, 21), 4) == (24, 24)
    assert padded_shape((56, 32), 4) == (56, 32)


def test_the_output_has_the_exact_grid_and_the_crop_undoes_the_pad():
    network = SongUNets().regression(TINY, (21, 9), 3, 2, seed=0)
    assert network(torch.zeros(1, 3, 21, 9)).shape == (1, 2, 21, 9)
    network.unet = torch.nn.Identity()
    field = torch.rand(2, 3, 21, 9)
    assert torch.equal(network(field), field)
    assert torch.equal(network._padded(field), torch.nn.functional.pad(field, (1, 2, 1, 2), mode="replicate"))


def test_weights_are_a_function_of_the_seed_and_torch_keeps_its_own_generator():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first, again, other = (SongUNets().regression(TINY, (8, 8), 3, 2, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_two_forward_passes_agree_in_train_and_in_eval_mode():
    network = SongUNets().regression(TINY, (8, 8), 3, 2, seed=0)
    field = torch.rand(2, 3, 8, 8)
    assert torch.equal(network.train()(field), network.train()(field))
    assert torch.equal(network.train()(field), network.eval()(field))


def test_the_denoiser_takes_state_condition_and_noise_level(denoiser):
    state, level, condition = torch.zeros(2, 2, 9, 12), torch.tensor([0.5, 0.5]), torch.zeros(2, 5, 9, 12)
    out = denoiser(state, level, condition=condition)
    assert out.shape == (2, 2, 9, 12)
    assert torch.allclose(out[0], out[1], atol=1e-6)
    for changed in (
        (state + 1, level, condition),
        (state, level * 4, condition),
        (state, level, condition + 1),
    ):
        assert (denoiser(*changed[:2], condition=changed[2]) - out).abs().mean() > 1e-2


def test_the_denoising_error_uses_the_noise_it_is_given_and_is_0_where_nothing_is_present(denoiser):
    clean, noise, condition = torch.rand(2, 2, 9, 12), torch.randn(2, 2, 9, 12), torch.rand(2, 5, 9, 12)
    present = torch.rand(2, 2, 9, 12) > 0.5
    sigma = torch.tensor([0.3, 1.0])
    once, again = (denoising_error(denoiser, SPEC, clean, present, condition, sigma, noise) for _ in range(2))
    assert torch.equal(once, again)
    assert (once[~present] == 0).all()
    # eq. 8 by hand: (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 (D(x + sigma n) - x)^2
    weight = ((sigma**2 + 0.25) / (sigma * 0.5) ** 2).view(-1, 1, 1, 1)
    predicted = denoiser(clean + sigma.view(-1, 1, 1, 1) * noise, sigma, condition=condition)
    assert torch.allclose(once, weight * (predicted - clean).square() * present, rtol=1e-4)


def test_preconditioner_and_loss_weight_share_sigma_data():
    spec = NoiseSpec(sigma_data=0.7)
    network = precondition(SongUNets().denoiser(TINY, (8, 8), 1, 1, seed=0), spec)
    assert float(network.sigma_data) == pytest.approx(0.7)


def test_a_draw_is_a_function_of_its_noise_whatever_else_is_in_the_batch(denoiser):
    noise, condition = torch.randn(3, 2, 9, 12), torch.rand(3, 5, 9, 12)
    spec = SPEC.model_copy(update={"steps": 3})
    together = draw_residual(partial(denoiser, condition=condition), spec, noise)
    alone = draw_residual(partial(denoiser, condition=condition[1:2]), spec, noise[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-4)
    for other in (
        draw_residual(partial(denoiser, condition=condition[:1]), spec, noise[1:2]),
        draw_residual(partial(denoiser, condition=condition[1:2]), spec, noise[:1]),
    ):
        assert (
            other - alone
        ).abs().mean() > 1e-2  # both its condition and its noise matter by more than is allowed above


def test_training_noise_levels_follow_the_named_distribution():
    draws = torch.tensor([[-1.0, 9.0], [0.0, 9.0], [1.0, 9.0]])  # the second decides for the lognormal
    assert torch.allclose(training_sigma(SPEC, draws), torch.tensor([-2.4, -1.2, 0.0]).exp())
    draws = torch.tensor([[-9.0, 0.0], [0.0, 0.0], [9.0, 0.0]])
    uniform = training_sigma(SPEC.model_copy(update={"distribution": "loguniform"}), draws)
    # the ends are sigma_min and sigma_max, the middle their geometric mean
    assert torch.allclose(uniform, torch.tensor([0.02, (0.02 * 20) ** 0.5, 20.0]), rtol=1e-4)


def test_a_loss_divides_by_the_static_coverage_so_that_halves_average_to_the_whole():
    coverage = torch.ones(2, 2, 2, dtype=torch.bool)
    coverage[1, 0, 0] = False
    count = FixedCount(["a", "b"], coverage, [1.0, 1.0])
    error = torch.ones(4, 2, 2, 2) * coverage
    error[:, 0, 1, 1] = 0  # missing now, covered in general: still counted
    total, by_variable = count.terms(error)
    # per sample: a 3 of 4 cells, b 3 of 3; together 6 of 7
    assert total == pytest.approx(6 / 7)
    assert by_variable["a"] == pytest.approx(0.75)
    assert by_variable["b"] == pytest.approx(1.0)
    halves = [count.terms(part)[0] for part in error.split(2)]
    assert sum(halves) / 2 == pytest.approx(float(total))


def test_a_masked_cell_carries_no_loss_whatever_it_holds():
    present = torch.tensor([True, False]).view(1, 1, 1, 2)
    target = torch.tensor([1.0, torch.nan]).view(1, 1, 1, 2)
    output = torch.tensor([3.0, 1e9], requires_grad=True)
    error = squared_error(output.view(1, 1, 1, 2), target, present)
    error.sum().backward()
    assert error.flatten().tolist() == [4.0, 0.0]
    assert output.grad.tolist() == [4.0, 0.0]


def recomputed(level: int) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients by name, and how many numbers the forward pass kept for them."""
    network, kept = (
        SongUNets().regression(TINY.model_copy(update={"checkpoint_level": level}), (32, 32), 3, 2, seed=0),
        [],
    )
    field = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        loss = network(field).square().sum()
    loss.backward()
    return {
        name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None
    }, sum(kept)


def test_recomputing_activations_keeps_fewer_of_them_and_the_bits_of_every_gradient():
    (whole, kept_whole), (recomputed_ones, kept) = recomputed(0), recomputed(2)
    assert len(whole) == len(recomputed_ones) > 20
    assert all(torch.equal(value, recomputed_ones[name]) for name, value in whole.items())
    assert kept < kept_whole / 3  # 0.33 M against 1.31 M numbers


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute of compiling, more where the machine is shared
def test_a_compiled_network_has_the_gradients_and_the_names_of_the_plain_one():
    from stormcast_train.training.loop.parallel import replicate

    network = SongUNets().regression(TINY.model_copy(update={"channel_mult": (1,)}), (8, 8), 3, 2, seed=0)
    names, field = list(network.state_dict()), torch.rand(2, 3, 8, 8)
    plain = torch.autograd.grad(network(field).square().sum(), list(network.parameters()), allow_unused=True)
    replicate(network, compiled=True, world=1)(field).square().sum().backward()
    assert list(network.state_dict()) == names
    for value, parameter in zip(plain, network.parameters(), strict=True):
        if value is not None:
            torch.testing.assert_close(parameter.grad, value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("attention", [False, True])
def test_networks_run_in_bf16_where_autocast_asks_and_keep_float32_weights_and_outputs(attention):
    config = NetworkConfig(
        model_channels=16, channel_mult=(1, 2), num_blocks=1, bottleneck_attention=attention
    )
    regression = SongUNets().regression(config, (10, 12), 5, 2, seed=0)
    denoiser = precondition(SongUNets().denoiser(config, (10, 12), 5, 2, seed=0), SPEC)
    generator = torch.Generator().manual_seed(0)
    for parameter in (*regression.parameters(), *denoiser.parameters()):  # the last layers begin near zero
        parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator)
    condition, noisy = (
        torch.randn(2, 5, 10, 12, generator=generator),
        torch.randn(2, 2, 10, 12, generator=generator),
    )
    calls = [
        lambda: regression(condition),
        lambda: denoiser(noisy, torch.tensor([0.5, 5.0]), condition=condition),
    ]
    for call in calls:
        exact = call()
        with torch.autocast("cpu", torch.bfloat16):
            rounded = call()
        assert rounded.dtype == exact.dtype == torch.float32
        assert 1e-5 < (rounded - exact).norm() / exact.norm() < 0.05
        rounded.square().mean().backward()
    assert {p.grad.dtype for p in regression.parameters() if p.grad is not None} == {torch.float32}
