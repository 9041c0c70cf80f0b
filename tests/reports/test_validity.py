"""Pictures and tables of validity maps."""

import pytest
from equiharness.harness.errors import RecordError
from equiharness.harness.records.validity import Geometry, Law, Point, ValidityMap
from equiharness.reports.validity import COLOURS, OTHER, draw_maps, laws_table


@pytest.fixture
def maps():
    points = [
        Point(Geometry(n, 3, s, 1), verdict)
        for n, s, verdict in ((8, 1, "EXACT"), (9, 1, "SKIPPED"), (8, 2, "BROKEN"), (9, 2, "AMBIGUOUS"))
    ]
    found = ValidityMap("Conv", "mine", "C4", tuple(points), Law("(N - 1) mod s = 0", 2, 2))
    return [found, ValidityMap("Pool", "mine", "C4", (Point(Geometry(8), "EXACT"),), Law("always", 1, 1))]


def test_the_picture_shows_every_conclusion_in_its_own_colour(maps, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    draw_maps(maps, tmp_path / "deep" / "maps.png")
    with image.open(tmp_path / "deep" / "maps.png") as picture:
        seen = {colour for _, colour in picture.convert("RGB").getcolors(2**24)}
    for colour in (*COLOURS.values(), OTHER):
        assert tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) in seen


def test_a_place_that_cannot_be_written_is_told(maps, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="Cannot write"):
        draw_maps(maps, tmp_path / "file" / "maps.png")


def test_the_table_counts_what_holds_and_what_the_law_explains(maps):
    lines = laws_table(maps).splitlines()
    assert lines[2] == "| mine.Conv | 4 | 1 | 1 | (N - 1) mod s = 0 | 2 of 2 |"
    assert lines[3] == "| mine.Pool | 1 | 1 | 0 | always | 1 of 1 |"
