"""Who may import whom, read from the imports themselves (DESIGN §4)."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from programs import at_home

import jaxloss

HOME = Path(jaxloss.__file__).parent
BASE = {"jax", "jaxtyping", "numpy"}
CORE = {"_contracts", "_loss", "numerics"}

# Who imports whom: inside the package by module, outside it by name; `lazily` only inside functions.
# A family imports the core and nothing else: never another family.
MAY_IMPORT = {
    "__init__": {"_loss", "adapters", "fused", "losses", "numerics", "reduction", "training", "weighting"},
    "__main__": {"cli"},
    "numerics": {"numerics"},
    "numerics.*": BASE | {"numerics"},
    "_contracts": {"_contracts"},
    "_contracts.*": BASE | {"_contracts", "numerics"},
    "_loss": BASE | {"_contracts"},
    "_removed": BASE | {"numerics"},
    "reduction": BASE | CORE | {"_removed"},
    "fused.chunked": BASE | CORE,
    "losses": {"losses"},
    "losses.*": BASE | CORE,
    # A family in several files, each of which is a family to the others.
    "losses.categorical": {"losses"},
    "losses.contrastive": {"losses"},
    "losses.divergence": {"losses"},
    "losses.likelihood": {"losses"},
    "losses.metric": {"losses"},
    # Other ways to compute what the families do, which are not theirs to know.
    "fused": {"fused"},
    "fused.*": BASE | CORE | {"fused"},
    "adapters": set(),
    "adapters.boosting": BASE | CORE,
    "adapters.optax": BASE | {"_contracts", "numerics", "training", "optax"},
    "adapters.scipy": BASE | {"_loss", "adapters", "training"},
    "adapters.sklearn": BASE | CORE | {"adapters", "reduction", "sklearn"},
    # Optax's names without Optax.
    "adapters.optax_losses": {"adapters"},
    "adapters.*": BASE | CORE | {"adapters", "losses"},
    "training": {"training"},
    "training.*": BASE | {"numerics", "reduction", "training"},
    "training.accumulation": BASE | {"_contracts", "numerics", "reduction", "training"},
    "training.descent": BASE | {"_contracts", "reduction", "training", "optax lazily"},
    "training._progress": {"rich lazily"},
    "training._checkpoints": BASE | {"orbax lazily"},
    "training.adaptive": BASE | CORE | {"training"},
    "training.curricula": BASE | CORE | {"training"},
    "training._wrapping": BASE | {"_loss"},
    "weighting": {"weighting"},
    "weighting._contracts": BASE | {"_contracts"},
    "weighting.evaluation": BASE | {"_contracts", "reduction", "training", "weighting"},
    "weighting.values": BASE | {"training", "weighting"},
    "weighting.*": BASE | {"weighting"},
    "plots": {"matplotlib", "numpy"},
    # The command line and its private modules.
    "_sources": {"numpy", "sklearn lazily"},
    "_problem": BASE | {"_contracts", "_loss", "_sources", "reduction", "training"},
    "_runs": BASE | {"_problem", "_sources", "training", "optax lazily"},
    "_tables": {"numpy", "rich", "_loss", "_problem", "_runs", "_sources"},
    "cli": {"jax", "_loss", "_problem", "_runs", "_sources", "_tables lazily", "plots lazily"},
}
OPTIONAL = ("matplotlib", "optax", "orbax", "rich", "sklearn")
MODULES = {
    ".".join(path.relative_to(HOME).with_suffix("").parts): path for path in sorted(HOME.rglob("*.py"))
}


def rule(module: str) -> set[str]:
    """What the table says of a module."""
    package = module.removesuffix(".__init__")
    return MAY_IMPORT[package if package in MAY_IMPORT else f"{module.split('.')[0]}.*"]


def imports(tree: ast.AST, *, inside: bool = False) -> Iterator[str]:
    """Every module imported: ours by what stands after `jaxloss.`, another's by its first name."""
    for node in ast.iter_child_nodes(tree):
        lazily = " lazily" if inside else ""
        if isinstance(node, ast.Import):
            yield from (_short(alias.name) + lazily for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import hides who imports whom"
            ours = node.module == "jaxloss"
            yield from (
                (alias.name + lazily for alias in node.names) if ours else [_short(node.module) + lazily]
            )
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, inside=inside or function)


def _short(name: str) -> str:
    first, *rest = name.split(".")
    return rest[0] if first == "jaxloss" and rest else first


