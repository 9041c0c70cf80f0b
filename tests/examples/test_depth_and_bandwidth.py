"""The figure of the Spherical CNNs paper: linear stacks are exact at every depth, ReLUs reach a plateau."""

import pytest
import torch


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("depth_and_bandwidth")


@pytest.mark.parametrize("b", [4, 8, 16])
def test_three_linear_layers_in_float32_stay_below_two_millionths(example, b):
    [found] = example.errors(b, 3, example.BETWEEN["linear"], 1, 0)
    assert len(found) == 3
    assert max(found) < 2e-6


def test_the_first_relu_makes_the_error_and_more_of_them_do_not(example):
    found = torch.tensor(list(example.errors(4, 6, example.BETWEEN["ReLU"], 4, 0))).mean(0)
    assert found[0] < 2e-6  # no ReLU yet
    assert found[1] > 0.03
    assert found[2:].max() < 2 * found[1]


def test_a_finer_grid_under_each_relu_lowers_the_plateau(example):
    plain, fine = (
        torch.tensor(list(example.errors(4, 3, example.BETWEEN[name], 2, 0)))[:, -1].mean()
        for name in ("ReLU", "ReLU on a grid twice as fine")
    )
    assert fine < plain / 4


def test_a_layer_that_is_not_equivariant_would_be_seen(example):
    class Position(torch.nn.Module):
        def forward(self, x):
            return x * torch.linspace(0.5, 1.5, x.shape[-1])

    [found] = example.errors(4, 2, Position(), 1, 0)
    assert found[-1] > 0.01


def test_the_program_prints_its_table_and_draws_its_figure(example, tmp_path, capsys):
    arguments = ["--bandwidths", "2", "3", "--depth", "2", "--rotations", "1", "--figure"]
    result = example.main([*arguments, str(tmp_path / "depth.svg")])
    assert len(result) == 6
    assert "2 layers" in capsys.readouterr().out
    assert "ReLU" in (tmp_path / "depth.svg").read_text(encoding="utf-8")
