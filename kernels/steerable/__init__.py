"""Convolutions of C_N and D_N on the plane for every N, with filters from a band-limited steerable basis."""
