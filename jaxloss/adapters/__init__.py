"""One file an ecosystem; each is imported, with the package it adapts, when it is first named."""

import importlib
from types import ModuleType

__all__ = ["boosting", "optax", "optax_losses", "scipy", "sklearn"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> ModuleType:
    """Import the adapter `name`."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}; its adapters are {', '.join(__all__)}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
