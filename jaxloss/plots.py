"""Pictures of training, drawn straight onto a figure: no display and no global state."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# A logarithmic axis reaches further than what is drawn; its end must be a float too.
_HIGHEST = 1e100


def loss_curve(
    path: str | Path,
    history: np.ndarray,
    *,
    loss: str,
    baseline: float | None = None,
    test: float | None = None,
    title: str = "",
) -> None:
    """Draw the training loss against the step, as a PNG.

    Args:
        path: the file to write.
        history: the loss at steps 0, 1, ...; what is not finite, or near it, is left out.
        loss: its name, for the axis, which is logarithmic where every loss drawn is positive.
        baseline: the loss of the best constant prediction, a horizontal line.
        test: the loss on held-out rows at the last step, a point.
        title: above the picture.

    """
    history = np.asarray(history, float)
    history = np.where(np.abs(history) < _HIGHEST, history, np.nan)
    last = max(0, len(history) - 1)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(history, color="tab:blue", linewidth=1.8, label="train")
    drawn = [*history[np.isfinite(history)]]
    if baseline is not None:
        axes.axhline(baseline, color="tab:gray", linestyle="--", linewidth=1.2, label="best constant")
        drawn.append(baseline)
    if test is not None and abs(test) < _HIGHEST:
        label = f"test, {test:.4g} at the end"
        axes.plot(last, test, "o", color="tab:orange", clip_on=False, zorder=3, label=label)
        drawn.append(test)
    _scale(axes, drawn, max(1, last))
    axes.set(xlabel="step", ylabel=loss, title=title)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")


def _scale(axes: Axes, losses: list[float], last: int) -> None:
    """Logarithmic losses where they can be; steps too from 1 on, for most happens in the first."""
    if losses and min(losses) > 0:
        axes.set_yscale("log")
        if max(losses) < 10 * min(losses):  # 3000 rather than 3 × 10³, where no power of ten is near
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, last)
    axes.xaxis.set_major_formatter("{x:g}")
