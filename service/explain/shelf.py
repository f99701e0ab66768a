"""The models an explainer holds: loaded when first asked for, the least recently used one let go of, changed files reloaded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from service.errors import NotFound, Unavailable
from service.explain.cancel import Token
from service.manifest import MODEL_FILE
from service.repository.bundle import Bundle, Location, find_bundles, read_bundle

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class _Held(Generic[Item]):
    location: Location
    stamp: tuple[int, int] | None
    sha256: str
    item: Item


class Shelf(Generic[Item]):
    """At most `most` models of a repository, made by `load`. Not for several threads at once."""

    def __init__(self, models: Path, model_name: str | None, load: Callable[[Bundle, Token], Item], most: int) -> None:
        self._models = models
        self._model_name = model_name
        self._load = load
        self._most = most
        self._held: OrderedDict[tuple[str, int], _Held[Item]] = OrderedDict()

    def get(self, name: str, version: int, sha256: str | None, token: Token) -> Item:
        """The model; where `sha256` is given, that very file of it. Loading, where it is due, checks `token`.

        Raises NotFound, Unavailable where another file lies there now than the one that is served, and what loading raises.
        """
        key = (name, version)
        held = self._held.get(key)
        # The repository is searched only where the file isn't where it was: a search costs as much as a small model's pass.
        if held is None or _stamp(held.location) != held.stamp:
            token.check()
            location = self.location(name, version)
            stamp, bundle = _stamp(location), read_bundle(location)
            held = _Held(location, stamp, bundle.model_sha256, self._load(bundle, token))
        self._held[key] = held
        self._held.move_to_end(key)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        if sha256 is not None and held.sha256 != sha256:
            raise Unavailable(f"model {name!r} version {version} on disk isn't the one that is served any more: load it anew")
        return held.item

    def location(self, name: str, version: int) -> Location:
        """Where the model lies. Raises NotFound."""
        for location in find_bundles(self._models, self._model_name):
            if (location.name, location.version) == (name, version):
                return location
        raise NotFound(f"no model {name!r} version {version}")


def _stamp(location: Location) -> tuple[int, int] | None:
    """Changes with the model's file; None where there is none."""
    try:
        found = (location.folder / MODEL_FILE).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
