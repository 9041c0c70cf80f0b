"""The search: a planted defect is found, made small, kept, told from others, and tried first the next time."""

import json

import equiharness as eh
import pytest
import torch
import torch.nn.functional as F
from equiharness.harness.adapters.adapter import Case, Expected, Family, Implementation
from equiharness.harness.errors import RecordError, UsageError
from equiharness.harness.search import corpus
from equiharness.harness.search.corpus import Found
from equiharness.harness.search.search import Search
from equiharness.harness.search.strategies import cases
from equiharness.harness.search.trial import Trial, failed, run_trial
from equiharness.harness.verdict.result import Verdict

SUITE = "equiharness.suites.check:run_property"
#: The configuration that shows the planted defect, and nothing else that could be smaller.
SMALLEST = {"group": "C4", "size": 2, "kernel": 2, "stride": 2, "channels_in": 3, "channels_out": 1}


class Planted(Implementation):
    """A symmetrised convolution with a defect for stride 2, even size and 3 channels."""

    name, library, family = "mine.Planted", "torch", Family.PLANAR

    def __init__(self, mended=False, expected=()):
        self.mended, self.expected = mended, expected

    def cases(self):
        yield Case.of(group="C4", size=5, kernel=3, stride=1, channels_in=1, channels_out=1)

    def strategy(self):
        return cases(
            group=("C4", "D4"),
            size=range(1, 13),
            kernel=lambda drawn: [k for k in range(1, 6) if k <= drawn["size"]],
            stride=lambda drawn: [s for s in (1, 2, 3) if (drawn["size"] - drawn["kernel"]) % s == 0],
            channels_in=range(1, 5),
            channels_out=range(1, 5),
        )

    def is_wrong(self, case):
        return not self.mended and case["stride"] == 2 and case["size"] % 2 == 0 and case["channels_in"] == 3

    def build(self, case, *, device, dtype, seed):
        torch.manual_seed(seed)
        of, size, k = eh.group(case["group"]), case["size"], case["kernel"]
        square = eh.Field(eh.Grid(k, k), of, f"{case['channels_in']}*trivial")
        weight = torch.randn(case["channels_out"], case["channels_in"], k, k)
        weight = (sum(square.act(g, weight) for g in of) / len(of)).to(getattr(torch, dtype))
        wrong = self.is_wrong(case)

        def layer(x):
            y = F.conv2d(x, weight, stride=case["stride"])
            return y + 1e-3 * x[:, :1, :1, :1] if wrong else y

        out = (size - k) // case["stride"] + 1
        source = eh.Field(eh.Grid(size, size), of, f"{case['channels_in']}*trivial")
        target = eh.Field(eh.Grid(out, out), of, f"{case['channels_out']}*trivial")
        return eh.Claim(layer, of, source, target, dtype=getattr(torch, dtype), device=device, seed=seed)


class Fragile(Planted):
    """Raises for D4."""

    def build(self, case, **where):
        if case["group"] == "D4":
            raise ValueError("no reflections")
        return super().build(case, **where)


