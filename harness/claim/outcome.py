"""The return value of a property: a result and its picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..records.lines import Attachment
from ..trees import Tree, leaves
from ..verdict.result import CheckResult, Reason, Verdict

if TYPE_CHECKING:
    from .claim import Claim


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check: a result, its picture, and the error that the layer raised.

    Runs and searches keep no error: it stays in the process that made the check.
    """

    result: CheckResult
    picture: Attachment | None = None
    error: BaseException | None = None


def describe(claim: Claim, name: str, verdict: Verdict, reason: Reason) -> CheckResult:
    """A result of this claim without numbers."""
    return CheckResult(
        property=name,
        verdict=verdict,
        reason=reason,
        group=claim.group.name,
        source=_text(claim.source) + (f" ({claim.chosen})" if claim.chosen else ""),
        target=_text(claim.target),
        dtype=str(claim.dtype).removeprefix("torch."),
        device=claim.device,
        seed=claim.seed,
        reproduce=claim.reproduce,
    )


def _text(tree: Tree) -> str:
    return ", ".join(f"{path}: {leaf}" if path else str(leaf) for path, leaf in leaves(tree))
