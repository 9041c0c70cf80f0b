"""Fresh environments that hold this package as a user would install it, beside the libraries of this one."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

#: What this environment knows of the outside: where the tree itself lies must not leak into the other one.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHONPATH"))}


def fresh(home: Path, *what: str) -> Path:
    """The interpreter of a new environment with one thing installed; torch need not be fetched twice.

    Args:
        home: folder of the environment.
        what: arguments of ``pip install``: a wheel, or "-e" and a folder.
    """
    venv.create(home)
    executable = home / "bin" / "python"
    places = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    outer = [sysconfig.get_paths()["purelib"], *(p for p in sys.path if p.endswith("site-packages"))]
    lines = []
    for number, place in enumerate(dict.fromkeys(outer)):
        links = home / f"outer{number}"
        links.mkdir()
        for entry in Path(place).iterdir():
            # The package of this environment would hide an editable one: Python asks its finder last.
            if not entry.name.startswith(("equiharness", "__editable__")):
                (links / entry.name).symlink_to(entry)
        lines.append(f"import site; site.addsitedir({str(links)!r})")
    (Path(places["purelib"]) / "zz_outer.pth").write_text("\n".join(lines) + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(executable), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, "--no-build-isolation", "--ignore-installed", *what], check=True, env=ENVIRONMENT)
    return executable
