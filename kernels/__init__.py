"""The project's own equivariant layers: torch modules, their CUDA sources and float64 references."""
