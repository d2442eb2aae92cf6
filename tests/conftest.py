"""Sixty-four bits, eight virtual devices, nothing promoted or broadcast in silence; Hypothesis profiles.

Programs are compiled quickly, and what a loss is judged on is the same each time; in the profile
`thorough` they are compiled as users do, and every test draws for itself.
"""

import gc
import os
import re
from typing import Any

import jax
import pytest
from hypothesis import HealthCheck, settings
from programs import QUICKLY, xla_flags

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
# Before JAX finds its devices, which is when XLA reads them.
FLAGS = {"xla_force_host_platform_device_count": 8} | ({} if PROFILE == "thorough" else QUICKLY)
os.environ["XLA_FLAGS"] = f"{xla_flags(FLAGS)} {os.environ.get('XLA_FLAGS', '')}".strip()

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# A first example compiles: a deadline would time the compiler.
_SLOW_START = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("default", deadline=None, max_examples=12, suppress_health_check=_SLOW_START)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=500)
settings.load_profile(PROFILE)


_GROUP = pytest.StashKey[str]()


def _group(nodeid: str) -> str:
    """The loss that a test is about, or its file."""
    from jaxloss._loss import CARDS  # loaded under the settings above

    losses = (name for name in re.findall(r"[a-z]+\.\w+", nodeid) if name in CARDS)
    return next(losses, nodeid.split("::")[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files, and then one loss after another."""
    for item in items:
        item.stash[_GROUP] = _group(item.nodeid)
    items.sort(key=lambda item: "" if _is_file(item) else item.stash[_GROUP])
    gc.freeze()  # what is there by now stays: no collection is to walk through it


def _is_file(item: pytest.Item) -> bool:
    return item.stash[_GROUP].endswith(".py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What one process has compiled of a loss, or made for a file, no other makes again."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    config.option.loadscopereorder = False  # the longest first: the files
    return ByGroup(config, log)


@pytest.fixture(autouse=True)
def _the_examples_of_a_case(request: pytest.FixtureRequest) -> None:
    """Drawn before a test draws one of them: Hypothesis wants no test within another."""
    import support  # compiles nothing before the settings above hold

    parameters = getattr(request.node, "callspec", None)
    if parameters is not None and isinstance(case := parameters.params.get("case"), support.Case):
        support.pool(case)
        support.pool(case, calm=True)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The programs of a loss that is done, or of a file, are forgotten: those of hundreds fill a memory."""
    if nextitem is None or item.stash[_GROUP] == nextitem.stash[_GROUP]:
        return
    import support

    for view in support.VIEWS:
        view.cache_clear()
    if _is_file(item):
        jax.clear_caches()
    gc.collect()
    gc.freeze()
