"""Representations are homomorphisms, and the irreps are those of the textbooks."""

import math

import numpy as np
import pytest
from equiharness.harness.errors import UsageError
from equiharness.harness.symmetry.groups import Element, group
from equiharness.harness.symmetry.representations import fibre, wigner_matrix

FIBRES = {
    "C1": ["regular", "standard"],
    "C4": ["trivial", "regular", "quotient(C2)", "standard", "irrep(0)", "irrep(1)", "irrep(2)"],
    "C5": ["regular", "standard", "irrep(1)", "irrep(2)"],
    "C8": ["regular", "quotient(C2)", "quotient(C4)", "irrep(3)", "irrep(4)"],
    "D4": ["regular", "quotient(C4)", "quotient(C2)", "standard", "irrep(1)", "irrep(2)"],
    "D6": ["regular", "quotient(D3)", "irrep(1)", "irrep(2)"],
    "O": ["regular", "quotient(C4)", "standard", "irrep(0)", "irrep(1)", "irrep(2)", "irrep(3)"],
    "Oh": ["regular", "quotient(O)", "standard", "irrep(1)", "irrep(1, e)", "irrep(0, o)", "irrep(2)"],
    "SO2": ["trivial", "standard", "irrep(1)", "irrep(5)"],
    "O2": ["trivial", "standard", "irrep(1)", "irrep(4)"],
    "SO3": ["standard", "irrep(0)", "irrep(1)", "irrep(2)", "irrep(6)"],
    "O3": ["standard", "irrep(1)", "irrep(1, e)", "irrep(2)", "irrep(2, o)", "irrep(3)"],
}
CASES = [(name, spec) for name, specs in FIBRES.items() for spec in specs]


def elements(name, count=6):
    of = group(name)
    if of.order is None:
        return of.representatives(np.random.default_rng(3), count)
    listed = list(of)
    return listed if len(listed) <= 12 else listed[:: max(1, len(listed) // 9)]


def rep(name, spec):
    [(_, found)] = fibre(spec, group(name)).terms
    return found


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_representation_is_a_homomorphism_into_orthogonal_matrices(name, spec):
    of, rho = group(name), rep(name, spec)
    assert np.allclose(rho.of(of.identity), np.eye(rho.dim), atol=1e-14)
    for g in elements(name):
        assert np.allclose(rho.of(g) @ rho.of(g).T, np.eye(rho.dim), atol=1e-12)
        for h in elements(name):
            assert np.allclose(rho.of(g) @ rho.of(h), rho.of(of.compose(g, h)), atol=1e-12), (g, h)


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_the_invariant_functional_is_fixed_by_every_element(name, spec):
    rho = rep(name, spec)
    if rho.invariant is not None:
        for g in elements(name):
            assert np.allclose(rho.invariant @ rho.of(g), rho.invariant, atol=1e-12)


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_a_fibre_without_invariant_averages_to_zero_over_the_group(name, spec):
    of, rho = group(name), rep(name, spec)
    if of.order is not None and rho.invariant is None and len(of) > 1:
        assert np.allclose(sum(rho.of(g) for g in of) / len(of), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "spec", "size"),
    [
        ("C4", "regular", 4),
        ("D4", "quotient(C4)", 2),
        ("O", "quotient(C4)", 6),
        ("C8", "irrep(4)", 1),
        ("O", "irrep(3)", 7),
    ],
)
def test_fibres_have_their_documented_sizes(name, spec, size):
    assert rep(name, spec).dim == size


def test_the_regular_representation_permutes_by_left_multiplication():
    """(rho(g) v)[h] = v[g^-1 h], that is rho(g) e_h = e_gh."""
    for name in ("C4", "D4", "O"):
        of, rho = group(name), rep(name, "regular")
        for g in elements(name):
            for h in range(len(of)):
                assert rho.of(g)[:, h].argmax() == of.mul[g.index, h]


def test_standard_is_the_matrix_itself():
    for name in ("D4", "O", "SO3"):
        for g in elements(name):
            assert np.array_equal(rep(name, "standard").of(g), g.matrix)


def test_permutations_are_recognised_and_rotations_are_not():
    g = group("C4").element(3)
    v = np.arange(4.0)
    p = rep("C4", "regular").permutation(g)
    assert np.array_equal(v[p], rep("C4", "regular").of(g) @ v)
    assert rep("C4", "standard").permutation(g) is None


def test_planar_irreps_turn_by_multiples_of_the_angle():
    for degree in (1, 2, 5):
        for g in group("SO2").sample(np.random.default_rng(0), 5):
            t = degree * math.atan2(g.matrix[1, 0], g.matrix[0, 0])
            expected = [[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]
            assert np.allclose(rep("SO2", f"irrep({degree})").of(g), expected, atol=1e-14)


def turn(vector):
    """Rotation by |vector| about it, by Rodrigues' formula."""
    angle = np.linalg.norm(vector)
    x, y, z = np.asarray(vector) / angle if angle else np.zeros(3)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def real_harmonics(degree, p):
    """Real solid harmonics of degree 1 to 3 up to a common factor, m = -l..l, from a table of polynomials."""
    x, y, z = p
    if degree == 1:
        return np.array([y, z, x])
    if degree == 2:
        s = math.sqrt(3)
        return np.array([s * x * y, s * y * z, (3 * z * z - 1) / 2, s * x * z, s / 2 * (x * x - y * y)])
    a, b, c = math.sqrt(5 / 8), math.sqrt(15), math.sqrt(3 / 8)
    return np.array(
        [
            a * y * (3 * x * x - y * y),
            b * x * y * z,
            c * y * (5 * z * z - 1),
            z * (5 * z * z - 3) / 2,
            c * x * (5 * z * z - 1),
            b / 2 * z * (x * x - y * y),
            a * x * (x * x - 3 * y * y),
        ]
    )


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_wigner_matrices_move_the_polynomial_harmonics(degree):
    """Y(R p) = D(R) Y(p) for the harmonics written as polynomials in x, y, z."""
    rng = np.random.default_rng(degree)
    for g in group("SO3").sample(rng, 8):
        p = rng.standard_normal(3)
        p /= np.linalg.norm(p)
        moved = wigner_matrix(degree, g.matrix) @ real_harmonics(degree, p)
        assert np.allclose(real_harmonics(degree, g.matrix @ p), moved, atol=1e-13)


@pytest.mark.parametrize("degree", [1, 2, 5, 12, 40])
def test_wigner_characters_follow_the_closed_form(degree):
    """tr D^l(angle t) = sin((2l+1) t/2) / sin(t/2), about any axis."""
    rng = np.random.default_rng(degree)
    for t in (0.3, 1.7, 3.0):
        axis = rng.standard_normal(3)
        matrix = turn(t * axis / np.linalg.norm(axis))
        expected = math.sin((2 * degree + 1) * t / 2) / math.sin(t / 2)
        assert np.trace(wigner_matrix(degree, matrix)) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_turns_about_z_mix_m_and_minus_m_by_m_times_the_angle(degree):
    t = 0.7
    d = wigner_matrix(degree, turn([0, 0, t]))
    for m in range(1, degree + 1):
        assert d[degree + m, degree + m] == pytest.approx(math.cos(m * t), abs=1e-13)
        assert d[degree - m, degree + m] == pytest.approx(math.sin(m * t), abs=1e-13)
        assert d[degree + m, degree - m] == pytest.approx(-math.sin(m * t), abs=1e-13)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, math.pi - 1e-9, math.pi])
