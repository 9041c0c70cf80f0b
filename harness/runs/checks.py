"""Planning and making of checks: implementation x case x property x device x dtype.

A check is plain data. The worker process rebuilds the claim, so tensors and modules are never sent to another process.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..adapters import registry
from ..adapters.adapter import Case, Feature, Implementation, lacking
from ..adapters.making import make_check, named, unmeasured
from ..claim.outcome import Outcome
from ..errors import UsageError, unknown
from ..precisions import PLANNED
from ..records.tally import Tally
from ..verdict.codes import Code, Verdict
from ..verdict.result import CheckResult, Reason
from .plan import Check, Plan, Suite

if TYPE_CHECKING:
    from ..claim.claim import Claim

#: Codes of reasons for which no layer could have failed in the configuration.
PROVE_NOTHING = (Code.VACUOUS, Code.CONTROL)


def plan(
    names: Sequence[str],
    properties: Sequence[str],
    *,
    suite: Suite,
    once: Collection[str] = (),
    seedless: Collection[str] = (),
    needs: Mapping[str, Feature] = MappingProxyType({}),
    named_properties: Collection[str] = (),
    together: Collection[str] = (),
    dtypes: Sequence[str] = PLANNED,
    cases: str = "*",
    device: str = "cpu",
    seeds: Sequence[int] = (0,),
    drawn: int = 0,
    threads: int = 0,
    whole: bool = False,
) -> Plan:
    """Every check that can apply to the chosen implementations; listed cases of an adapter come before drawn ones.

    An implementation whose library is missing has one check, which states the install command.

    Args:
        names: names or glob patterns; none means all.
        properties: names of properties.
        suite: "module:function" that checks one property of one claim.
        once: properties to plan in the first dtype only.
        seedless: properties to plan, for each case, with the first seed only that has this case.
        needs: the feature of a claim that a property needs; it is not planned for cases that lack the feature.
        named_properties: properties that the user asked for by name. If one of them applies to no case, it is planned
            for the first case: the result states why it does not apply.
        together: properties whose checks one worker makes, because each starts a compiler in its process.
        dtypes: working precisions.
        cases: glob pattern on case names, or the whole name of any configuration that an adapter can build.
        device: torch device.
        seeds: seeds of weights, inputs and elements; each seed has its own checks.
        drawn: number of unlisted configurations to draw from ``Implementation.strategy``, for each seed and adapter.
        threads: torch threads of the worker process; 0 keeps torch's own number.
        whole: check every element of a finite group.

    Raises:
        UsageError: a name matches no implementation.
    """

    def wanted_properties(dtype: str, lacks: Collection[Feature], *, again: bool) -> tuple[str, ...]:
        skipped = {*(once if dtype != dtypes[0] else ()), *(seedless if again else ())}
        return tuple(name for name in properties if name not in skipped and needs.get(name) not in lacks)

    def claims(adapter: Implementation) -> Iterator[tuple[Check, tuple[str, ...]]]:
        known: set[str] = set()
        for seed, chosen, more in _configurations(adapter, cases, seeds, drawn):
            for case in (*chosen, *more):
                lacks = lacking(adapter, case)
                for dtype in dtypes:
                    chosen_properties = wanted_properties(dtype, lacks, again=case.name in known)
                    check = Check(
                        adapter.name, case, "", dtype, device, seed, threads, suite, drawn=case in more, whole=whole
                    )
                    yield check, chosen_properties
            known.update(case.name for case in (*chosen, *more))

    def every_claim() -> Iterator[tuple[Check, tuple[str, ...]]]:
        first: Check | None = None
        applied: set[str] = set()
        for adapter in list(matching(names)):
            made = claims(adapter)
            if adapter.version is None:
                made = ((check, tuple(properties[:1])) for check, _ in itertools.islice(made, 1))
            for check, chosen_properties in made:
                first = first or check
                applied.update(chosen_properties)
                yield check, chosen_properties
        absent = tuple(name for name in properties if name in named_properties and name not in applied)
        if first is not None and absent:
            yield first, absent

    return Plan(every_claim(), together)


def _configurations(
    adapter: Implementation, pattern: str, seeds: Sequence[int], drawn: int
) -> Iterator[tuple[int, list[Case], list[Case]]]:
    """For each seed, the listed cases that match the pattern, and the drawn cases that match and are not listed."""
    from ..search.strategies import draw

    listed = list(adapter.cases())
    chosen = [case for case in listed if _matches(case.name, pattern)]
    named = Case.read(pattern)
    if not chosen and named is not None and any(set(named.parameters) == set(case.parameters) for case in listed):
        chosen = [named]
    for seed in seeds:
        more = draw(adapter, drawn, seed) if drawn and adapter.version else []
        yield seed, chosen, [case for case in more if case not in listed and _matches(case.name, pattern)]


def check_declarations(names: Sequence[str], properties: Sequence[str], dtypes: Sequence[str] = PLANNED) -> None:
    """Refuse a declared deviation that covers none of its adapter's checks, because of a typo or a removed case.

    Args:
        names: names or glob patterns of implementations; none means all.
        properties: all properties, not only those of the run.
        dtypes: all working precisions.

    Raises:
        UsageError: a declaration covers no check, or a name matches no implementation.
    """
    for adapter in matching(names):
        cases = list(adapter.cases())
        for known in adapter.expected:
            checks = itertools.product(properties, cases, dtypes)
            # A plan on another machine may have other devices, so every device counts.
            wanted = known.when.get("device") if isinstance(known.when, Mapping) else None
            device = wanted[0] if isinstance(wanted, tuple) else wanted
            if not any(known.covers(p, c, dtype=d, device=device) for p, c, d in checks):
                raise UsageError(
                    f"{adapter.name} declares {known.verdict} for {known.property} when {known.when}, which covers "
                    "none of its checks. Correct or remove that entry of its `expected`."
                )


def matching(names: Sequence[str]) -> Iterator[Implementation]:
    """The registered implementations that match names or glob patterns; none means all.

    Raises:
        UsageError: a name matches no implementation.
    """
    everything = registry.implementations()
    for name in names:
        if not any(_matches(i.name, name) for i in everything):
            raise UsageError(unknown("implementation", name, [i.name for i in everything]))
    yield from (i for i in everything if not names or any(_matches(i.name, n) for n in names))


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def run_check(check: Check) -> Outcome:
    """Rebuild the claim and check one property. An exception becomes the verdict CRASHED or SKIPPED."""

    def build() -> Claim:
        _set_threads(check.threads)
        return _claim(
            check.implementation, _ByName(check.case), check.device, check.dtype, check.seed, check.whole, check.joint
        )

    outcome = make_check(check.property, check.suite, build, dtype=check.dtype, device=check.device)
    picture = outcome.picture
    if picture is not None:
        picture = picture.model_copy(update={"id": check.id})
    result = _drawn_result(outcome.result) if check.drawn else outcome.result
    return Outcome(_identified(check, result, attached=picture is not None), picture)


def _drawn_result(result: CheckResult) -> CheckResult:
    """SKIPPED where a drawn configuration proves nothing about the layer, such as an image of one pixel."""
    if result.reason.code not in PROVE_NOTHING:
        return result
    text = f"this configuration was drawn at random and proves nothing: {result.reason.message}"
    reason = Reason(code=result.reason.code, message=text)
    return result.model_copy(update={"verdict": Verdict.SKIPPED, "reason": reason})


def lost(check: Check, verdict: Verdict, code: Code, message: str) -> Outcome:
    """The outcome of a check whose process is gone: CRASHED or TIMED_OUT, without numbers."""
    outcome = unmeasured(check.property, verdict, code, message, dtype=check.dtype, device=check.device)
    return Outcome(_identified(check, outcome.result, attached=False))


def _identified(check: Check, result: CheckResult, *, attached: bool) -> CheckResult:
    """The result with the fields that identify its check, and the deviation that its adapter declares."""
    more: dict[str, Any] = {"reproduce": check.command, "attachment": check.id if attached else ""}
    try:
        result = named(result, registry.find(check.implementation), check.case, check.seed)
    except UsageError:  # there is no such adapter; the result's message states it
        more |= {"implementation": check.implementation, "case": check.case.name, "seed": check.seed}
    return result.model_copy(update=more)


@dataclass(frozen=True, eq=False)
class _ByName:
    """A case as a cache key. Within an implementation the name identifies the case."""

    case: Case

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByName) and self.case.name == other.case.name

    def __hash__(self) -> int:
        return hash(self.case.name)


@functools.lru_cache(maxsize=1)
def _claim(
    implementation: str, case: _ByName, device: str, dtype: str, seed: int, whole: bool = False, joint: bool = False
) -> Claim:
    """The claim of a check. The last claim is cached: checks of one claim are successive, and building is slow."""
    adapter = registry.find(implementation)
    adapter.require()
    claim = adapter.build(case.case, device=device, dtype=dtype, seed=seed)
    if not hasattr(claim, "whole_group"):  # another suite's claims are none of ours
        return claim
    return replace(claim, whole_group=whole, every_property=joint, modules=claim.modules)


def _set_threads(threads: int) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def exit_code(results: Iterable[CheckResult], *, strict: bool = False) -> int:
    """0 all hold or deviate as declared; 1 a claim fails or a declared deviation is gone; 3 nothing was checked."""
    tally = Tally()
    for result in results:
        tally.add(result)
    return tally.exit_code(strict=strict)
