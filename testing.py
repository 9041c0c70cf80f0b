"""Assertions for tests of equivariant layers, and a decorator that makes one test of each property.

The pytest plugin adds the fixture ``equivariance``, which applies the session's options and records every result.
``assert_equivariant`` of this module makes the same check without pytest.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .harness.config import Settings
from .harness.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from .harness.claim.claim import Claim
    from .harness.claim.outcome import Outcome
    from .harness.verdict.result import CheckResult


@dataclass(frozen=True)
class Recorded:
    """The recorded result of one check: the result, notes to print below it, and why it is worse than the baseline."""

    result: CheckResult
    notes: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()

    def require(self, *, strict: bool) -> CheckResult:
        """Return the result if it passes and is no worse than the baseline.

        Raises:
            AssertionError: the result fails, or is worse than the baseline.
        """
        __tracebackhide__ = True
        text = "\n".join([str(self.result), *self.notes, *(f"  worse    {line}" for line in self.worse)])
        if self.worse:
            raise AssertionError(text)
        return require(self.result, strict=strict, text=text)


#: A recorder receives the outcomes of one check, over precisions and seeds, and stores them.
Recorder = Callable[[Sequence["Outcome"]], Recorded]


def keep_nothing(outcomes: Sequence[Outcome]) -> Recorded:
    """The recorder outside pytest: return the worst result and store nothing."""
    from .harness.verdict.result import worst

    return Recorded(worst(outcome.result for outcome in outcomes))


class ImpreciseWarning(UserWarning):
    """A layer is equivariant, but computes less precisely than its dtype allows."""


def assert_equivariant(
    layer: Any, group: Any = None, source: Any = None, target: Any = None, *, strict: bool = False, **options: Any
) -> CheckResult:
    """Check a layer and raise unless its claim holds.

    Args:
        layer: a module or callable.
        group: a group or its name.
        source: field or tree of fields of the input.
        target: field or tree of fields of the output.
        strict: IMPRECISE fails instead of warning.
        options: options of ``check``.

    Returns:
        The passing result.

    Raises:
        AssertionError: the verdict is BROKEN, VACUOUS, AMBIGUOUS or CRASHED. The message holds error, bound, element,
            seed and a line of code that repeats the check.

    Example:
        >>> import torch, equiharness as eh
        >>> field = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
        >>> assert_equivariant(torch.nn.ReLU(), "C4", field, field).verdict.label
        'PASS'
    """
    __tracebackhide__ = True
    from .suites.check import check

    return require(check(layer, group, source, target, **options), strict=strict)


def assert_invariant(
    layer: Any, group: Any = None, source: Any = None, *, strict: bool = False, **options: Any
) -> CheckResult:
    """Check that no element changes a layer's output, and raise if one does.

    Args:
        layer: a module or callable that returns one tensor, [batch, ...].
        group: a group or its name.
        source: field or tree of fields of the input.
        strict: IMPRECISE fails instead of warning.
        options: options of ``check``.

    Returns:
        The passing result.

    Raises:
        AssertionError: as for ``assert_equivariant``.

    Example:
        >>> import torch, equiharness as eh
        >>> field = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
        >>> assert_invariant(lambda x: x.mean((2, 3)), "C4", field).verdict.label
        'PASS'
    """
    __tracebackhide__ = True
    from .harness.fields.field import Invariant

    return assert_equivariant(layer, group, source, Invariant(), strict=strict, **options)


def require(result: CheckResult, *, strict: bool = False, text: str = "") -> CheckResult:
    """Return the result if it passes, and warn if it is IMPRECISE.

    Args:
        result: result of a check.
        strict: IMPRECISE fails instead of warning.
        text: the message; by default the printed result.

    Raises:
        AssertionError: the result fails.
    """
    __tracebackhide__ = True
    if result.fails or (strict and result.label == "WARN"):
        raise AssertionError(text or str(result)) from result.exception
    if result.label == "WARN":
        warnings.warn(text or str(result), ImpreciseWarning, stacklevel=3)
    return result


@dataclass(frozen=True)
class Checker:
    """The value of the fixture ``equivariance``: it makes checks with the session's settings and records each result.

    Args:
        settings: precisions, seeds, device and strictness for calls that do not give their own.
        record: the recorder of the results.
    """

    settings: Settings = field(default_factory=Settings)
    record: Recorder = keep_nothing

    def __repr__(self) -> str:
        return f"<equivariance checks: profile {self.settings.profile}, seed {self.settings.seed}>"

    def check(
        self, layer: Any, group: Any = None, source: Any = None, target: Any = None, **options: Any
    ) -> CheckResult:
        """Return the worst result over the session's precisions and seeds; raise nothing.

        Args:
            layer: a module, a callable, or a ``Claim``.
            group: a group or its name.
            source: field or tree of fields of the input.
            target: field or tree of fields of the output.
            options: options of ``equiharness.check``; they take precedence over the session's options.
        """
        return self._recorded(layer, group, source, target, options).result

    def assert_equivariant(
        self,
        layer: Any,
        group: Any = None,
        source: Any = None,
        target: Any = None,
        *,
        strict: bool | None = None,
        **options: Any,
    ) -> CheckResult:
        """Run ``check`` and raise unless the claim holds; ``strict`` as in ``equiharness.assert_equivariant``."""
        __tracebackhide__ = True
        recorded = self._recorded(layer, group, source, target, options)
        return recorded.require(strict=self.settings.strict if strict is None else strict)

    def assert_invariant(
        self, layer: Any, group: Any = None, source: Any = None, *, strict: bool | None = None, **options: Any
    ) -> CheckResult:
        """Check that no element changes the output, and raise if one does."""
        __tracebackhide__ = True
        from .harness.fields.field import Invariant

        return self.assert_equivariant(layer, group, source, Invariant(), strict=strict, **options)

    def _recorded(self, layer: Any, group: Any, source: Any, target: Any, options: dict[str, Any]) -> Recorded:
        from .suites.check import examine
        from .suites.claims import claim_of

        modes, properties = options.pop("modes", ()), options.pop("properties", ())
        claims = (claim_of(layer, group, source, target, **options, **chosen) for chosen in self._choices(options))
        whole = self.settings.whole
        claims = (replace(claim, whole_group=whole, modules=claim.modules) for claim in claims)
        return self.record([examine(claim, modes, properties) for claim in claims])

    def _choices(self, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Precision, seed and device of each check; a value that the call gives is left out."""
        open_dtype, open_seed = "dtype" not in options, "seed" not in options
        for dtype in self.settings.precisions if open_dtype else [None]:
            for seed in self.settings.seeds if open_seed else [None]:
                chosen = {"dtype": dtype, "seed": seed, "device": self.settings.device}
                yield {k: v for k, v in chosen.items() if k not in options and v is not None}


