"""Benchmarks on frozen features, which train nothing: label propagation through a video."""
