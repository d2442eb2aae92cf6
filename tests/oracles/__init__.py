"""What each loss is, by hand and from its source: the judge of every property test. Never imports jax."""

from oracles import binary, categorical, divergence, quantile, regression, robust
from oracles._case import ROWS, Case, Data, Evidence, Options

_FAMILIES = (regression, robust, quantile, binary, categorical, divergence)

CASES: tuple[Case, ...] = tuple(case for family in _FAMILIES for case in family.CASES)
EVIDENCE: dict[str, Evidence] = {
    name: found for family in _FAMILIES for name, found in family.EVIDENCE.items()
}

__all__ = ["CASES", "EVIDENCE", "ROWS", "Case", "Data", "Evidence", "Options"]
