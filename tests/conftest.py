"""Sixty-four bits, eight virtual devices, nothing promoted or broadcast in silence; Hypothesis profiles.

Programs are compiled quickly, and what a loss is judged on is the same each time; in the profile
`thorough` they are compiled as users do, and every test draws for itself.
"""

import gc
import os
import re

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What one process has compiled of a loss, no other compiles again; and then the next loss."""
    from jaxloss._loss import CARDS  # loaded by now, under the settings above

    for item in items:
        named = [name for name in re.findall(r"[a-z]+\.\w+", item.name) if name in CARDS]
        item.stash[_GROUP] = named[0] if named else ""
        if named and config.pluginmanager.hasplugin("xdist"):
            item.add_marker(pytest.mark.xdist_group(named[0]))
    items.sort(key=lambda item: item.stash[_GROUP])
    gc.freeze()  # what is there by now stays: no collection is to walk through it


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
    if nextitem is None or _of(item) == _of(nextitem):
        return
    import support

    for view in support.VIEWS:
        view.cache_clear()
    if not item.stash[_GROUP]:
        jax.clear_caches()
    gc.collect()
    gc.freeze()


def _of(item: pytest.Item) -> str:
    return item.stash[_GROUP] or str(item.path)
