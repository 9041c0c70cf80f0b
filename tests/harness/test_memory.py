"""Peak memory counts tensors at the worst moment, the same in every run."""

import torch
from equiharness.harness.timing.memory import peak_bytes


def test_the_peak_is_what_lives_at_once():
    def call():
        a = torch.ones(1000)
        b = a + 1
        del a
        return b * 2

    # Constants of an operation (an eight-byte scalar) live beside it.
    assert 8000 <= peak_bytes(call) <= 8000 + 64


def test_what_was_there_before_does_not_count():
    x = torch.ones(100_000)
    assert peak_bytes(lambda: x[:5]) == 0


def test_it_is_the_same_each_time():
    layer, x = torch.nn.Conv2d(3, 8, 3), torch.randn(2, 3, 32, 32)
    assert len({peak_bytes(lambda: layer(x)) for _ in range(3)}) == 1


def test_the_profilers_own_words_do_not_reach_the_user(capfd):
    peak_bytes(lambda: torch.ones(10))
    assert capfd.readouterr() == ("", "")
