"""README and docs/ are true: every block of code on every page is run, in the order of the page, as a reader would.

What a block is, its fence says:

* ``pycon``: a session, run as a doctest (a report of several lines: up to digits); the blocks of a page share names.
* ``python title="layers.py"``, or any language with a title: a file, written where the page's commands run.
* ``diff title="layers.py"``: lines of that file, each with the one that takes its place.
* ``python``: run; a function ``test_*(equivariance)`` in it is called with the fixture's object.
* ``console``: each ``$ command`` is run and prints what the page shows, up to digits, times and folders; a line ``...``
  says that other lines are left out. ``$ echo $?`` is the exit code of the command before.
* ``text``: output or a drawing, and no command.
* A block whose first line is a comment ``not run by the tests: REASON`` is only held to the syntax of its language.
"""

import ast
import contextlib
import doctest
import importlib.metadata
import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import equiharness
import equiharness.kernels
import pytest
from equiharness import cli
from equiharness.harness.adapters import registry
from equiharness.harness.installed import distribution_version
from equiharness.testing import Checker

ROOT = Path(__file__).resolve().parents[1]
#: Has a test of its own, which holds the pictures that it draws against those beside it.
ELSEWHERE = ROOT / "docs" / "spherical.md"
DOCS = sorted(path for path in (ROOT / "docs").rglob("*.md") if path != ELSEWHERE)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
BLOCK = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```$", re.S | re.M)
NOT_RUN = re.compile(r"\A\s*(?:#|//|<!--)\s*not run by the tests: \S")
COMMANDS = ("equiharness", "pytest", "python", "pip", "tox", "git")
#: What differs between machines and runs: times, folders, the digits of measured numbers, which checks that hold
#: are nearest to their bounds, and the order of those that do not.
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
FOLDER = re.compile(r"/\S+/(?=\.pytest_cache|[\w-]+\.(jsonl|py)\b)")
CHECKER = doctest.OutputChecker()

pytest_plugins = "pytester"
for heavy in ("torch", "equiharness.suites.check", "equiharness.reports.pictures"):
    importlib.import_module(heavy)  # inner sessions unload what they loaded: extension modules take that ill


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    options: dict[str, str]
    body: str

    @property
    def runs(self):
        return not NOT_RUN.match(self.body)

    def __str__(self):
        return f"{self.page}, line {self.line}"


def blocks_of(text, page="a page"):
    found = []
    for match in BLOCK.finditer(text):
        indent, language, options, body = match.groups()
        body = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        named = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', options))
        found.append(Block(page, line, language, named, body))
    return found


def essence(text):
    lines = [line for line in text.strip().splitlines() if not line.startswith("  EXACT ")]
    return sorted(NUMBER.sub("#", FOLDER.sub("", line)).replace(" ", "") for line in lines)


def compared(shown, found):
    """What a page shows and what a command printed, in a form in which they are equal where the page is right."""
    wanted, printed = essence(shown), essence(found)
    if found.strip().isdigit():  # an exit code: its digits are all it says
        return shown.strip(), found.strip()
    if "..." not in wanted:
        return wanted, printed
    lines = [line for line in wanted if line != "..."]
    return lines, [line for line in lines if line in printed]


def parsed(block):
    """Raise unless the body is of the language that the fence names."""
    if block.language == "python":
        ast.parse(block.body)
    elif block.language == "toml":
        tomllib.loads(block.body)
    elif block.language == "json":
        json.loads(block.body)
    elif block.language == "yaml":
        pytest.importorskip("yaml").safe_load(block.body)
    elif block.language == "sh":
        subprocess.run(["bash", "-n"], input=block.body, text=True, check=True, capture_output=True)
    else:
        raise AssertionError(f"{block}: {block.language or 'a fence without a language'} cannot be checked")


class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    def __init__(self, folder, run_pytest):
        self.folder, self.run_pytest = folder, run_pytest
        self.names = {"__name__": "__page__"}
        self.code = 0

    def follow(self, blocks):
        """Do every block; yields (block, what it should have given, what it gave) of all that show something."""
        for block in blocks:
            if not block.runs:
                parsed(block)
            elif "title" in block.options:
                self.write(block)
            elif block.language == "pycon":
                yield from self.session(block)
            elif block.language == "python":
                self.execute(block)
            elif block.language == "console":
                for command, shown in re.findall(r"^\$ ([^\n]*)\n(.*?)(?=^\$ |\Z)", block.body, re.S | re.M):
                    yield f"{block}: $ {command}", *compared(shown, self.command(command))
            elif block.language != "text":
                raise AssertionError(f"{block}: a {block.language or 'nameless'} block that is neither run nor marked")

    def write(self, block):
        path = self.folder / block.options["title"]
        body = block.body
        if block.language == "diff":
            body = path.read_text(encoding="utf-8")
            for old, new in re.findall(r"^-(.*)\n\+(.*)$", block.body, re.M):
                assert body.count(old + "\n") == 1, f"{block}: {path.name} has not one line {old!r}"
                body = body.replace(old + "\n", new + "\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
        if path.name == "pyproject.toml":
            self.install(tomllib.loads(body))

    def install(self, project):
        """What an editable install does: the folder is on the path, and its metadata names the entry points."""
        if "project" not in project:
            return
        name, version = project["project"]["name"], project["project"]["version"]
        metadata = self.folder / f"{name}-{version}.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        groups = project["project"].get("entry-points", {})
        lines = [f"[{g}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for g, points in groups.items()]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        importlib.invalidate_caches()

    def session(self, block):
        for example in doctest.DocTestParser().get_examples(block.body, str(block)):
            place = f"{block}: >>> {example.source.strip()}"
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                try:
                    exec(compile(example.source, str(block), "single"), self.names)
                except Exception as error:
                    said = f"{type(error).__name__}: {error}\n"
                    kind, _, message = (example.exc_msg or "").partition(":")
                    short = f"{kind.rpartition('.')[2]}:{message}"
                    assert example.exc_msg, f"{place}\n{said}"
                    assert CHECKER.check_output(short, said, doctest.ELLIPSIS), f"{place}\n{said}"
                    continue
            same = CHECKER.check_output(example.want, printed.getvalue(), doctest.ELLIPSIS)
            same = same or (example.want.count("\n") > 1 and essence(example.want) == essence(printed.getvalue()))
            yield place, example.want, example.want if same else printed.getvalue()

    def execute(self, block):
        exec(compile(block.body, str(block), "exec"), self.names)
        for node in ast.parse(block.body).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                self.names[node.name](Checker())

    def command(self, text):
        if text == "echo $?":
            return f"{self.code}\n"
        words = shlex.split(text)
        if words[0] == "pytest":
            return self.run_pytest(*words[1:]).stdout.str()
        if words[0] == "equiharness":
            return self.equiharness(words[1:])
        program = [sys.executable, *words[1:]] if words[0] == "python" else words
        return subprocess.run(program, cwd=self.folder, capture_output=True, text=True, check=True).stdout

    def equiharness(self, words):
        """Output of the command line; its exit code is kept, and wrong usage is never what a page means."""
        registry.implementations.cache_clear()
        distribution_version.cache_clear()
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            patch.setattr(sys, "argv", ["equiharness", *words])
            try:
                cli.main()
                self.code = 0
            except SystemExit as end:
                self.code = end.code or 0
        assert self.code != 2, f"wrong usage: equiharness {shlex.join(words)}"
        return printed.getvalue()


@pytest.fixture
def kept():
    """Modules to have again after ``pytester``, which unloads all that were imported beside it."""
    modules = {}
    yield modules
    for name, module in modules.items():
        sys.modules.setdefault(name, module)


@pytest.fixture
def reader(request, kept, tmp_path, monkeypatch):
    """A reader of the page that the test is about; an inner pytest only for pages that call it."""
    about = request.node.callspec.params
    text = about["path"].read_text(encoding="utf-8") if "path" in about else about["page"]
    pytester = request.getfixturevalue("pytester") if "$ pytest" in text else None
    folder = pytester.path if pytester else tmp_path
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"):  # pytest says more where it takes itself to be in CI
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    installed = any(p.name == "equiharness" for p in importlib.metadata.entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "equiharness.pytest_plugin"]
    yield Reader(folder, lambda *words: pytester.runpytest_inprocess(*plugin, *words))
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
    kept.update(sys.modules)
    registry.implementations.cache_clear()
    distribution_version.cache_clear()


#: Pages whose blocks take longest.
LONG = ("docs/findings.md", "docs/exact.md", "docs/grids.md", "docs/cluster.md", "docs/pytest.md")


def read_pages():
    for path in PAGES:
        name = path.relative_to(ROOT).as_posix()
        yield pytest.param(path, id=name, marks=[pytest.mark.pages] if name in LONG else [])


@pytest.mark.parametrize("path", list(read_pages()))
def test_every_block_of_a_page_does_what_the_page_says(path, reader):
    name = path.relative_to(ROOT).as_posix()
    for place, shown, found in reader.follow(blocks_of(path.read_text(encoding="utf-8"), name)):
        assert found == shown, place


def test_output_holds_no_command_that_nobody_runs():
    blocks = [b for path in PAGES for b in blocks_of(path.read_text(encoding="utf-8"), path.name)]
    hidden = [str(b) for b in blocks if b.language == "text" for s in b.body.splitlines() if s.startswith(COMMANDS)]
    assert hidden == []
    assert {b.language for b in blocks if b.runs} <= {"pycon", "python", "console", "text", "toml", "diff"}


@pytest.mark.parametrize("module", [equiharness, equiharness.kernels], ids=lambda module: module.__name__)
def test_every_public_name_has_its_place_in_the_reference(module):
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")]
    known = set(re.findall(r"^::: [\w.]+\.(\w+)$", "\n".join(pages), re.M))
    assert sorted(set(module.__all__) - known) == []


def test_every_command_in_the_text_exists():
    known = {c.name or c.callback.__name__ for t in (cli.app, cli.baseline) for c in t.registered_commands} | {
        "baseline"
    }
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    named = set(re.findall(r"(?:`|^\$ )equiharness ([a-z]\w*)", text, re.M))
    assert "verify" in named
    assert named - known == set()


