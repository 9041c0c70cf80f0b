"""docs/spherical.md is true: its code runs, prints what the page shows, and draws the page's pictures."""

import doctest
import re
from pathlib import Path

import pytest
from equiharness import kernels

matplotlib = pytest.importorskip("matplotlib", reason="the page draws: pip install 'equiharness[report]'")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "spherical.md"
#: Drawn by the page's code; and by an example that runs for a minute, tested in tests/examples.
DRAWN = {"spherical-grids.svg", "spherical-cap.svg", "spherical-panorama.svg"}
BY_EXAMPLE = {"spherical-depth.svg"}


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder where the page's code has drawn."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context():
        patch.chdir(folder)
        failed, tried = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert tried > 50
    assert failed == 0
    return folder


def test_every_example_of_the_page_gives_what_the_page_says(drawn):
    assert {path.name for path in drawn.glob("*.svg")} == DRAWN


def test_every_code_block_is_one_that_runs(text):
    kinds = re.findall(r"^```(.*)$", text, re.M)[::2]
    assert set(kinds) <= {"pycon", "text"}
    assert all(">>>" not in block for block in re.findall(r"^```text$(.*?)^```$", text, re.M | re.S))


def test_a_page_that_lies_would_be_noticed(tmp_path):
    (tmp_path / "page.md").write_text("```pycon\n>>> 1 + 1\n3\n\n```\n", encoding="utf-8")
    results = doctest.testfile(str(tmp_path / "page.md"), module_relative=False, report=False, verbose=False)
    assert results.failed == 1


def test_every_picture_of_the_page_is_there_as_small_text(text):
    shown = set(re.findall(r"\]\(([\w-]+\.svg)\)", text))
    assert shown == DRAWN | BY_EXAMPLE
    for name in shown:
        assert len((PAGE.parent / name).read_text(encoding="utf-8")) < 150_000


def test_the_pictures_beside_the_page_are_those_that_its_code_draws(drawn):
    for name in DRAWN:
        kept, new = ((folder / name).read_text(encoding="utf-8") for folder in (PAGE.parent, drawn))
        assert labels(kept) == labels(new)


def labels(picture):
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture)


def test_every_public_name_of_the_spherical_layers_that_a_network_needs_is_on_the_page(text):
    modules = {name: module for name, module in kernels._PUBLIC.items() if module.startswith(".spherical")}
    helpers = {
        "AnyBandwidth",
        "SpectralSequential",
        "S2ResBlock",
        "OversampledNonlinearity",
        "quadrature_weights",
    }
    transforms = {name for name in modules if name.startswith(("wigner", "s2_", "so3_"))}
    assert [name for name in modules if name not in helpers | transforms and name not in text] == []
