"""C++ kernels, compiled on first use and cached."""