def test_wigner_matrices_are_orthogonal_at_the_ends_of_the_angle(angle):
    matrix = turn(angle * np.array([0.6, 0.0, -0.8]))
    d = wigner_matrix(4, matrix)
    assert np.abs(d @ d.T - np.eye(9)).max() < 1e-14 * 10
    assert np.allclose(wigner_matrix(1, matrix), matrix[np.ix_([1, 2, 0], [1, 2, 0])], atol=1e-7)


def test_parity_says_what_the_inversion_does():
    inversion = Element("inversion", -np.eye(3))
    signs = {"irrep(0)": 1, "irrep(1)": -1, "irrep(2)": 1, "irrep(3)": -1, "irrep(1, e)": 1, "irrep(2, o)": -1}
    for spec, sign in signs.items():
        rho = rep("O3", spec)
        assert np.allclose(rho.of(inversion), sign * np.eye(rho.dim), atol=1e-14), spec


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("C4", "regullar", "Unknown fibre"),
        ("C4", "3 x trivial", "Cannot read"),
        ("C4", "", "Cannot read"),
        ("C4", "quotient", "needs the subgroup"),
        ("C4", "quotient(C3)", "no element"),
        ("C4", "irrep", "needs its degree"),
        ("C4", "irrep(1, e)", "no parity"),
        ("SO2", "regular", "infinite"),
        ("SO3", "quotient(C4)", "infinite"),
    ],
)
def test_an_unreadable_fibre_is_refused(name, spec, message):
    with pytest.raises(UsageError, match=message):
        fibre(spec, group(name))


def test_a_multiplicity_of_zero_is_refused():
    with pytest.raises(UsageError):
        fibre("0*regular", group("C4"))


def test_sums_keep_their_order():
    found = fibre("2*trivial+regular + 3*standard", group("C4"))
    assert [r.dim for r in found.blocks] == [1, 1, 4, 2, 2, 2]
    assert found.size == 12
    assert str(found) == "2*trivial + 1*regular + 3*standard"
