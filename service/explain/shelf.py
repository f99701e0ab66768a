"""The models an explainer holds: loaded when first asked for, the least recently used one let go of, changed files reloaded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from service.errors import NotFound
from service.repository.bundle import Bundle, find_bundles, read_bundle

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class _Held(Generic[Item]):
    stamp: tuple[int, int]
    item: Item


class Shelf(Generic[Item]):
    """At most `most` models of a repository, made by `load`. Not for several threads at once."""

    def __init__(self, models: Path, model_name: str | None, load: Callable[[Bundle], Item], most: int) -> None:
        self._models = models
        self._model_name = model_name
        self._load = load
        self._most = most
        self._held: OrderedDict[tuple[str, int], _Held[Item]] = OrderedDict()

    def get(self, name: str, version: int) -> Item:
        """Raises NotFound, and what loading raises."""
        key = (name, version)
        location = next((at for at in find_bundles(self._models, self._model_name) if (at.name, at.version) == key), None)
        if location is None:
            raise NotFound(f"no model {name!r} version {version}")
        bundle = read_bundle(location) if key not in self._held else None
        file = location.folder / "model.onnx"
        stamp = (file.stat().st_mtime_ns, file.stat().st_size)
        held = self._held.get(key)
        if held is None or held.stamp != stamp:
            held = _Held(stamp, self._load(bundle or read_bundle(location)))
        self._held[key] = held
        self._held.move_to_end(key)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return held.item