def search(adapter, folder=None, seed=0):
    return Search(adapter, ("equivariance",), ("float32",), suite=SUITE, folder=folder, seed=seed)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The first failure of a search, and the corpus that it left."""
    folder = tmp_path_factory.mktemp("corpus")
    return search(Planted(), folder).round("nightly", 0), folder


def test_a_defect_for_stride_2_even_size_and_3_channels_is_found_and_shrunk_to_that(found):
    failure, _ = found
    assert dict(failure.trial.case.parameters) == SMALLEST
    assert (failure.trial.property, failure.verdict, failure.code) == ("equivariance", "BROKEN", "ERROR")


def test_the_element_the_input_and_the_seed_are_made_plain_too(found):
    trial = found[0].trial
    assert (trial.element.rank, trial.element.mirror, trial.inputs, trial.seed) == (0, False, "impulse", 0)


def test_what_could_not_be_made_plainer_is_blamed(found):
    assert found[0].blamed == {"size": 2, "kernel": 2, "stride": 2, "channels_in": 3}


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(5))
def test_every_seed_of_a_search_finds_and_shrinks_the_defect_within_a_minute(seed):
    progress = search(Planted(), seed=100 * seed).run(60)
    assert SMALLEST in [dict(f.trial.case.parameters) for f in progress.found]


def test_a_failure_is_kept_as_a_file_and_read_back(found):
    failure, folder = found
    [path] = folder.glob("*.json")
    assert path.name == failure.path
    assert corpus.load(folder, "mine.Planted") == [failure]
    assert corpus.load(folder, "another") == []


def test_known_failures_are_tried_first_and_are_no_news(found):
    _, folder = found
    again = search(Planted(), folder)
    again.replay()
    assert [k.trial for k in again.progress.known] == [found[0].trial]
    assert again.progress.tried == 1
    assert again.round("ci", 1) is None


def test_a_mended_failure_is_said_to_be_mended(found):
    _, folder = found
    again = search(Planted(mended=True), folder)
    again.replay()
    assert (again.progress.known, len(again.progress.mended)) == ([], 1)


def test_a_sound_layer_gives_nothing():
    sound = search(Planted(mended=True))
    assert sound.round("ci") is None
    assert sound.progress.found == []
    assert sound.progress.anything


def test_a_second_defect_is_found_beside_the_first():
    both = search(Fragile())
    codes = {f.code for number in range(2) if (f := both.round("nightly", number)) is not None}
    assert codes == {"CRASHED", "ERROR"}


def test_a_declared_deviation_is_no_failure():
    declared = Planted(expected=(Expected("equivariance", Verdict.BROKEN, "known.", when={"stride": 2}),))
    trial = Trial("mine.Planted", Case.of(**SMALLEST))
    assert failed(run_trial(Planted(), trial, SUITE))
    assert not failed(run_trial(declared, trial, SUITE))


def result_of(trial):
    return run_trial(Planted(), trial, SUITE)


def larger(**change):
    return Trial("mine.Planted", Case.of(**{**SMALLEST, **change}))


def test_larger_numbers_of_the_same_parity_are_the_same_failure_and_others_are_not(found):
    failure, _ = found
    kinds = {"size": 4, "kernel": 2}
    assert failure.explains(larger(**kinds), result_of(larger(**kinds)))
    odd = larger(size=5, kernel=3)
    assert not failure.explains(odd, result_of(larger()))
    assert not failure.explains(larger(channels_in=4), result_of(larger()))


def test_another_conclusion_is_another_failure(found):
    crashed = result_of(larger()).model_copy(update={"verdict": Verdict.CRASHED})
    assert not found[0].explains(larger(), crashed)


def test_a_trial_survives_being_written_and_gives_the_same_numbers(found):
    trial = found[0].trial
    assert Trial.read(trial.text) == trial
    assert result_of(Trial.read(trial.text)).error == result_of(trial).error


@pytest.mark.parametrize("text", ["", "{}", '{"case": 1}', "[1]"])
def test_what_is_no_trial_is_refused(text):
    with pytest.raises(UsageError, match="not a trial"):
        Trial.read(text)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": 2}', '{"schema_version": 1, "trial": {}}'])
def test_a_damaged_file_of_the_corpus_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RecordError, match=r"a\.json"):
        corpus.load(tmp_path, "mine.Planted")


def test_a_corpus_file_is_plain_json(found):
    failure, folder = found
    data = json.loads((folder / failure.path).read_text())
    assert data["trial"]["case"]["parameters"] == SMALLEST
    assert data["library"].startswith("torch")


def test_a_missing_library_is_skipped_and_finds_nothing():
    class Missing(Planted):
        def build(self, case, **where):
            raise eh.harness.errors.MissingDependencyError("not here")

    assert not failed(run_trial(Missing(), larger(), SUITE))
    assert Found.of(larger(), None, result_of(larger()), "").blamed == dict(larger().parameters)
