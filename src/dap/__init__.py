"""dap: dataset distillation by diffusion models guided with their own features."""

from dap._version import __version__

__all__ = ["__version__"]
