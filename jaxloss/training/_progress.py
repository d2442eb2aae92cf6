"""A progress bar where there is a terminal and Rich, and nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[str], None]


@contextmanager
def progress_bar(title: str, total: int | None, *, shown: bool, done: int = 0) -> Iterator[Advance]:
    """A function that moves the bar by one batch and writes a text behind it."""
    rich = _rich_progress() if shown and sys.stderr.isatty() else None
    if rich is None:
        yield lambda _: None
        return
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn())
    times = (rich.TimeElapsedColumn(), rich.TimeRemainingColumn(), rich.TextColumn("{task.fields[text]}"))
    from rich.console import Console

    with rich.Progress(*columns, *times, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done, text="")
        yield lambda text: bar.update(task, advance=1, text=text)


def _rich_progress():  # noqa: ANN202 - the module, if there is one
    try:
        import rich.progress
    except ImportError:
        return None
    return rich.progress
