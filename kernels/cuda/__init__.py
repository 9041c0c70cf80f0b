"""The project's CUDA kernels: their sources, compiling, caching and launching them, and the torch operators on top."""