@dataclass(frozen=True)
class PropertyCheck:
    """A callable that tests one property of one claim. The plugin supplies the session's settings and recorder."""

    name: str
    run: Callable[[Settings], Iterable[Outcome]]
    settings: Settings = field(default_factory=Settings)
    record: Recorder = keep_nothing

    def __call__(self) -> CheckResult:
        """Run the check: skip the test if the property does not apply, raise AssertionError if the check fails."""
        __tracebackhide__ = True
        import pytest

        from .harness.verdict.result import Verdict

        recorded = self.record(list(self.run(self.settings)))
        if recorded.result.verdict is Verdict.SKIPPED:
            pytest.skip(str(recorded.result.reason))
        return recorded.require(strict=self.settings.strict)

    def bound(self, settings: Settings, record: Recorder) -> PropertyCheck:
        """The same check with the settings and the recorder of a session."""
        return replace(self, settings=settings, record=record)


def parametrize_with_checks(
    subjects: Iterable[Any],
    *,
    argument: str = "check",
    properties: Sequence[str] = (),
    samples: int | None = None,
    **options: Any,
) -> Any:
    """Decorator that repeats a test for each property of each subject; the test calls its argument.

    Args:
        subjects: claims; modules that declare their types; tuples (layer, group, source, target); implementations, or
            names and glob patterns of registered implementations.
        argument: name of the test's argument.
        properties: names of the properties to test; by default those that apply to the subject.
        samples: number of input samples, at least four.
        options: further options of ``equiharness.check``, for subjects that are layers.

    Raises:
        UsageError: a subject is none of these, no implementation has its name, or an option is unknown.

    Example:
        >>> import equiharness as eh, torch
        >>> field = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
        >>> mark = parametrize_with_checks([(torch.nn.ReLU(), "C4", field, field)])
        >>> [param.id for param in mark.args[1]]
        ['ReLU-homomorphism', 'ReLU-equivariance', 'ReLU-adjoint', 'ReLU-gradcheck', 'ReLU-batch']
    """
    import pytest

    from .suites.properties import find

    for name in properties:
        find(name)
    given = {**options, **({"samples": samples} if samples is not None else {})}
    checks = [check for subject in subjects for check in _expanded(subject, tuple(properties), given)]
    seen: dict[str, int] = {}
    params = []
    for check in checks:
        seen[check.name] = seen.get(check.name, 0) + 1
        name = check.name if seen[check.name] == 1 else f"{check.name}-{seen[check.name]}"
        params.append(pytest.param(check, id=name))
    return pytest.mark.parametrize(argument, params)


