"""What is said in several files of the repository at once: versions, environments, folders."""

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def loaded(path):
    return pytest.importorskip("yaml").safe_load(path.read_text(encoding="utf-8"))


def pins(text):
    """Package -> version of every line `name==version`."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M))


def environments():
    """The environments of tox.ini, by name."""
    parser = ConfigParser(interpolation=None)
    parser.read_string(read("tox.ini"))
    return {name.removeprefix("testenv:"): parser[name] for name in parser.sections() if name.startswith("testenv:")}


def matrices():
    """(workflow and job, environments of its matrix) of every job that has them."""
    for path in WORKFLOWS:
        for name, job in loaded(path)["jobs"].items():
            yield f"{path.name}: {name}", job.get("strategy", {}).get("matrix", {}).get("environment", [])


def hashed(workflow):
    """Every pattern that a key of a cache hashes."""
    for call in re.findall(r"hashFiles\(([^)]*)\)", workflow):
        yield from re.findall(r"'([^']+)'", call)


def test_hooks_check_with_the_versions_of_the_lint_gate():
    hooks = [hook for repo in loaded(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    wanted = pins(read("constraints/peers.txt"))
    needed = [pin for hook in hooks for pin in hook.get("additional_dependencies", [])]
    assert needed
    for pin in needed:
        name, version = pin.split("==")
        assert wanted[name] == version, f".pre-commit-config.yaml says {pin}, constraints/peers.txt {wanted[name]}"


def test_hooks_clone_no_other_repository():
    assert [repo["repo"] for repo in loaded(ROOT / ".pre-commit-config.yaml")["repos"]] == ["local"]


def test_every_environment_of_ci_is_one_of_tox():
    known = environments()
    named = [(place, name) for place, names in matrices() for name in names]
    assert named
    assert [f"{place} runs {name}" for place, name in named if name not in known] == []


def test_every_gate_runs_in_ci():
    run = {name for _, names in matrices() for name in names}
    assert set(environments()) - run == {"nightly"}


def test_every_constraints_file_of_tox_exists():
    named = re.findall(r"\{tox_root\}/(constraints/[\w.]+)", read("tox.ini"))
    assert named
    assert sorted(set(named)) == sorted(f"constraints/{path.name}" for path in (ROOT / "constraints").iterdir())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_keys_of_caches_hash_files_that_exist(path):
    for pattern in hashed(path.read_text(encoding="utf-8")):
        assert any(ROOT.glob(pattern)), f"{path.name} hashes {pattern}, and there is no such file"


def test_the_oldest_versions_are_those_that_the_package_admits():
    """Each lower bound of pyproject.toml is the version that the environment `oldest` installs."""
    needed = tomllib.loads(read("pyproject.toml"))["project"]["dependencies"]
    oldest = pins(read("constraints/oldest.txt"))
    assert needed
    for requirement in needed:
        name, bound = requirement.split(">=")
        assert re.fullmatch(rf"{re.escape(bound)}(\.\d+)*", oldest[name]), (
            f"pyproject.toml admits {requirement}, and constraints/oldest.txt tries {oldest[name]}"
        )


def test_the_version_is_the_same_wherever_it_is_said():
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    cited = loaded(ROOT / "CITATION.cff")["version"]
    assert cited == version
    assert f"version {version}" in read("CHANGELOG.md") or f"## {version}" in read("CHANGELOG.md")


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem)
def test_forms_for_issues_ask_each_question_once(path):
    form = loaded(path)
    if path.name == "config.yml":
        assert form["blank_issues_enabled"] is True
        return
    assert form["name"]
    assert form["description"]
    asked = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(asked) == len(set(asked)) > 0