@functools.cache
def imports_of(module: str) -> frozenset[str]:
    """Every import of one of ours."""
    return frozenset(imports(ast.parse(MODULES[module].read_text(encoding="utf-8"))))


def refused(found: Iterable[str], allowed: set[str]) -> set[str]:
    """The imports a rule does not allow; the standard library is allowed, and an eager one lazily too."""
    foreign = {name for name in found if name.split()[0] not in sys.stdlib_module_names}
    return {name for name in foreign if name not in allowed and name.removesuffix(" lazily") not in allowed}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_the_table_allows(module):
    assert not refused(imports_of(module), rule(module))


@pytest.mark.parametrize(
    "line",
    [
        "from jaxloss.losses import robust",
        "from jaxloss.losses.robust import huber",
        "import jaxloss.losses.robust",
        "from jaxloss import losses",
        "from jaxloss.reduction import mean",
        "import optax",
        "def f():\n    import optax",
        "def f():\n    from jaxloss.losses import robust",
        "from matplotlib import pyplot",
    ],
)
def test_a_family_that_reached_sideways_or_up_would_be_refused(line):
    assert refused(imports(ast.parse(line)), rule("losses.regression"))


@pytest.mark.parametrize("package", ["optax", "sklearn"])
def test_an_import_at_the_top_is_refused_where_only_a_lazy_one_is_allowed(package):
    assert refused({package}, {f"{package} lazily"})


@pytest.mark.parametrize("name", sorted(name for name in MAY_IMPORT if not name.endswith("*")))
def test_the_table_names_no_module_that_is_gone(name):
    assert name in MODULES or f"{name}.__init__" in MODULES


def importers(package: str) -> set[str]:
    """The modules that import a package, at the top or inside a function."""
    return {module for module in MODULES if any(i.split()[0] == package for i in imports_of(module))}


def test_only_plots_draws():
    assert importers("matplotlib") == {"plots"}


def test_only_the_adapter_the_loop_and_the_command_line_know_optax():
    assert importers("optax") == {"adapters.optax", "training.descent", "_runs"}


def test_only_the_command_line_prints_tables_and_one_file_a_bar():
    assert importers("rich") == {"_tables", "training._progress"}


def test_only_one_file_saves():
    assert importers("orbax") == {"training._checkpoints"}


def test_only_the_sources_and_the_adapter_know_scikit_learn():
    assert importers("sklearn") == {"_sources", "adapters.sklearn"}


@pytest.mark.parametrize("package", ["catboost", "lightgbm", "scipy", "xgboost"])
def test_adapters_that_need_no_package_import_none(package):
    assert not importers(package)


# What a fresh Python is told to do, one after the other.
FIRST = "import jaxloss"
BY_HAND = "jaxloss.training.minimize(lambda p: p * p, 1.0, learning_rate=0.1, max_steps=2)"
NAMES_OF_OPTAX = "from jaxloss.adapters import optax_losses"
COMMAND_LINE = "import jaxloss.cli"
ADAPTER = "jaxloss.adapters.optax.train_step"


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """The modules it holds after each."""
    pytest.importorskip("optax", reason="the adapter of Optax needs Optax")
    told = (FIRST, BY_HAND, NAMES_OF_OPTAX, COMMAND_LINE, ADAPTER)
    script = "import sys\n" + "".join(f"{statement}\nprint(*sys.modules)\n" for statement in told)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=at_home(), capture_output=True, text=True, check=True)
    return dict(zip(told, map(set, map(str.split, done.stdout.splitlines())), strict=True))


@pytest.mark.parametrize("package", OPTIONAL)
def test_importing_jaxloss_imports_no_optional_package(loaded, package):
    assert package not in loaded[FIRST]


def test_importing_jaxloss_imports_no_pallas(loaded):
    assert "jax._src.pallas.core" not in loaded[FIRST]


def test_importing_jaxloss_imports_no_command_line(loaded):
    assert not {f"jaxloss.{name}" for name in ("cli", "plots", "_tables", "_runs")} & loaded[FIRST]


def test_importing_the_command_line_imports_no_optional_package(loaded):
    assert "jaxloss.cli" in loaded[COMMAND_LINE]
    assert not set(OPTIONAL) & loaded[COMMAND_LINE]


def test_neither_a_run_by_hand_nor_the_names_of_optaxs_losses_import_optax(loaded):
    assert "optax" not in loaded[BY_HAND] | loaded[NAMES_OF_OPTAX]


def test_naming_the_adapter_imports_its_package(loaded):
    assert "optax" not in loaded[COMMAND_LINE]
    assert "optax" in loaded[ADAPTER]