@pytest.mark.parametrize(
    "page",
    [
        '```python title="test_a.py"\ndef test_a(): pass\n```\n\n```console\n$ pytest -q\n2 failed in 0.1s\n```\n',
        "```pycon\n>>> 1 + 1\n3\n```\n",
        "```console\n$ equiharness list\nnothing\n```\n",
        "```console\n$ equiharness list\nnothing\n...\n```\n",
        "```console\n$ equiharness list\n...\n$ echo $?\n1\n```\n",
    ],
    ids=["pytest", "a session", "the command line", "a part of its output", "its exit code"],
)
def test_a_page_that_lies_would_be_noticed(reader, page):
    assert any(shown != found for _, shown, found in reader.follow(blocks_of(page)))


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("```\nequiharness verify\n```\n", AssertionError),
        ("```sh\nequiharness verify\n```\n", AssertionError),
        ("```python\nimport no_such_module\n```\n", ImportError),
        ("```python\n# not run by the tests: needs a GPU\ndef\n```\n", SyntaxError),
        ("```sh\n# not run by the tests: needs a cluster\nif then\n```\n", subprocess.CalledProcessError),
        ("```toml\n# not run by the tests: somebody's file\na = = 1\n```\n", tomllib.TOMLDecodeError),
        ("```pycon\n>>> raise KeyError('a')\n1\n```\n", AssertionError),
        ("```console\n$ equiharness verify --propety equivariance\n```\n", AssertionError),
    ],
    ids=["no language", "no mark", "an import", "python", "sh", "toml", "an exception", "wrong usage"],
)
def test_a_block_that_cannot_run_is_refused(reader, page, error):
    with pytest.raises(error):
        list(reader.follow(blocks_of(page)))
