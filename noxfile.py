"""The commands to remember: `nox -s lint types tests coverage typed oldest bench package`; `thorough`."""

import pathlib

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PROCESSES = ("-n", "2")
SOURCES = ("jaxloss", "tests", "benchmarks", "examples", "noxfile.py")


def group(*names: str) -> list[str]:
    """The packages of a dependency group of pyproject.toml, where each version stands once."""
    return list(nox.project.dependency_groups(PYPROJECT, *names))


@nox.session
def lint(session: nox.Session) -> None:
    session.install(*group("lint"))
    session.run("ruff", "format", "--check", *SOURCES)
    session.run("ruff", "check", *SOURCES)
    session.run("python", "tests/dropped_verdicts.py")


@nox.session
def types(session: nox.Session) -> None:
    session.install("-e", ".[checkpoint,cli]", *group("types"))
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite, beside its peers, on two processes."""
    session.install("-e", ".[cli]", *group("test", "peers", "boosting"))
    session.run("pytest", *PROCESSES, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The whole suite again, slower, and which lines and branches it reaches."""
    session.install("-e", ".[cli]", *group("test", "peers", "boosting"))
    session.run("pytest", *PROCESSES, "--cov", "--cov-report=term", *session.posargs)


@nox.session
def thorough(session: nox.Session) -> None:
    """The whole suite for hours: compiled as users do, each test with draws of its own."""
    session.install("-e", ".[cli]", *group("test", "peers", "boosting"))
    session.run("pytest", *PROCESSES, *session.posargs, env={"HYPOTHESIS_PROFILE": "thorough"})


@nox.session
def typed(session: nox.Session) -> None:
    """The suite with every shape annotation enforced; they refuse a wrong shape before our words do."""
    session.install("-e", ".[cli]", *group("test", "typed"))
    enforced = ("--jaxtyping-packages=jaxloss,beartype.beartype", "-m", "not worded")
    session.run("pytest", *PROCESSES, *enforced, *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """The suite on the oldest versions that pyproject.toml promises."""
    session.install("-e", ".[cli]", *group("test", "oldest"))
    session.run("pytest", *PROCESSES, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Every benchmark beside its peers; numbers to benchmarks/results, the table to the README."""
    session.install("-e", ".[cli]", *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)
    if not session.posargs:
        session.run("python", "-m", "benchmarks", "--table")


@nox.session
def package(session: nox.Session) -> None:
    """Build, then use the wheel as a stranger would."""
    session.install("build")
    distributions = pathlib.Path(session.create_tmp()) / "dist"
    session.run("python", "-m", "build", "--outdir", str(distributions))
    wheel = next(distributions.glob("*.whl"))
    session.install(f"jaxloss[cli] @ {wheel.resolve().as_uri()}")
    with session.chdir(session.create_tmp()):
        session.run("python", "-m", "jaxloss", "list")
        session.run("python", "-m", "jaxloss", "train", "line", "--steps", "200")
