"""The metric losses beside PyTorch's and Optax's: equal wherever the peer is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

torch = pytest.importorskip("torch", reason="PyTorch is the peer of most metric losses")
nn = torch.nn.functional

RANDOM = np.random.default_rng(0)
FIRST, SECOND, THIRD = RANDOM.normal(size=(3, 6, 4))
SIGNS = np.array([1.0, -1.0, 1.0, -1.0, -1.0, 1.0])
NUMBERS = (FIRST[:, 0], SECOND[:, 0])

# Name, options of ours, the peer's function, its options, data.
PAIRS = [
    ("cosine_embedding", {"margin": 0.1}, nn.cosine_embedding_loss, {"margin": 0.1}, (FIRST, SECOND, SIGNS)),
    ("cosine_embedding", {}, nn.cosine_embedding_loss, {}, (FIRST, SECOND, SIGNS)),
    ("hinge_embedding", {}, nn.hinge_embedding_loss, {}, (NUMBERS[0], SIGNS)),
    ("hinge_embedding", {"margin": 0.4}, nn.hinge_embedding_loss, {"margin": 0.4}, (NUMBERS[0], SIGNS)),
    ("margin_ranking", {}, nn.margin_ranking_loss, {}, (*NUMBERS, SIGNS)),
    ("margin_ranking", {"margin": 0.5}, nn.margin_ranking_loss, {"margin": 0.5}, (*NUMBERS, SIGNS)),
    *(
        (
            "triplet_margin",
            {"margin": 0.8, "p": p, "swap": swap},
            nn.triplet_margin_loss,
            {"margin": 0.8, "p": p, "swap": swap, "eps": 0.0},
            (FIRST, SECOND, THIRD),
        )
        for p in (1.0, 1.5, 2.0, 3.0, np.inf)
        for swap in (False, True)
    ),
]


@pytest.mark.parametrize(("name", "options", "peer", "theirs", "data"), PAIRS)
def test_value_and_gradient_are_torchs(name, options, peer, theirs, data):
    loss = getattr(jl.metric, name)
    first = torch.tensor(data[0], requires_grad=True)
    expected = peer(first, *map(torch.tensor, data[1:]), reduction="none", **theirs)
    expected.sum().backward()
    gradient = jax.grad(lambda x: jnp.sum(loss(x, *data[1:], **options)))(data[0])
    # torch adds 1e-12 to a squared length.
    tolerance = 1e-10 if name == "cosine_embedding" else 1e-13
    np.testing.assert_allclose(
        loss(*data, **options), expected.detach().numpy(), rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(gradient, first.grad.numpy(), rtol=1e-10, atol=tolerance)


A, B, C = np.zeros((1, 2)), np.array([[-1.0, -1.0]]), np.array([[3.0, 0.0]])


def test_optax_takes_a_negative_difference_for_a_negative_distance():
    optax = pytest.importorskip("optax", reason="it is Optax that is shown wrong")
    # ‖a − b‖₁ = 2, ‖a − c‖₁ = 3: at a margin of 2 the loss is 1.
    ours = jl.metric.triplet_margin(A, B, C, p=1.0, margin=2.0)
    theirs = optax.losses.triplet_margin_loss(A, B, C, norm_degree=1.0, margin=2.0, eps=0.0)
    np.testing.assert_array_equal(ours, [1.0])
    np.testing.assert_array_equal(theirs, [7.0])


def test_optax_has_no_cube_root_of_a_negative_sum():
    optax = pytest.importorskip("optax", reason="it is Optax that is shown wrong")
    theirs = optax.losses.triplet_margin_loss(A, B, C, norm_degree=3.0)
    assert np.isnan(theirs).all()
    expected = max(2 ** (1 / 3) - 3 + 2, 0)
    np.testing.assert_allclose(jl.metric.triplet_margin(A, B, C, p=3.0, margin=2.0), [expected], rtol=1e-14)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, np.inf])
@pytest.mark.parametrize("swap", [False, True])
def test_at_coincident_points_every_gradient_is_finite(p, swap):
    def total(a, b, c, p):
        return jnp.sum(jl.metric.triplet_margin(a, b, c, p=p, swap=swap))

    gradients = jax.grad(total, argnums=(0, 1, 2, 3))(C, C, C, p)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_torch_has_no_gradient_of_a_cosine_beyond_rounding():
    """What arcface is given is often 1 and a rounding: an arccosine has no value there."""
    cosines = np.float32([[1 + 1e-6, 0.2], [1.0, 0.1]])
    value, slope = jax.value_and_grad(lambda c: jnp.sum(jl.metric.arcface(c, np.array([0, 0]))))(cosines)
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))
    assert torch.isnan(torch.acos(torch.tensor(cosines[0, 0])))
