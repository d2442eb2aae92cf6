"""A small language model on real text, with a fused head and with the logits of all rows, side by side.

    python -m examples.language_model --steps 200

The text is the source of Python's own standard library. Its vocabulary holds every byte, the pieces of
words that occur most, and so writes any text. The model is a causal convolution over embeddings, the last
layer a kernel of one column a piece. Trained twice from one start on the same batches, it goes through
the same losses; what differs is the memory that a step is compiled to take.
"""

import argparse
import collections
import functools
import re
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from rich.console import Console
from rich.table import Table

import jaxloss as jl

Params = dict[str, Array]
Objective = Callable[[Params, Array], Array]

# A word with the blank before it, a number, a run of blanks, or a run of signs.
WORDS = re.compile(r" ?[A-Za-z_]+| ?[0-9]+|\s+|[^\sA-Za-z0-9_]+")
LONGEST = 12
CONTEXT = 8


def library_text(size: int) -> str:
    """The first characters of the standard library's modules, in the order of their names."""
    folder, text = Path(sysconfig.get_paths()["stdlib"]), ""
    for path in sorted(folder.glob("*.py")):
        text += path.read_text(encoding="utf-8", errors="replace")
        if len(text) >= size:
            break
    return text[:size]


def vocabulary(text: str, size: int) -> list[bytes]:
    """All bytes, then the beginnings and ends of words, and whole words, that save most bytes."""
    saved: collections.Counter[bytes] = collections.Counter()
    for word, count in collections.Counter(WORDS.findall(text)).items():
        word = word.encode()[:64]
        ends = range(2, min(len(word), LONGEST) + 1)
        for piece in {word, *(word[:end] for end in ends), *(word[-end:] for end in ends)}:
            if len(piece) > 1:
                saved[piece] += count * (len(piece) - 1)
    bytes_first = [bytes([value]) for value in range(256)]
    return bytes_first + [piece for piece, _ in saved.most_common(size - 256)]


def encode(text: str, pieces: Sequence[bytes]) -> np.ndarray:
    """The ids of a text: of what is left of a word, the longest piece it begins with."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    longest = max(map(len, pieces))

    @functools.cache
    def of_word(word: str) -> tuple[int, ...]:
        rest, found = word.encode(), []
        while rest:
            end = next(e for e in range(min(longest, len(rest)), 0, -1) if rest[:e] in ids)
            found.append(ids[rest[:end]])
            rest = rest[end:]
        return tuple(found)

    return np.array([number for word in WORDS.findall(text) for number in of_word(word)], np.int32)


def initial(key: Array, classes: int, width: int) -> Params:
    """Embeddings, a mixture of the pieces before, a hidden layer, and the kernel of the head."""
    shapes = {
        "embedding": (classes, width),
        "mixture": (CONTEXT, width),
        "hidden": (width, 4 * width),
        "back": (4 * width, width),
        "kernel": (width, classes),
    }
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    return {name: jax.random.normal(keys[name], shape) * shape[0] ** -0.5 for name, shape in shapes.items()}


def features(params: Params, tokens: Array) -> Array:
    """What the model makes of each piece and those before it: `[batch, length, width]`."""
    x = params["embedding"][tokens] * tokens.shape[-1] ** 0.5
    past = jnp.pad(x, ((0, 0), (CONTEXT - 1, 0), (0, 0)))
    length = tokens.shape[-1]
    mixed = sum(params["mixture"][i] * past[:, i : i + length] for i in range(CONTEXT))
    x = mixed + jax.nn.gelu(mixed @ params["hidden"]) @ params["back"]
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def fused_head(params: Params, tokens: Array) -> Array:
    """The mean surprise of the next piece, with the logits of a chunk of rows at a time."""
    x = features(params, tokens[:, :-1])
    return jl.mean(jl.fused.linear_cross_entropy)(x, params["kernel"], tokens[:, 1:], chunk_size=64)


def chunked_head(params: Params, tokens: Array) -> Array:
    """The same by `jl.chunked`, which takes any loss and computes each chunk's logits twice."""
    loss = jl.chunked(lambda x, y: jl.categorical.cross_entropy(x @ params["kernel"], y), rows=64)
    return jl.mean(loss)(features(params, tokens[:, :-1]), tokens[:, 1:])


def materialised_head(params: Params, tokens: Array) -> Array:
    """The same with the logits of all rows."""
    return jl.cross_entropy(features(params, tokens[:, :-1]) @ params["kernel"], tokens[:, 1:])


HEADS: dict[str, Objective] = {
    "fused": fused_head,
    "chunked": chunked_head,
    "materialised": materialised_head,
}


def train(objective: Objective, params: Params, batches: np.ndarray, rate: float) -> tuple[list[float], int]:
    """The loss of every step, and the bytes of temporaries that a step is compiled to take."""
    optimizer = optax.adam(rate)

    def step(params: Params, state: Any, tokens: Array) -> tuple[Params, Any, Array]:
        loss, gradient = jax.value_and_grad(objective)(params, tokens)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss  # pyright: ignore[reportReturnType]

    state = optimizer.init(params)
    compiled = jax.jit(step).lower(params, state, batches[0]).compile()
    losses = []
    for tokens in batches:
        params, state, loss = compiled(params, state, tokens)
        losses.append(float(loss))
    return losses, compiled.memory_analysis().temp_size_in_bytes


def drawn(tokens: np.ndarray, steps: int, batch: int, length: int) -> np.ndarray:
    """Stretches of the text, `[steps, batch, length + 1]`."""
    starts = np.random.default_rng(0).integers(0, len(tokens) - length, (steps, batch, 1))
    return tokens[starts + np.arange(length + 1)]


def report(curves: dict[str, list[float]], memory: dict[str, int], console: Console) -> None:
    """The curves and the memory of every head, a column each."""
    table = Table(title="mean surprise of the next piece, in nats")
    for name in ("step", *curves):
        table.add_column(name, justify="right")
    steps = len(next(iter(curves.values())))
    for step in sorted({*range(0, steps, max(1, steps // 10)), steps - 1}):
        table.add_row(str(step), *(f"{losses[step]:.4f}" for losses in curves.values()))
    table.add_section()
    table.add_row("temporaries", *(f"{size / 2**20:.1f} MiB" for size in memory.values()))
    console.print(table)
    reference = np.array(curves["materialised"])
    for name, losses in curves.items():
        if name != "materialised":
            gap = np.max(np.abs(np.array(losses) - reference))
            console.print(
                f"{name}: {memory[name] / memory['materialised']:.2f} of the materialised head's memory, "
                f"largest difference of a loss {gap:.1e}"
            )


def main(arguments: Sequence[str] | None = None) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Train with every head and print what came of it: the curves, and the bytes of temporaries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--classes", type=int, default=8192)
    parser.add_argument("--characters", type=int, default=2_000_000)
    parser.add_argument("--rate", type=float, default=3e-3)
    given = parser.parse_args(arguments)
    console = Console()
    text = library_text(given.characters)
    pieces = vocabulary(text, given.classes)
    tokens = encode(text, pieces)
    console.print(f"{len(text)} characters, {len(tokens)} pieces of {len(pieces)} kinds")
    batches = drawn(tokens, given.steps, given.batch, given.length)
    params = initial(jax.random.key(0), len(pieces), given.width)
    runs = {name: train(objective, params, batches, given.rate) for name, objective in HEADS.items()}
    curves = {name: losses for name, (losses, _) in runs.items()}
    memory = {name: size for name, (_, size) in runs.items()}
    report(curves, memory, console)
    return curves, memory


if __name__ == "__main__":
    main()
