"""``check``: every property that applies to one layer, and the worst result."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..harness.claim.claim import Approximate, Claim, Contract
from ..harness.claim.evaluation import mode
from ..harness.claim.outcome import Outcome, describe
from ..harness.errors import HarnessError, UsageError, unknown
from ..harness.fields.atoms import Energy, Forces
from ..harness.fields.domains import Grid, Vector
from ..harness.fields.field import Field
from ..harness.trees import Tree, leaves
from ..harness.verdict.result import CheckResult, Code, Reason, Verdict, worst
from .attribution import attribute
from .ceilings import within_ceiling
from .claims import claim_of
from .discretised import named_as_discretised
from .forward.aliasing import may_alias
from .points.motions import has_reflections, is_system
from .properties import find

#: Properties that ``check`` asks beside the claim itself, and with which options.
BESIDE = ("gradcheck", "batch")
#: The verdict that adjoint shares with them: a gradient of zero, as that of a sign, says nothing against the claim.
UNDECIDED = (Verdict.VACUOUS,)
OPTIONS: dict[str, dict[str, Any]] = {"gradcheck": {"orders": 1}}
#: Where this package lies, and where installed libraries do: their frames say nothing about a user's layer.
PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
LIBRARIES = tuple(
    {os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
#: Both modes of a network.
MODES = ("train", "eval")


def run_property(name: str, claim: Claim, **options: Any) -> Outcome:
    """Check one property of one claim; the verdict is CRASHED if the layer raises an error.

    Args:
        name: name of the property.
        claim: the claim.
        options: options of the property's function.

    Raises:
        UsageError: the property is unknown, or the claim's fields do not fit its tensors.
    """
    checked = find(name)
    try:
        outcome = checked(claim, **options)
        result = within_ceiling(claim, outcome.result)
        result = named_as_discretised(claim, result, checked)
        return replace(outcome, result=attribute(claim, result, checked))
    except (UsageError, HarnessError):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}{_where(error)}."
        misnamed = claim.misnamed()
        if misnamed:
            message += f" {misnamed}"
        if "shape" in str(error) or "size" in str(error):
            message += " If the shapes do not match, change the source field to the layer's."
        result = describe(claim, name, Verdict.CRASHED, Reason(code=Code.CRASHED, message=message))
        return Outcome(result, error=error)


def _where(error: BaseException) -> str:
    """The innermost places of an error in code that is neither ours nor a library's, for the reason of a crash."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        f
        for f in frames
        if not f.filename.startswith((PACKAGE, *LIBRARIES, "<")) and f"{os.sep}site-packages{os.sep}" not in f.filename
    ]
    places = [f"{f.name} ({os.path.basename(f.filename)}, line {f.lineno})" for f in reversed(ours[-2:])]
    return f"; in {', called by '.join(places)}" if places else ""


def check(
    layer: Any,
    group: Any = None,
    source: Tree = None,
    target: Tree = None,
    *,
    dtype: torch.dtype | str | None = None,
    seed: int = 0,
    device: str = "cpu",
    contract: Contract | None = None,
    inputs: Tree = None,
    act_in: Callable[..., torch.Tensor] | None = None,
    act_out: Callable[..., torch.Tensor] | None = None,
    call_seed: int | None = None,
    samples: int | None = None,
    batched: bool = True,
    modes: Sequence[str] = (),
    properties: Sequence[str] = (),
) -> CheckResult:
    """Is the layer equivariant? Check homomorphism, equivariance, adjoint, gradcheck, batch, and what else applies.

    gradcheck compares first derivatives with finite differences. batch compares a sample alone, and the batch in
    another order, with the batch. Both fail only if they find a fault: where they cannot decide, they are
    SKIPPED(UNDECIDED). Off-grid elements, aliases, integrals and parity with other implementations are checked if
    they apply.

    If the source holds ``Positions``, the claim is about a system of points: rotations, reflections, translations
    and permutations are separate properties, and so are the forces and the cutoff that the target declares.

    Args:
        layer: a module or any callable on tensors.
        group: a group or its name. Group, source and target are optional for layers that declare their types (escnn).
        source: field, or tree of fields (dict: keywords; tuple: positional arguments), of the input.
        target: field or tree of fields of the output.
        dtype: working precision; by default that of the layer's parameters, else float32.
        seed: seed of the inputs, and of elements drawn from continuous groups.
        device: device of the layer and of the inputs.
        contract: how to judge elements off the grid: ``Approximate()`` (default), or ``Exact()`` to leave them out.
        inputs: a batch of at least 4 samples, a tree of tensors like the source; by default white noise.
        act_in: a function (element, tensor) -> tensor in place of a source field; needs ``inputs``.
        act_out: the same for the target.
        samples: number of input samples, at least four; by default four, or all of ``inputs``.
        call_seed: seed that is set before every call of a stochastic layer.
        batched: False for models of one sample without a batch axis; the check then adds the batch axis.
        modes: ("train", "eval") checks the module in both modes; by default the module keeps its mode.
        properties: names of the properties to check; by default those that apply to the claim.

    Returns:
        The worst part's result, with all parts in ``parts``; print it to read it. It is true in an ``if`` or ``assert``
        if the check passed. If the layer raised an error, ``exception`` and ``traceback`` hold it.

    Raises:
        UsageError: fields, group and tensors do not fit together.

    Example:
        >>> import torch
        >>> field = Field(Grid(9, 9), "C4", "2*trivial")
        >>> check(torch.nn.ReLU(), "C4", field, field).verdict
        <Verdict.EXACT: 'EXACT'>
    """
    claim = claim_of(
        layer,
        group,
        source,
        target,
        dtype=dtype,
        seed=seed,
        device=device,
        contract=contract,
        inputs=inputs,
        act_in=act_in,
        act_out=act_out,
        call_seed=call_seed,
        samples=samples,
        batched=batched,
    )
    return examine(claim, modes, properties).result


