"""What is loaded: every model version with its state, and the reason of each that was refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from service.errors import NotFound, Unavailable
from service.repository.bundle import Location
from service.repository.loaded import LoadedModel

State = Literal["LOADING", "READY", "UNAVAILABLE"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a model. `reason` says why it is not ready."""

    location: Location
    state: State
    reason: str = ""
    model: LoadedModel | None = None


@dataclass(slots=True)
class Registry:
    """Entries by name and version. Only the app's loading and the repository API change it."""

    entries: dict[str, dict[int, Entry]] = field(default_factory=dict)
    settled: bool = False
    """Whether every bundle found at start was either loaded or refused."""

    def put(self, entry: Entry) -> None:
        self.entries.setdefault(entry.location.name, {})[entry.location.version] = entry

    def __iter__(self) -> Iterator[Entry]:
        return (entry for versions in self.entries.values() for entry in versions.values())

    def names(self) -> list[str]:
        return sorted(self.entries)

    def entry(self, name: str, version: str | None = None) -> Entry:
        """The entry of a version, or of the highest one that is ready (else the highest). Raises NotFound."""
        versions = self.entries.get(name)
        if not versions:
            raise NotFound(f"no model named {name!r}; there are: {', '.join(self.names()) or 'none'}")
        if version is None and len(versions) == 1:
            return next(iter(versions.values()))
        if version is None:
            ready = [number for number, entry in versions.items() if entry.state == "READY"]
            return versions[max(ready or versions)]
        number = next((known for known in versions if str(known) == version), None)
        if number is None:
            raise NotFound(f"model {name!r} has no version {version[:40]!r}; there are: {', '.join(map(str, sorted(versions)))}")
        return versions[number]

    def model(self, name: str, version: str | None = None) -> LoadedModel:
        """The loaded model. Raises NotFound, or Unavailable with the reason."""
        entry = self.entry(name, version)
        if entry.model is None:
            raise Unavailable(f"model {name!r} version {entry.location.version} is not ready: {entry.reason or entry.state.lower()}", 5)
        return entry.model

    def ready(self, strict: bool) -> bool:
        """Whether the server is ready: all settled and at least one serves; with `strict`, none was refused."""
        states = [entry.state for entry in self]
        return self.settled and "READY" in states and not (strict and "UNAVAILABLE" in states)
