"""How reliable the checks are: planted faults and how many were caught, and false alarms on sound layers.

The counts come from the project's own fault zoo; tests/meta/prove.py makes them. The file ships with this module.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

COMMITTED = Path(__file__).parent / "proof.json"


@dataclass(frozen=True)
class Proof:
    """The counts of one run over the whole zoo.

    Args:
        planted: number of faults made by hand.
        caught: number of those for which the named property gives the required verdict in every precision.
        by_property: planted faults of each property.
        generated: number of mutations of one tap, one entry of a Cayley table or one sign.
        generated_caught: number of those that are caught at full size.
        smallest: kind of mutation -> smallest caught magnitude, of the best and of the worst mutation.
        sound: number of checks of sound layers.
        layers: number of sound layers.
        false_alarms: number of checks of sound layers that did not pass.
        versions: versions of the libraries in that run.
    """

    planted: int
    caught: int
    by_property: dict[str, int]
    generated: int
    generated_caught: int
    smallest: dict[str, tuple[str, str]]
    sound: int
    layers: int
    false_alarms: int
    versions: dict[str, str]

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """The proof stored in a file."""
        faults, generated, sound = data["faults"], data["generated"], data["sound"]
        return cls(
            planted=faults["planted"],
            caught=faults["caught"],
            by_property=faults["by_property"],
            generated=generated["planted"],
            generated_caught=generated["caught"],
            smallest={kind: (best, worst) for kind, (best, worst) in generated["smallest"].items()},
            sound=sound["checks"],
            layers=sound["layers"],
            false_alarms=sound["false_alarms"],
            versions=data["versions"],
        )

    @property
    def holds(self) -> bool:
        """Whether every fault was caught and no alarm was false."""
        return (self.caught, self.generated_caught, self.false_alarms) == (self.planted, self.generated, 0)

    @property
    def sentences(self) -> list[str]:
        """The counts as sentences."""
        finest = ", ".join(f"one {kind} from {best} to {worst}" for kind, (best, worst) in self.smallest.items())
        return [
            f"{self.caught} of {self.planted} faults made by hand were caught, each by a named property.",
            f"{self.generated_caught} of {self.generated} generated faults were caught; the smallest magnitude that is "
            f"still caught, by decade: {finest}.",
            f"{self.false_alarms} false alarms in {self.sound} checks of {self.layers} sound layers.",
        ]


def committed_proof(path: Path = COMMITTED) -> Proof | None:
    """The proof that ships with the project; None if there is none."""
    return Proof.of(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
