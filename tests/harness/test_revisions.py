"""Two revisions against each other, with a fake worker for the arithmetic and real ones for the plumbing."""

import subprocess
import sys
from pathlib import Path

import equiharness
import pytest
from equiharness.harness.adapters.adapter import Case
from equiharness.harness.adapters.operators import TimedCase
from equiharness.harness.errors import UsageError
from equiharness.harness.records.ratios import LEAST, Change
from equiharness.harness.timing import revisions as module
from equiharness.harness.timing.install import install_revision, repository_of
from equiharness.harness.timing.revisions import Worker, WorkerError, compare_revisions

TIMED_CASE = TimedCase("op", "a.B", Case.of(n=1), 4)
SITES = {"old": Path("old"), "new": Path("new")}


class FakeWorker:
    """Answers as a revision would whose layer takes so many seconds."""

    seconds: dict[str, float]
    started: list[str]

    def __init__(self, site, threads):
        self.side = site.name
        self.orders = []
        FakeWorker.started.append(self.side)

    def tell(self, do, **order):
        self.orders.append(do)

    def answer(self):
        if FakeWorker.seconds[self.side] < 0:
            raise WorkerError("does not build")
        return {"build": 1.0, "differentiable": True}

    def ask(self, do, **order):
        seconds = FakeWorker.seconds[self.side]
        return {"calibrate": {"repeats": 3}, "sample": {"seconds": seconds}, "memory": {"bytes": 100}}[do]

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(module, "Worker", FakeWorker)
    FakeWorker.seconds, FakeWorker.started = {"old": 1.0, "new": 1.0}, []
    return FakeWorker


@pytest.mark.parametrize(("new", "change"), [(1.0, Change.SAME), (1.15, Change.WORSE), (0.8, Change.BETTER)])
def test_it_stops_as_soon_as_the_answer_is_clear(fake, new, change):
    fake.seconds["new"] = new
    comparisons = compare_revisions(SITES, [TIMED_CASE])
    assert [b.quantity for b in comparisons] == ["forward", "backward", "memory", "training memory"]
    assert [b.ratio().change for b in comparisons] == [change, change, Change.SAME, Change.SAME]
    assert len(comparisons[0].old) == LEAST
    assert len(comparisons[2].old) == 1


def test_which_revision_starts_first_alternates(fake):
    compare_revisions(SITES, [TIMED_CASE], most=2)
    assert fake.started == ["old", "new", "new", "old"]


def test_an_open_answer_stays_ambiguous_after_the_most_pairs(fake, monkeypatch):
    values = iter([1.0, 2.0, 0.5] * 10_000)
    monkeypatch.setattr(
        FakeWorker, "ask", lambda self, do, **o: {"repeats": 1, "seconds": next(values), "bytes": 1}, raising=True
    )
    monkeypatch.setattr(module, "ROUNDS", 1)
    [forward, _] = compare_revisions(SITES, [TIMED_CASE], backward=False, most=10)
    assert forward.ratio().change is Change.AMBIGUOUS
    assert len(forward.old) == 10


def test_a_revision_that_does_not_build_is_named(fake):
    fake.seconds["new"] = -1
    comparisons = compare_revisions(SITES, [TIMED_CASE])
    assert all(comparison.failed == {"new": "does not build"} for comparison in comparisons)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """This package under its name, as an installed revision has it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "equiharness").symlink_to(Path(equiharness.__file__).parent)
    return folder


def test_a_worker_times_a_layer_and_reports_its_own_faults(site):
    with Worker(site) as worker:
        case = next(iter(module_case()))
        built = worker.ask("build", **case)
        assert built["differentiable"]
        assert Path(built["from"]).parent == site / "equiharness"
        repeats = worker.ask("calibrate", quantity="forward", shortest=1e-4)["repeats"]
        assert worker.ask("sample", quantity="forward", repeats=repeats)["seconds"] > 0
        assert worker.ask("memory", quantity="backward")["bytes"] > 0
        with pytest.raises(WorkerError, match=r"no\.Such"):
            worker.ask("build", **{**case, "implementation": "no.Such"})
        worker.tell("exit_without_a_word")
        with pytest.raises(WorkerError, match="do_exit_without_a_word"):
            worker.answer()


def module_case():
    case = Case.of(group="C4", size=9, kernel=3, channels_in=3, channels_out=4)
    yield {
        "implementation": "torch.nn.Conv2d",
        "case": case.name,
        "parameters": dict(case.parameters),
        "dtype": "float32",
        "seed": 0,
        "batch": 2,
        "threads": 1,
    }


def test_a_worker_that_dies_says_its_last_words(site, tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text("import sys; sys.exit('out of luck')")
    monkeypatch.setattr(module, "WORKER", script)
    with Worker(site) as worker, pytest.raises(WorkerError, match="out of luck"):
        worker.answer()


@pytest.fixture
def project(tmp_path):
    """A repository of one module with two commits and a change that is not committed."""
    root = tmp_path / "project"
    root.mkdir()

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True)

    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "little"\nversion = "1"\n[tool.setuptools]\npy-modules = ["little"]\n'
    )
    (root / "little.py").write_text("value = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    (root / "little.py").write_text("value = 2\n")
    return root


def value_in(site):
    code = "import little; print(little.value)"
    return subprocess.run([sys.executable, "-c", code], cwd=site, capture_output=True, text=True, check=True).stdout


def test_a_revision_and_the_working_tree_are_installed_side_by_side(project, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    commit = install_revision(project, "HEAD", old)
    assert install_revision(project, None, new) == f"{commit}+changes"
    assert (value_in(old), value_in(new)) == ("1\n", "2\n")
    assert repository_of(project) == project.resolve()


def test_an_unknown_revision_is_refused(project, tmp_path):
    with pytest.raises(UsageError, match="Give a commit"):
        install_revision(project, "no-such-branch", tmp_path / "x")


def test_a_project_that_does_not_install_says_why(project, tmp_path):
    (project / "pyproject.toml").write_text("not toml at all")
    with pytest.raises(UsageError, match="does not install"):
        install_revision(project, None, tmp_path / "x")