def examine(claim: Claim, modes: Sequence[str] = (), properties: Sequence[str] = ()) -> Outcome:
    """Check the properties of one claim; the worst part decides. With several modes, each part names its mode.

    Args:
        claim: the claim.
        modes: "train", "eval"; none means the mode in which the module is.
        properties: names of properties; none means those that apply, and of these BESIDE fail only with a fault.

    Raises:
        UsageError: a mode or a property is unknown, or a mode is asked of a function without modules.
    """
    for name in properties:
        find(name)
    if not modes:
        outcomes = _asked(claim, properties)
        return _composed(outcomes)
    outcomes = []
    for name in modes:
        if name not in MODES:
            raise UsageError(unknown("mode", name, MODES))
        if not claim.modules:
            raise UsageError("modes= needs a module, and this layer is a function without modules: leave modes= out.")
        with mode(claim, training=name == "train"):
            for outcome in _asked(claim, properties):
                named = outcome.result.model_copy(update={"property": f"{outcome.result.property} in {name}()"})
                outcomes.append(replace(outcome, result=named))
    return _composed(outcomes)


def _asked(claim: Claim, properties: Sequence[str]) -> list[Outcome]:
    """The outcomes of the properties that are named, or of those that ``check`` asks by itself."""
    if properties:
        return [run_property(name, claim, **OPTIONS.get(name, {})) for name in properties]
    return [ask(name, claim) for name in applicable(claim)]


def ask(name: str, claim: Claim) -> Outcome:
    """The outcome of a property that ``check`` asks by itself."""
    return _as_addition(run_property(name, claim, **OPTIONS.get(name, {})))


def _as_addition(outcome: Outcome) -> Outcome:
    """A property beside the claim: where it proves nothing about the layer, it says so and fails nothing.

    A sign has no slope, and a stiff potential none that differences could find; the claim may hold all the same.
    """
    result = outcome.result
    excused = (*UNDECIDED, Verdict.AMBIGUOUS) if result.property in BESIDE else UNDECIDED
    if result.property not in (*BESIDE, "adjoint") or result.verdict not in excused:
        return outcome
    text = f"{result.property} could not tell: {result.reason.message}"
    reason = Reason(code=Code.UNDECIDED, message=text)
    return replace(outcome, result=result.model_copy(update={"verdict": Verdict.SKIPPED, "reason": reason}), error=None)


def check_claim(claim: Claim) -> CheckResult:
    """Return the result of ``examine``."""
    return examine(claim).result


def _composed(outcomes: Sequence[Outcome]) -> Outcome:
    parts = [outcome.result.with_exception(outcome.error) for outcome in outcomes]
    decisive = worst(parts)
    chosen = next(outcome for outcome, part in zip(outcomes, parts, strict=True) if part is decisive)
    seconds = {"seconds": sum(p.seconds for p in parts), "seconds_in_layer": sum(p.seconds_in_layer for p in parts)}
    result = decisive.model_copy(update={**seconds, "parts": tuple(parts)})
    return Outcome(result.with_exception(chosen.error), chosen.picture, chosen.error)


def applicable(claim: Claim) -> list[str]:
    """The names of the properties that apply to a claim, in the order in which they are checked."""
    names = ["homomorphism", "equivariance", "adjoint", *BESIDE]
    if is_system(claim):
        names = ["homomorphism", "rotations", *(["reflections"] if has_reflections(claim.group) else [])]
        names += ["translations", "permutations", *_declared(claim), "adjoint", *BESIDE]
    if claim.refined is not None:
        return ["homomorphism", "off_grid"]
    if isinstance(claim.contract, Approximate) and any(
        isinstance(leaf, Field) and isinstance(leaf.domain, Grid) for _, leaf in leaves(claim.source)
    ):
        on_grid = claim.group.order is not None and all(g.is_signed_permutation for g in claim.group)
        names += [] if on_grid else ["off_grid"]
    names += ["aliasing"] if may_alias(claim) else []
    targets = [leaf for _, leaf in leaves(claim.target)]
    if all(isinstance(leaf, Field) and isinstance(leaf.domain, Vector) and leaf.is_integral for leaf in targets):
        names += ["integration"]
    names += ["parity"] if claim.twins else []
    return names


def _declared(claim: Claim) -> list[str]:
    """The properties that the target's leaves declare in addition to equivariance."""
    targets = [leaf for _, leaf in leaves(claim.target)]
    forces = any(isinstance(leaf, Forces) for leaf in targets)
    cutoff = any(isinstance(leaf, Energy) and leaf.cutoff for leaf in targets)
    return [*(["forces"] if forces else []), *(["smoothness"] if cutoff else [])]
