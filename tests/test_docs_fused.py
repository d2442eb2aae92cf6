"""The code of docs/fused.md runs, and says what is so."""

import re
from pathlib import Path

import jax
import numpy as np

import jaxloss as jl

PAGE = (Path(__file__).parent.parent / "docs" / "fused.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs_and_agrees_with_the_losses_of_all_logits():
    found = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, found)
    x, w, ids, kept = (found[name] for name in ("features", "kernel", "labels", "kept"))
    whole = jl.mean(jl.categorical.cross_entropy)
    value, slopes = jax.jit(jax.value_and_grad(lambda x, w: whole(x @ w, ids), (0, 1)))(x, w)
    np.testing.assert_allclose(found["value"], value, rtol=1e-6)
    capped = 30 * np.tanh(x @ w / 30)
    np.testing.assert_allclose(found["tied"], whole(capped, ids, where=kept, z_loss=1e-4), rtol=1e-6)
    for name in ("of_features", "of_kernel"):
        np.testing.assert_allclose(found[name], slopes[name == "of_kernel"], rtol=1e-4, atol=1e-6)
    student, teacher = x @ w, found["teacher_features"] @ found["teacher_kernel"]
    distilled = jl.mean(jl.divergence.distillation)(student, teacher, ids, temperature=2.0, alpha=0.7)
    np.testing.assert_allclose(found["loss"], distilled, rtol=1e-5)
    np.testing.assert_allclose(found["over_devices"], found["value"], rtol=1e-6)
    for name, slope in zip(("of_features", "of_kernel"), found["slopes"], strict=True):
        np.testing.assert_allclose(slope, found[name], rtol=1e-4, atol=1e-6)
    # What the filter may leave out of a row's slopes is ε Σ ‖W_c‖ at most, of its share of 1/64.
    reach = 1e-6 * np.linalg.norm(w, axis=0).sum() / 64
    assert np.linalg.norm(found["approximate"][0] - found["of_features"], axis=1).max() < reach + 1e-6
    mixed = jl.mean(jl.divergence.jensen_shannon)(jax.nn.log_softmax(student), jax.nn.softmax(teacher))
    np.testing.assert_allclose(found["between"], mixed, rtol=1e-4)
