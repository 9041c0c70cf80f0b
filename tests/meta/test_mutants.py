"""The list of mutants follows the sources: each text is still where the list says it is, and changes something."""

import pytest
from mutants import ROOMS, mutants, source_of

MUTANTS = mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m["id"])
def test_a_mutant_can_be_made(mutant):
    assert mutant["before"] != mutant["after"]
    text = source_of(mutant).read_text(encoding="utf-8")
    if mutant["file"].endswith(".py"):
        compile(text.replace(mutant["before"], mutant["after"]), mutant["file"], "exec")


def test_a_mutant_whose_text_is_gone_is_named():
    with pytest.raises(LookupError, match="x1"):
        source_of({"id": "x1", "file": "testing.py", "before": "no such text"})


def test_the_mutants_cover_every_room():
    assert len(MUTANTS) == 60
    assert {*ROOMS} <= {mutant["file"].partition("/")[0] for mutant in MUTANTS}
