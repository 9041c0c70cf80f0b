"""The settings of a project: ``[tool.equiharness]`` in its pyproject.toml. Options on the command line win.

The command line and the pytest plugin read them. This module imports no array library.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from .errors import UsageError
from .precisions import PLANNED, require_dtypes

BASELINE = "equiharness-baseline.jsonl"


class Profile(NamedTuple):
    """The depth of a run.

    Args:
        dtypes: precisions; none means the layer's own.
        seeds: number of seeds.
        drawn: configurations to draw for each seed.
        whole: whether finite groups are checked element by element, and gradients and parity in every precision.
    """

    dtypes: tuple[str, ...] = ()
    seeds: int = 1
    drawn: int = 0
    whole: bool = False


#: ``ci`` uses one seed and takes about a second for each layer. ``nightly`` repeats each check in both precisions that
#: have a reference, from five seeds, and also draws configurations that no adapter lists.
PROFILES: Mapping[str, Profile] = {
    "ci": Profile(),
    "nightly": Profile(PLANNED, seeds=5, drawn=1, whole=True),
}


@dataclass(frozen=True)
class Settings:
    """Defaults of a project for its checks; a test or a command may override each of them.

    Args:
        profile: ci or nightly.
        dtype: working precisions; none means the profile's.
        device: torch device.
        seed: the first seed.
        strict: IMPRECISE fails too.
        baseline: file to compare with, relative to the project; empty for no comparison.
        report: HTML file to write, relative to the project; empty for no report.

    Raises:
        UsageError: a setting has an unknown value.

    Example:
        >>> Settings().merged({"seed": 3, "dtype": "float64"}).dtype
        ('float64',)
    """

    profile: str = "ci"
    dtype: tuple[str, ...] = ()
    device: str = "cpu"
    seed: int = 0
    strict: bool = False
    baseline: str = ""
    report: str = ""

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise UsageError(f"Unknown profile {self.profile!r}. Known: {', '.join(PROFILES)}.")
        require_dtypes(self.dtype)

    def merged(self, values: Mapping[str, Any], where: str = "[tool.equiharness]") -> Self:
        """These settings with some values replaced.

        Args:
            values: new values by name. None keeps the present value. dtype may be a list or a comma-separated string.
            where: the source of the values, for error messages.
        """
        known = {f.name for f in fields(self)}
        changes = {}
        for name, value in values.items():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(sorted(known))}."
                raise UsageError(f"{where} has no setting {name!r}. {hint}")
            if value is not None:
                changes[name] = _converted(name, value, where)
        return replace(self, **changes)

    @property
    def precisions(self) -> tuple[str | None, ...]:
        """Working precisions of the checks; None stands for the layer's own precision."""
        return self.dtype or PROFILES[self.profile].dtypes or (None,)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the checks."""
        return tuple(range(self.seed, self.seed + PROFILES[self.profile].seeds))

    @property
    def whole(self) -> bool:
        """Whether every element of a finite group is checked, and gradients and parity in every precision."""
        return PROFILES[self.profile].whole

    @property
    def drawn(self) -> int:
        """Configurations to draw for each seed and implementation."""
        return PROFILES[self.profile].drawn


def _converted(name: str, value: Any, where: str) -> Any:
    if name == "dtype":
        names = value.split(",") if isinstance(value, str) else value
        return tuple(str(v).strip() for v in names)
    try:
        if name == "seed":
            return int(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: seed is a whole number, not {value!r}.") from error
    if name == "strict":
        if str(value).lower() not in ("true", "false", "1", "0"):
            raise UsageError(f"{where}: strict is true or false, not {value!r}.")
        return str(value).lower() in ("true", "1")
    return str(value)


def read_settings(folder: Path) -> Settings:
    """Settings of the project in a folder: ``[tool.equiharness]`` of its pyproject.toml, or the defaults.

    Raises:
        UsageError: the file is not valid TOML, or has an unknown setting.
    """
    path = folder / "pyproject.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"Cannot read {path}: {error}.") from error
    return Settings().merged(table.get("tool", {}).get("equiharness", {}), f"[tool.equiharness] in {path.name}")
