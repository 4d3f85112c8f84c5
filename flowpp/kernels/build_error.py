"""The error of kernels that cannot be compiled or loaded."""


class BuildError(RuntimeError):
    """Raised where a kernel library cannot be compiled or loaded."""
