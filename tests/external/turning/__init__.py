"""Layers for pictures and point clouds that turn with their input."""

from .clouds import CentredMix, VectorGate
from .pictures import Backwards, Lift, QuarterTurns

__all__ = ["Backwards", "CentredMix", "Lift", "QuarterTurns", "VectorGate"]
