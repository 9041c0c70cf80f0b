"""The example's turbulence is what it says, and its networks are equivariant as its table says."""

import importlib.util
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.pages

EXAMPLE = Path(__file__).parents[2] / "examples" / "super_resolution.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("super_resolution", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spectrum(u):
    """Divergence relative to the gradient, and the energy in shells of k."""
    n = u.shape[-1]
    k = torch.stack(torch.meshgrid(*[torch.fft.fftfreq(n, 1 / n)] * 3, indexing="ij"))
    modes = torch.fft.fftn(u, dim=(-3, -2, -1))
    divergence = (k * modes).sum(2).abs().square().sum() / (k.square().sum(0) * modes.abs().square()).sum()
    shells = k.square().sum(0).sqrt().round().long()
    energy = torch.zeros(int(shells.max()) + 1).index_add_(
        0, shells.flatten(), modes.abs().square().sum((0, 1, 2)).flatten()
    )
    return divergence.sqrt().item(), energy


def test_the_turbulence_is_free_of_divergence_with_the_spectrum_of_kolmogorov(example, monkeypatch):
    monkeypatch.setattr(example, "STRETCH", 1.0)
    u = example.turbulence(4, 1, torch.Generator().manual_seed(0), n=32)
    divergence, energy = spectrum(u)
    assert divergence < 1e-5
    k = torch.arange(3.0, 13)
    slope = torch.linalg.lstsq(torch.stack([k.log(), torch.ones(10)], 1), energy[3:13].log()).solution[0].item()
    assert slope == pytest.approx(-5 / 3, abs=0.2)
    assert u.square().mean().item() == pytest.approx(1, rel=1e-4)


def test_stretched_turbulence_is_free_of_divergence_too_and_longer_along_one_axis(example):
    u = example.turbulence(2, 2, torch.Generator().manual_seed(0), n=32)
    assert spectrum(u)[0] < 1e-5
    slopes = [(u - u.roll(1, a)).square().mean().item() for a in (3, 4, 5)]
    assert slopes[0] < 0.7 * min(slopes[1:])
    assert ((u[:, 1] - u[:, 0]).square().mean() / u.square().mean()).item() < 1  # frames belong together


def verdicts(example, model, frames=(1, 1)):
    return [text.split()[0] for text in example.verdicts(model.eval(), frames)]


def test_trained_weights_or_not_the_equivariant_network_is_exact_as_a_vector_field_alone(example):
    torch.manual_seed(0)
    model = example.Equivariant(1, 1, 1)
    torch.nn.init.normal_(model.project.weight)
    assert verdicts(example, model) == ["BROKEN", "EXACT"]


@pytest.mark.deep
def test_the_published_layout_and_the_plain_network_are_broken_either_way(example):
    torch.manual_seed(0)
    published, plain = example.Published(1, 1, 1), example.Unconstrained(1, 1, 2)
    torch.nn.init.normal_(published.head[0].spatial_weight)
    torch.nn.init.normal_(plain.body[-1].weight)
    assert verdicts(example, published) == ["BROKEN", "BROKEN"]
    assert verdicts(example, plain) == ["BROKEN", "BROKEN"]


def test_training_lowers_the_loss_and_ticks_once_a_step(example):
    torch.manual_seed(0)
    u = example.turbulence(1, 1, torch.Generator().manual_seed(0))
    model, ticks = example.Unconstrained(1, 1, 2), []
    before = example.error(model.eval(), u, (1, 1))
    example.train(model, u, (1, 1), 12, 0, lambda: ticks.append(1))
    assert len(ticks) == 12
    assert example.error(model, u, (1, 1)) < before
