"""Where a discrete input is attributed: the embedding's output, or the float after a cast; found, or asked for."""

from __future__ import annotations

from collections.abc import Sequence

from service.adding.draft import Draft
from service.adding.refused import NotAdded
from service.adding.trial import Trial, tensor_shapes
from service.adding.wishes import NOWHERE, Wishes
from service.explain.detect import FLOATS, Entry, element_types, entries
from service.manifest import Input

_LOOKUPS = ("Gather", "EmbedLayerNormalization")
_DISCRETE = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")


def found(draft: Draft, trial: Trial, wishes: Wishes) -> tuple[Draft, dict[str, str]]:
    """`explain.attribute_at` of each discrete input that has a place; the draft notes those that have none.

    Raises NotAdded: `--attribute-at` names no float tensor of the graph, or there are several places and none was named.
    """
    types = element_types(draft.model)
    asked = dict(wishes.attribute_at)
    discrete = [i for i in draft.inputs if i.dtype in _DISCRETE]
    _check_asked(asked, draft, types)
    has_lookup = any(entry.operator in _LOOKUPS for i in discrete for entry in entries(draft.model, i.name, types))
    at: dict[str, str] = {}
    for declared in discrete:
        possible = entries(draft.model, declared.name, types)
        fitting = _fitting(draft, trial, declared, possible)
        if declared.name in asked:
            if asked[declared.name] != NOWHERE:
                at[declared.name] = asked[declared.name]
        elif has_lookup and _is_mask(declared, fitting):
            tensor = fitting[0].tensor
            draft = draft.noted(
                f"input {declared.name!r} is a mask and gets no attributions; with --attribute-at {declared.name}={tensor} it does"
            )
        elif len(fitting) == 1:
            at[declared.name] = fitting[0].tensor
        elif fitting:
            raise NotAdded(
                f"input {declared.name!r} becomes floats in {len(fitting)} places: {_listed(fitting)}. Say where it is attributed, "
                f"--attribute-at {declared.name}={fitting[0].tensor}, or {declared.name}={NOWHERE}"
            )
        else:
            draft = draft.noted(_why_not(declared, possible))
    return draft, at


def _is_mask(declared: Input, fitting: Sequence[Entry]) -> bool:
    """Whether an input beside token ids only says which of them count."""
    return "mask" in declared.name.lower() and bool(fitting) and all(entry.operator == "Cast" for entry in fitting)


def _check_asked(asked: dict[str, str], draft: Draft, types: dict[str, int]) -> None:
    names = [i.name for i in draft.inputs]
    made = {output for node in draft.model.graph.node for output in node.output}
    for name, tensor in asked.items():
        if name not in names:
            raise NotAdded(f"--attribute-at {name}={tensor}: there is no such input; there are: {', '.join(names)}")
        if tensor == NOWHERE:
            continue
        if tensor not in made:
            near = _listed(entries(draft.model, name, types)) or "none found"
            raise NotAdded(f"--attribute-at {name}={tensor}: the graph makes no such tensor; where {name!r} becomes floats: {near}")
        if types.get(tensor) not in (None, *FLOATS):
            raise NotAdded(f"--attribute-at {name}={tensor}: that tensor holds no floats")


def _fitting(draft: Draft, trial: Trial, declared: Input, possible: Sequence[Entry]) -> list[Entry]:
    """Those whose values lie as the input's do, so that each attribution belongs to a value of the input."""
    if not possible or not trial.feeds:
        return list(possible)
    wanted = trial.feeds[declared.name].shape
    shapes = tensor_shapes(draft, trial, [entry.tensor for entry in possible])
    return [entry for entry in possible if shapes[entry.tensor][: len(wanted)] == wanted]


def _why_not(declared: Input, possible: Sequence[Entry]) -> str:
    if not possible:
        return f"input {declared.name!r} ({declared.dtype}) gets no gradients: its values never become floats, they only choose"
    return (
        f"input {declared.name!r} ({declared.dtype}) gets no gradients: where it becomes floats ({_listed(possible)}) its values lie in "
        "another order or number than it has them"
    )


def _listed(places: Sequence[Entry]) -> str:
    return ", ".join(f"{place.tensor} ({place.operator})" for place in places)
