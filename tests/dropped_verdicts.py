"""Find comparisons whose verdict is dropped: `python tests/dropped_verdicts.py [FILE or FOLDER ...]`.

`np.allclose(a, b)` alone on a line passes whatever a and b are; so does `a == b`, and `x.at[0].set(1)`
changes nothing. One line a finding, and exit code 1. It needs nothing but Python.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("tests", "benchmarks")

# Functions that answer a question and do nothing else.
VERDICTS = {
    "all", "allclose", "any", "array_equal", "array_equiv", "callable", "hasattr", "isclose", "isfinite",
    "isin", "isinf", "isinstance", "isnan", "issubclass", "issubdtype",
}  # fmt: skip
# What an indexed update of a JAX array returns, and the array does not become.
UPDATES = {"add", "apply", "divide", "max", "min", "mul", "multiply", "power", "set", "subtract"}


def dropped(source: str, name: str = "<source>") -> Iterator[tuple[int, str]]:
    """The line and the reason of each statement whose result is lost."""
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Expr) and (reason := _reason(node.value)):
            yield node.lineno, reason
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple) and node.test.elts:
            yield node.lineno, "an assertion of a tuple is always true"


def _reason(value: ast.expr) -> str | None:
    match value:
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            return "a comparison whose verdict is dropped"
        case ast.Call(func=ast.Attribute(attr=attr, value=ast.Subscript(value=ast.Attribute(attr="at")))) if (
            attr in UPDATES
        ):
            return f"an update whose result is dropped: `.at[].{attr}()` changes nothing in place"
        case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called)) if called in VERDICTS:
            return f"a verdict that is dropped: `{called}()` raises nothing"
        case ast.Await(value=inner):
            return _reason(inner)
        case ast.BinOp():
            return "a number that is dropped"
    return None


def files(paths: Sequence[Path]) -> Iterator[Path]:
    """The Python files among and below the paths."""
    for path in paths:
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def main(arguments: Sequence[str] = ()) -> int:
    """Write one line a finding; 1 if there is any."""
    paths = [Path(argument) for argument in arguments] or [ROOT / folder for folder in FOLDERS]
    found = 0
    for path in files(paths):
        for line, reason in dropped(path.read_text(encoding="utf-8"), str(path)):
            sys.stdout.write(f"{path}:{line}: {reason}\n")
            found = 1
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
