"""What each loss is, by hand and from its source: the judge of every property test. Never imports jax."""

import importlib
import pkgutil

from oracles._case import ROWS, Case, Data, Evidence, Options

_NAMES = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
_FAMILIES = [importlib.import_module(f"{__name__}.{name}") for name in _NAMES]

CASES: tuple[Case, ...] = tuple(case for family in _FAMILIES for case in family.CASES)
EVIDENCE: dict[str, Evidence] = {
    name: found for family in _FAMILIES for name, found in family.EVIDENCE.items()
}

__all__ = ["CASES", "EVIDENCE", "ROWS", "Case", "Data", "Evidence", "Options"]