def _expanded(subject: Any, properties: tuple[str, ...], options: dict[str, Any]) -> Iterator[PropertyCheck]:
    from .harness.adapters.adapter import Implementation

    if isinstance(subject, str):
        yield from _of_registered(subject, properties, options)
    elif isinstance(subject, Implementation) or (isinstance(subject, type) and issubclass(subject, Implementation)):
        yield from _of_implementation(subject() if isinstance(subject, type) else subject, properties, options)
    else:
        arguments = subject if isinstance(subject, tuple) else (subject,)
        yield from _of_layer(arguments, properties, options)


def _of_registered(
    pattern: str, properties: tuple[str, ...] = (), options: dict[str, Any] | None = None
) -> Iterator[PropertyCheck]:
    from .harness.runs.checks import matching

    for implementation in matching([pattern]):
        yield from _of_implementation(implementation, properties, options or {})


def _of_implementation(
    implementation: Any, properties: tuple[str, ...], options: dict[str, Any]
) -> Iterator[PropertyCheck]:
    """One check for each case and property; a property that does not apply to a case is skipped."""
    from .suites.check import run_property
    from .suites.claims import claim_of
    from .suites.properties import PLANNED

    unfit = sorted(set(options) - {"samples"})
    if unfit:
        raise UsageError(f"{unfit[0]}= is an option for layers: the claim of {implementation.name} is its adapter's.")
    for case in implementation.cases():
        for name in properties or PLANNED:

            def build(dtype: str | None, seed: int, device: str, case: Any = case) -> Claim:
                implementation.require()
                claim: Claim = implementation.build(case, device=device, dtype=dtype or "float32", seed=seed)
                return claim_of(claim, **options)

            def named(result: CheckResult, name: str = name, case: Any = case) -> CheckResult:
                declared = implementation.declared(name, case, dtype=result.dtype, device=result.device)
                who = {"implementation": implementation.name, "case": case.name}
                return result.model_copy(update={**who, **declared})

            def made(claim: Claim, name: str = name) -> Outcome:
                return run_property(name, claim)

            yield PropertyCheck(f"{implementation.name}-{case.name}-{name}", _runner(made, build, named))


def _of_layer(
    arguments: Sequence[Any], properties: tuple[str, ...], options: dict[str, Any]
) -> Iterator[PropertyCheck]:
    """One check for each property that ``check`` asks of the layer, with the verdict that ``check`` gives it."""
    from .harness.claim.claim import Claim
    from .suites.check import applicable, ask, examine
    from .suites.claims import claim_of

    layer = arguments[0]
    if not callable(layer) and not isinstance(layer, Claim):
        raise UsageError(
            f"{layer!r} cannot be checked. Give a claim, a module that declares its types, an implementation or its "
            "name, or a tuple (layer, group, source, target)."
        )

    def build(dtype: str | None, seed: int, device: str) -> Claim:
        return claim_of(*arguments, **{"dtype": dtype, "seed": seed, "device": device, **options})

    name = getattr(layer, "name", "") or getattr(layer, "__name__", "") or type(layer).__name__
    for part in properties or applicable(claim_of(*arguments, **options)):

        def made(claim: Claim, part: str = part) -> Outcome:
            if not properties:
                return ask(part, claim)
            outcome = examine(claim, properties=(part,))
            return replace(outcome, result=outcome.result.model_copy(update={"parts": ()}))

        yield PropertyCheck(f"{name}-{part}", _runner(made, build, lambda result: result))


def _runner(
    made: Callable[[Claim], Outcome],
    build: Callable[[str | None, int, str], Claim],
    named: Callable[[CheckResult], CheckResult],
) -> Callable[[Settings], Iterator[Outcome]]:
    def run(settings: Settings) -> Iterator[Outcome]:
        import pytest

        for dtype in settings.precisions:
            for seed in settings.seeds:
                try:
                    outcome = made(build(dtype, seed, settings.device))
                except MissingDependencyError as error:
                    pytest.skip(str(error))
                yield replace(outcome, result=named(outcome.result).with_exception(outcome.error))

    return run
