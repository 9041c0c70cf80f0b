"""The example's networks are what its page says, and, trained, the spherical one does not care for rotations."""

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="the digits are scikit-learn's: pip install 'equiharness[examples]'")


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("spherical_digits")


def test_digits_lie_on_the_northern_half(example):
    (x, y), (x_test, y_test) = example.digits(torch.Generator().manual_seed(0), limit=30)
    assert x.shape == (20, 1, 32, 32)
    assert (len(y), len(x_test), len(y_test)) == (20, 10, 10)
    # The corners of the pictures, all but empty, are all that lies beyond the equator.
    assert x[..., :16, :].square().mean() > 50 * x[..., 20:, :].square().mean()


def test_training_and_test_digits_are_all_different(example):
    (x, y), (x_test, _) = example.digits(torch.Generator().manual_seed(0))
    assert (len(x), len(x_test)) == (1297, 500)
    assert sorted(set(y.tolist())) == list(range(10))
    both = np.concatenate([x.numpy(), x_test.numpy()]).reshape(1797, -1)
    assert len(np.unique(both.round(4), axis=0)) == 1797


def test_kernels_cover_the_same_number_of_samples_at_every_bandwidth(example):
    model = example.Spherical()
    layers = [model.lift, *(block.conv1 for block in model.blocks)]
    assert [layer.grid.describe(layer.b_in).seen[0].size for layer in layers] == pytest.approx([5, 5, 5])
    reach = [layer.grid.points[:, 0].max() for layer in layers]
    assert reach == sorted(reach)


def test_the_networks_are_of_one_size(example):
    size = example.parameters(example.Spherical())
    assert example.parameters(example.matched(size)) == pytest.approx(size, rel=0.1)


def test_every_test_digit_is_turned_by_a_rotation_of_its_own(example, random_state):
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)[:1].repeat(3, 1, 1, 1)
    turned = example.turned(x, random_state)
    assert turned.shape == x.shape
    assert all((turned[i] - turned[j]).norm() > 0.1 for i, j in ((0, 1), (0, 2), (1, 2)))


def test_untrained_logits_of_the_spherical_network_hardly_move_and_those_of_the_planar_one_do(example, random_state):
    torch.manual_seed(0)
    (x, _), _ = example.digits(random_state, limit=24)
    moved = {}
    for name, model in (("spherical", example.Spherical()), ("planar", example.matched(90000))):
        model(x)  # batch norm sees the data once
        model.eval()
        with torch.no_grad():
            plain, rotated = model(x), model(example.turned(x, random_state))
        moved[name] = ((rotated - plain).norm() / (plain - plain.mean(0)).norm()).item()
    assert moved["spherical"] < 0.25 * moved["planar"]


def test_a_tiny_run_prints_the_table(example, capsys):
    result = example.main(["--epochs", "1", "--limit", "24", "--turns", "1", "--batch", "8"])
    assert set(result) == {"planar", "spherical"}
    assert all(0 <= percent <= 100 for pair in result.values() for percent in pair)
    assert "unrotated" in capsys.readouterr().out


@pytest.mark.deep
def test_trained_the_spherical_network_loses_less_than_3_points_and_the_planar_one_more_than_40(example):
    result = example.main([])
    spherical, planar = result["spherical"], result["planar"]
    assert min(spherical[0], planar[0]) > 90
    assert spherical[0] - spherical[1] < 3
    assert planar[0] - planar[1] > 40


@pytest.fixture
def random_state():
    return torch.Generator().manual_seed(0)
