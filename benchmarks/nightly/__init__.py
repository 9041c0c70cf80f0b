"""Benchmarks that asv tracks: every installed implementation on the operators it computes, or on its first case."""
