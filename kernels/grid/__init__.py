"""Planar and octahedral convolutions: one implementation for every finite group of signed permutations."""
