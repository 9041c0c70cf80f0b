"""Shared hypothesis strategies for configurations, elements and trials, and the profiles of a search.

hypothesis is imported when a strategy is made, because listing and verifying do not need it. Every strategy shrinks:
configurations to the first and smallest values, elements towards the identity and small rotations.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..adapters.adapter import Case, Implementation, Value
from ..errors import MissingDependencyError, UsageError, unknown

if TYPE_CHECKING:
    from hypothesis import settings
    from hypothesis.strategies import DrawFn, SearchStrategy

    from ..symmetry.groups import Element, Group
    from .trial import DrawnElement, Trial

#: Profile -> number of trials of one search. ``ci`` makes the same trials on every commit. ``search`` repeats rounds of
#: this many trials, each with its own seed, until it is stopped.
PROFILES: Mapping[str, int] = {"ci": 20, "nightly": 1000, "search": 200}
#: Number of seeds of weights and inputs, so many that trials of a long search rarely share a seed.
SEEDS = 10_000

#: The return type of ``Implementation.strategy``.
Cases: TypeAlias = "SearchStrategy[Case]"
#: Values of one parameter, the simplest first; or a function of the parameters drawn before it.
Values = Sequence[Value] | Callable[[dict[str, Any]], Sequence[Value]]


def _hypothesis() -> Any:
    try:
        import hypothesis
    except ImportError as error:
        raise MissingDependencyError(
            "Searching needs hypothesis, which is not installed. Install it: pip install 'equiharness[search]'"
        ) from error
    return hypothesis


def profile(name: str) -> settings:
    """Hypothesis settings of one profile, without a deadline and without hypothesis' own database.

    Args:
        name: ci, nightly or search.

    Raises:
        UsageError: there is no such profile.

    Example:
        >>> profile("ci").derandomize
        True
    """
    if name not in PROFILES:
        raise UsageError(unknown("profile", name, PROFILES))
    hypothesis = _hypothesis()
    made: settings = hypothesis.settings(
        max_examples=PROFILES[name],
        derandomize=name == "ci",
        deadline=None,  # the first build of a layer can take seconds
        database=None,  # failures are kept in the corpus, as files to read and commit
        suppress_health_check=list(hypothesis.HealthCheck),
        # Without the "explain" phase, which tries hundreds of variations of the smallest failure.
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        print_blob=False,
    )
    return made


def cases(valid: Callable[[Case], bool] | None = None, /, **parameters: Values | Value) -> SearchStrategy[Case]:
    """Configurations: one value for each parameter, drawn in the given order.

    Args:
        valid: function that returns False for combinations that the layer does not accept.
        parameters: a sequence of values with the simplest first, one value, or a function of the parameters drawn
            before it that returns a sequence. An empty sequence rejects the configuration.

    Example:
        >>> made = cases(group=("C4", "D4"), kernel=(1, 3), padding=lambda drawn: range(drawn["kernel"]))
        >>> from hypothesis import find
        >>> find(made, lambda case: case["padding"] == 2).name
        'group=C4 kernel=3 padding=2'
    """
    composite: Callable[[Any], Any] = _hypothesis().strategies.composite
    st = _hypothesis().strategies

    def made(draw: DrawFn) -> Case:
        drawn: dict[str, Any] = {}
        for name, values in parameters.items():
            given = values(drawn) if callable(values) else values
            listed = [given] if given is None or isinstance(given, (str, int, float)) else list(given)
            if not listed:
                _hypothesis().reject()
            drawn[name] = draw(st.sampled_from(listed))
        case = Case.of(**drawn)
        if valid is not None and not valid(case):
            _hypothesis().reject()
        return case

    strategy: SearchStrategy[Case] = composite(made)()
    return strategy


def listed(fixed: Iterable[Case]) -> SearchStrategy[Case]:
    """One of a fixed list of configurations, for adapters without a strategy."""
    strategy: SearchStrategy[Case] = _hypothesis().strategies.sampled_from(list(fixed))
    return strategy


def configurations(adapter: Implementation) -> SearchStrategy[Case]:
    """Every valid configuration of an adapter: its own strategy, or one of its listed cases."""
    own = adapter.strategy()
    return listed(adapter.cases()) if own is None else own


def draw(adapter: Implementation, count: int, seed: int) -> list[Case]:
    """Random configurations of an adapter, without repetition. The same seed gives the same configurations.

    Args:
        adapter: an adapter with an installed library.
        count: number of configurations; the list is shorter if the adapter has fewer.
        seed: seed of the draw.
    """
    hypothesis = _hypothesis()
    found: dict[str, Case] = {}

    def collect(case: Case) -> None:
        found.setdefault(case.name, case)

    chosen = hypothesis.settings(profile("search"), max_examples=8 * count, phases=[hypothesis.Phase.generate])
    hypothesis.seed(seed)(chosen(hypothesis.given(configurations(adapter))(collect)))()
    return random.Random(seed).sample(list(found.values()), min(count, len(found)))


def drawn_elements() -> SearchStrategy[DrawnElement]:
    """Elements of any group as plain data, see ``DrawnElement``. They shrink to the smallest rotation."""
    from .trial import STEPS, DrawnElement

    st = _hypothesis().strategies
    strategy: SearchStrategy[DrawnElement] = st.builds(
        DrawnElement,
        rank=st.integers(0, 47),
        steps=st.integers(1, STEPS),
        axis=st.tuples(*[st.integers(-2, 2)] * 3),
        mirror=st.booleans(),
    )
    return strategy


def elements(of: Group) -> SearchStrategy[Element]:
    """Elements of a group, including the identity. They shrink towards the identity and towards small rotations.

    Example:
        >>> from hypothesis import find
        >>> from equiharness import group
        >>> find(elements(group("D4")), lambda g: not g.is_proper).is_identity
        False
        >>> smallest = find(elements(group("SO3")), lambda g: not g.is_identity)
        >>> round(1800 / 3.141592653589793 * smallest.angle_to(group("SO3").identity), 6)
        1.0
    """
    st = _hypothesis().strategies
    strategy: SearchStrategy[Element] = st.one_of(
        st.just(of.identity), drawn_elements().map(lambda element: element.of(of))
    )
    return strategy


def trials(
    adapter: Implementation, properties: Sequence[str], dtypes: Sequence[str], *, device: str = "cpu"
) -> SearchStrategy[Trial]:
    """Checks of one adapter: a configuration, an element, an input, a property, a precision, a seed."""
    from ..claim.inputs import KINDS
    from .trial import Trial

    st = _hypothesis().strategies
    strategy: SearchStrategy[Trial] = st.builds(
        Trial,
        implementation=st.just(adapter.name),
        case=configurations(adapter),
        element=drawn_elements(),
        inputs=st.sampled_from(list(KINDS)),
        property=st.sampled_from(list(properties)),
        dtype=st.sampled_from(list(dtypes)),
        seed=st.integers(0, SEEDS - 1),
        device=st.just(device),
    )
    return strategy
