"""A run on disk, with Orbax: the last whole save, however the process ended."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any
Record = dict[str, Any]


class Store(NamedTuple):
    """Where a run is kept: arrays, and a record of what JSON can tell.

    Attributes:
        restore: `restore(tree) -> (arrays like those of tree, record)`; None where nothing is saved.
        save: `save(tree, record)`, whole or not at all.
    """

    restore: Callable[[PyTree], tuple[PyTree, Record] | None]
    save: Callable[[PyTree, Record], None]


_NOWHERE = Store(lambda _: None, lambda _tree, _record: None)


@contextlib.contextmanager
def opened(directory: str | os.PathLike[str] | None) -> Iterator[Store]:
    """The store in a directory, made if it is not there; without one, a store that keeps nothing."""
    if directory is None:
        yield _NOWHERE
        return
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        msg = "fit: `checkpoint` needs Orbax: `pip install jaxloss[checkpoint]`."
        raise ImportError(msg) from error

    # A save is renamed into place when it is whole; the one before it is removed after that.
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    manager = ocp.CheckpointManager(os.path.abspath(directory), options=options)

    def save(tree: PyTree, record: Record) -> None:
        arrays = ocp.args.StandardSave(_arrays(tree))
        described = ocp.args.JsonSave({"leaves": _described(tree), "record": record})
        last = manager.latest_step()
        step = 0 if last is None else last + 1
        manager.save(step, args=ocp.args.Composite(arrays=arrays, record=described))

    def restore(tree: PyTree) -> tuple[PyTree, Record] | None:
        last = manager.latest_step()
        if last is None:
            return None
        found = manager.restore(last, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]
        _require_same(directory, found["leaves"], _described(tree))
        shapes = jax.tree.map(_shape, _arrays(tree))
        wanted = ocp.args.Composite(arrays=ocp.args.StandardRestore(shapes))
        arrays = manager.restore(last, args=wanted)["arrays"]
        leaves, structure = jax.tree.flatten(tree)
        leaves = [_like(leaf, arrays[str(i)]) if leaf.size else leaf for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, leaves), found["record"]

    with contextlib.closing(manager):
        yield Store(restore, save)


def _arrays(tree: PyTree) -> dict[str, jax.Array]:
    """The leaves by number, for a reader that need not know their classes.

    Orbax takes none that is empty, and of a typed key only the numbers.
    """
    leaves = enumerate(jax.tree.leaves(tree))
    return {str(i): jax.random.key_data(leaf) if _is_key(leaf) else leaf for i, leaf in leaves if leaf.size}


def _like(leaf: jax.Array, saved: jax.Array) -> jax.Array:
    """What has been saved of a leaf, as it was."""
    return jax.random.wrap_key_data(saved, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else saved


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _shape(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _described(tree: PyTree) -> list[str]:
    leaves = jax.tree.leaves_with_path(tree)
    return [f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves]


def _require_same(directory: Any, saved: list[str], given: list[str]) -> None:
    if saved != given:
        first = next((s, g) for s, g in zip([*saved, "nothing"], [*given, "nothing"], strict=False) if s != g)
        msg = (
            f"fit: `checkpoint` {str(directory)!r} holds a run of another model, optimizer or "
            f"`validation`: `{first[0]}` is saved where `{first[1]}` is given; name an empty "
            "directory, or give what it was begun with."
        )
        raise ValueError(msg)
