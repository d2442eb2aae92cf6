"""The loss curve is a picture, whatever the history holds."""

import numpy as np
import pytest
from matplotlib import image

from jaxloss import plots

HISTORIES = {
    "falling": np.geomspace(1e3, 1e-9, 500),
    "less than a decade": np.linspace(5900, 2800, 100),
    "negative": np.linspace(1, -1, 100),
    "zero at the end": np.linspace(1, 0, 10),
    "diverged": np.array([1.0, 1e200, np.inf, np.nan]),
    "nothing finite": np.array([np.nan]),
    "one point": np.array([0.5]),
    "no point": np.zeros(0),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_the_curve_is_a_png_that_shows_something(tmp_path, name):
    path = tmp_path / "loss.png"
    plots.loss_curve(path, HISTORIES[name], loss="mean loss", baseline=0.7, test=0.6, title=name)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = image.imread(path)
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 600
    assert pixels.min() < 0.5 < pixels.max()


def test_the_axis_is_logarithmic_only_over_positive_losses(monkeypatch, tmp_path):
    scales = []
    monkeypatch.setattr(
        plots.Figure, "savefig", lambda self, *_, **__: scales.append(self.axes[0].get_yscale())
    )
    for history, baseline in ((HISTORIES["falling"], 1.0), (HISTORIES["falling"], -1.0)):
        plots.loss_curve(tmp_path / "x.png", history, loss="loss", baseline=baseline)
    plots.loss_curve(tmp_path / "x.png", HISTORIES["negative"], loss="loss")
    assert scales == ["log", "linear", "linear"]


def test_no_backend_is_chosen_for_the_caller(tmp_path):
    import matplotlib as mpl

    before = mpl.rcParams._get("backend")
    plots.loss_curve(tmp_path / "x.png", HISTORIES["falling"], loss="loss")
    assert mpl.rcParams._get("backend") is before
