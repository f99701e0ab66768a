"""What lies in a repository for a server that loads no model itself: each bundle read and its files' hashes checked."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from service.errors import BadBundle, NotFound, Unavailable
from service.repository.bundle import Location, find_bundles, read_bundle
from service.repository.registry import Entry, Registry

log = logging.getLogger("whyserve")


class Inventory:
    """Fills `registry` with entries without models. What has changed on disk since is found when it is asked for."""

    def __init__(self, root: Path, single_name: str | None) -> None:
        self._root = root
        self._single_name = single_name
        self.registry = Registry()

    async def take(self) -> None:
        """Reads every bundle anew; those that have gone from disk are forgotten. Raises BadBundle: the repository can't be read."""
        entries = await asyncio.to_thread(lambda: [_read(at) for at in find_bundles(self._root, self._single_name)])
        self.registry.entries.clear()
        for entry in entries:
            self.registry.put(entry)
        self.registry.settled = True

    async def entry(self, name: str, version: str | None = None) -> Entry:
        """The entry of a version, or of the highest one; one that wasn't there before is looked for. Raises NotFound, BadBundle."""
        try:
            return self.registry.entry(name, version)
        except NotFound:
            await self.take()
        return self.registry.entry(name, version)

    async def sound(self, name: str, version: str | None = None) -> Entry:
        """The entry of a version that can be explained; one that was refused is read again. Raises NotFound, Unavailable."""
        entry = await self.entry(name, version)
        if entry.state != "READY":
            entry = await asyncio.to_thread(_read, entry.location)
            self.registry.put(entry)
        if entry.state != "READY":
            raise Unavailable(f"model {name!r} version {entry.location.version} is refused: {entry.reason}", 5)
        return entry


def _read(location: Location) -> Entry:
    try:
        read_bundle(location)
    except BadBundle as error:
        log.error("model %s version %s refused: %s", location.name, location.version, error)
        return Entry(location, "UNAVAILABLE", str(error))
    return Entry(location, "READY")
