"""Installation of revisions of a project, each in its own folder."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from ..errors import UsageError


def install_revision(root: Path, revision: str | None, target: Path) -> str:
    """Install a revision of a project without its dependencies, into a folder to put first on PYTHONPATH.

    Args:
        root: the project's repository.
        revision: a commit, branch or tag; None for the working tree, including its changes.
        target: an empty folder for the installed packages.

    Returns:
        The commit, with "+changes" where the working tree differs from it.

    Raises:
        UsageError: there is no repository or no such revision, or the project does not install.
    """
    sources = target.with_name(f"{target.name}-sources")
    sources.mkdir(parents=True)
    commit = _git(root, "rev-parse", "--verify", f"{revision or 'HEAD'}^{{commit}}").decode().strip()
    if revision is None:
        names = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
        for name in filter(None, names):
            if (root / name).is_file():  # git still lists deleted files
                (sources / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, sources / name)
        commit += "+changes" if _git(root, "status", "--porcelain") else ""
    else:
        with tarfile.open(fileobj=io.BytesIO(_git(root, "archive", commit))) as archive:
            archive.extractall(sources, filter="data")
    _install(sources, target, revision or "the working tree")
    return commit


def _install(sources: Path, target: Path, what: str) -> None:
    # Without isolation both revisions use the build backend of this environment, and nothing is downloaded.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--target", str(target), str(sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip()).splitlines()
        report = [line.strip() for line in output if "error" in line.lower()] or output
        raise UsageError(
            f"{what} does not install: {' '.join(report[-1:])}. Try `pip install --no-deps --no-build-isolation .` "
            "in it: the environment needs pip and the project's build backend (setuptools>=77)."
        )


def repository_of(folder: Path) -> Path:
    """The root of the repository that contains a folder.

    Raises:
        UsageError: the folder is in no repository.
    """
    return Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())


def _git(root: Path, *words: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise UsageError("git is not installed, and it is needed to read revisions: install git.") from error
    except subprocess.CalledProcessError as error:
        output = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UsageError(f"git {' '.join(words)}: {' '.join(output)}. Give a commit, branch or tag.") from error
