"""Relative errors of leaves. Errors are relative to the part of the output that depends on the input.

All arithmetic is in float64. Arrays [sample, summand] hold one relative error for each sample and each block of the
fibre, so a large correct channel never hides a small wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..fields.field import Acted, Field, Invariant

#: The scale of a sample is at least this share of the typical deviation. Dead units have samples of tiny deviation.
LEAST_SHARE = 1e-3

Leaf = Field | Invariant | Acted


@dataclass(frozen=True)
class Scale:
    """D_s = max(||f_*(x_s) - mean||, 1e-3 RMS_s ||f_*(x_s) - mean||) for each summand, in two norms.

    The Euclidean norm of spherical signals has the quadrature's weights, because without them rotations are not
    orthogonal.

    Example:
        >>> y = torch.tensor([[1.0, 5.0], [3.0, 5.0]], dtype=torch.float64)
        >>> Scale.of(Invariant(), y).euclidean
        tensor([[1.],
                [1.]], dtype=torch.float64)
    """

    field: Leaf
    euclidean: torch.Tensor
    largest: torch.Tensor

    @classmethod
    def of(cls, field: Leaf, y: torch.Tensor) -> Scale:
        """Scale of the reference output y = f_*(x), float64."""
        rows = field.summands(y)
        # The mean is taken after subtracting one sample, so that a constant output deviates by exactly zero.
        deviation = rows - rows[:1]
        deviation = deviation - deviation.mean(0, keepdim=True)
        return cls(field, _at_least_share(_norm(field, deviation)), _at_least_share(_largest(deviation)))

    def relative(self, difference: torch.Tensor) -> torch.Tensor:
        """Relative Euclidean error [sample, summand] of a leaf-shaped difference."""
        return _quotient(_norm(self.field, self.field.summands(difference)), self.euclidean)

    def relative_of(self, sample: int, difference: torch.Tensor) -> torch.Tensor:
        """Relative Euclidean error [1, summand] of one sample's difference."""
        return _quotient(_norm(self.field, self.field.summands(difference)), self.euclidean[sample : sample + 1])

    def centred(self, difference: torch.Tensor) -> torch.Tensor:
        """Relative error of a difference after subtracting its mean over samples, which removes constant parts."""
        return self.rounding(difference - difference.mean(0, keepdim=True))

    def relative_max(self, difference: torch.Tensor, amplification: float = 1.0) -> torch.Tensor:
        """Relative error in the max norm; ``amplification`` is ||b_g||_inf."""
        return _quotient(_largest(self.field.summands(difference)), self.largest * amplification)

    def rounding(self, difference: torch.Tensor) -> torch.Tensor:
        """Relative error for rounding estimates. Constant summands give no information about rounding and count 0."""
        varies = self.euclidean > 0
        return torch.where(varies, _quotient(_norm(self.field, self.field.summands(difference)), self.euclidean), 0.0)


def _norm(field: Leaf, rows: torch.Tensor) -> torch.Tensor:
    weights = field.weights if isinstance(field, Field) else None
    if weights is None:
        norms: torch.Tensor = torch.linalg.vector_norm(rows, dim=-1)
        return norms
    return (rows.square() @ weights.to(rows).repeat(rows.shape[-1] // len(weights))).sqrt()


def _largest(rows: torch.Tensor) -> torch.Tensor:
    if rows.shape[-1] == 0:
        return rows.new_zeros(rows.shape[:-1])
    largest: torch.Tensor = torch.linalg.vector_norm(rows, ord=torch.inf, dim=-1)
    return largest


def _at_least_share(norms: torch.Tensor) -> torch.Tensor:
    return torch.maximum(norms, LEAST_SHARE * norms.square().mean(0, keepdim=True).sqrt())


def _quotient(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """0/0 = 0, x/0 = inf, NaN stays NaN."""
    safe = torch.where(denominator > 0, denominator, 1.0)
    beyond = torch.where(numerator == 0, 0.0, torch.where(numerator.isnan(), torch.nan, torch.inf))
    return torch.where(denominator > 0, numerator / safe, beyond)
