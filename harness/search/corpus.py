"""The corpus: the failures found by searches, one small JSON file each. Commit them; later searches try them first."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RecordError, UsageError
from ..records.writing import write_atomically
from ..verdict.result import CheckResult
from .trial import Trial

SCHEMA = 1


@dataclass(frozen=True)
class Found:
    """A failure: the smallest trial that the search found for it, and the verdict and reason of that trial.

    Args:
        trial: the trial, which repeats the check.
        plain: parameters of the simplest trial of the same search. Parameters that differ from these are to blame.
        verdict: verdict of the check.
        code: code of its reason.
        message: message of its reason.
        library: name and version of the searched library.
    """

    trial: Trial
    plain: dict[str, Any]
    verdict: str
    code: str
    message: str
    library: str = ""

    @classmethod
    def of(cls, trial: Trial, plain: Trial | None, result: CheckResult, library: str) -> Found:
        """The failure of a trial."""
        simple = dict(plain.parameters) if plain is not None else {}
        return cls(trial, simple, result.verdict, result.reason.code, result.reason.message, library)

    @property
    def blamed(self) -> dict[str, Any]:
        """Parameters that the failure needs: simpler values made it disappear."""
        return {k: v for k, v in self.trial.parameters.items() if k not in self.plain or self.plain[k] != v}

    def explains(self, trial: Trial, result: CheckResult) -> bool:
        """Whether another failure counts as this one: the same verdict and code, and the same blamed parameters.

        A larger number of the same parity counts as the same: a layer that fails at size 2 also fails at size 4.
        """
        same = (trial.property, result.verdict, result.reason.code) == (self.trial.property, self.verdict, self.code)
        found = trial.parameters
        return same and all(k in found and _like(v, found[k]) for k, v in self.blamed.items())

    @property
    def path(self) -> str:
        """File name: the implementation and a digest of the trial."""
        digest = hashlib.sha256(self.trial.text.encode()).hexdigest()[:10]
        return f"{re.sub('[^A-Za-z0-9.]+', '-', self.trial.implementation)}-{digest}.json"


def _like(known: Any, value: Any) -> bool:
    if known == value:
        return True
    numbers = type(known) is int and type(value) is int
    return numbers and value > known and value % 2 == known % 2


def save(folder: Path, found: Found) -> Path:
    """Write a failure to its file. Saving the same failure again changes nothing.

    Raises:
        RecordError: the folder cannot be written.
    """
    data = {
        "schema_version": SCHEMA,
        "trial": found.trial.data,
        "plain": found.plain,
        "verdict": found.verdict,
        "code": found.code,
        "message": found.message,
        "library": found.library,
    }
    path = folder / found.path
    write_atomically(path, json.dumps(data, indent=1) + "\n")
    return path


def load(folder: Path, implementation: str) -> list[Found]:
    """The failures of one implementation, sorted by file name; none if there is no folder.

    Raises:
        RecordError: a file is damaged; the message names the file.
    """
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("schema_version") != SCHEMA:
                raise UsageError("it has another schema version")
            made = Found(**{**data, "trial": Trial.read(json.dumps(data["trial"]))})
        except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
            raise RecordError(
                f"{path} holds no failure of a search ({error}). Restore the file, or remove it."
            ) from error
        if made.trial.implementation == implementation:
            found.append(made)
    return found
