"""XRAI: which regions of a picture matter, from integrated gradients of its pixels (Kapishnikov et al. 2019,
https://arxiv.org/abs/1906.02825).

Integrated gradients from a black and a white picture, averaged, so that neither dark nor light areas are blind spots. Regions
are areas of segmentations at several scales, each a little dilated. They are taken one after the other, the next being the one
whose pixels that are not yet taken have the largest mean attribution; these get that mean. So sums are kept, and the map ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from service.errors import NotExplainable
from service.explain.attribution import path
from service.explain.attribution.found import Found
from service.explain.cancel import Token
from service.explain.case import Case
from service.explain.features import picture
from service.explain.methods.table import find
from service.manifest import Input

Array = NDArray[Any]
SCALES = (50, 100, 150, 250, 500, 1200)
"""Of the segmentations, the authors' own."""
SIDE = 224
"""Of the pictures that the authors' sizes are for; others' are scaled."""
SMALLEST, DILATION, FRESH = 20, 5, 50
"""Pixels: of an area; by which it grows; of a region that are not yet taken, for it to be worth taking."""


def run(case: Case) -> Found:
    """Raises NotExplainable for a model without a picture."""
    images = [entry for entry in case.subject.manifest.inputs if entry.image and entry.name in case.subject.at]
    if not images:
        raise NotExplainable("XRAI is for pictures, and none of the model's inputs is one")
    parts = [path.run(part) for part in _cases(case, images)]
    attributions = {name: np.asarray(sum(part.attributions[name] for part in parts)) / len(parts) for name in parts[0].attributions}
    counts = {}
    for entry in images:
        regions = _regions(case.feeds[entry.name][0], entry)
        by_pixel = _channels(attributions[entry.name], entry).sum(-1)  # (H, W)
        ranked, counts[entry.name] = _ranked(by_pixel, regions, case.token)
        attributions[entry.name] = _as_input(ranked, attributions[entry.name].shape, entry)
    return Found(
        {name: np.asarray(array, np.float32) for name, array in attributions.items()},
        steps=sum(part.steps for part in parts),
        rows=sum(part.rows for part in parts),
        timed_out=any(part.timed_out for part in parts),
        baseline=[part.baseline for part in parts],
        baseline_output=float(np.mean([part.baseline_output for part in parts])),
        parameters=dict(parts[0].parameters) | {"regions": counts if len(counts) > 1 else next(iter(counts.values()))},
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
    )


def _cases(case: Case, images: list[Input]) -> Iterator[Case]:
    """Integrated gradients from the request's baseline, else from black and from white pictures."""
    request = replace(case.request, method=find("integrated_gradients"))
    own = request.parameters.baseline  # type: ignore[attr-defined]  # the table says so
    ends = [_span(case, entry) for entry in images]
    chosen = (
        [own] if own is not None or request.baseline else [{e.name: end[i] for e, end in zip(images, ends, strict=True)} for i in (0, 1)]
    )
    for baseline in chosen:
        asked = replace(request, parameters=request.parameters.model_copy(update={"baseline": baseline}))
        yield Case(case.subject, asked, case.feeds, case.target, case.token, case.memory)


def _span(case: Case, entry: Input) -> tuple[float, float]:
    x = case.feeds[entry.name]
    return entry.range or (float(x.min()), float(x.max()))


def _channels(array: Array, entry: Input) -> Array:
    """(H, W, C)"""
    assert entry.image is not None
    return array if entry.image.layout == "NHWC" else array.transpose(1, 2, 0)


def _as_input(by_pixel: Array, shape: tuple[int, ...], entry: Input) -> Array:
    """A pixel's attribution divided among its channels."""
    assert entry.image is not None
    return picture.of_elements(by_pixel / entry.image.channels, np.empty(shape), entry.image)


@dataclass(frozen=True, slots=True, eq=False)
class _Regions:
    """Areas of a picture, which overlap."""

    pixels: sparse.csr_array
    """(regions, H * W), 1 where a pixel belongs to a region."""
    fresh: int
    """Pixels not yet taken that make a region worth taking."""


def _regions(x: Array, entry: Input) -> _Regions:
    assert entry.image is not None
    height, width = entry.image.height, entry.image.width
    part = height * width / SIDE**2
    grow = max(1, round(DILATION * max(height, width) / SIDE))
    disk = np.hypot(*np.mgrid[-grow : grow + 1, -grow : grow + 1]) <= grow
    rows: list[Array] = []
    columns: list[Array] = []
    for scale in SCALES:
        labels = picture.areas(x, entry, scale, max(2, round(SMALLEST * part)))
        for number, box in enumerate(ndimage.find_objects(labels + 1)):
            wider = tuple(slice(max(0, b.start - grow), b.stop + grow) for b in box)
            inside = ndimage.binary_dilation(labels[wider] == number, disk)
            places = np.ravel_multi_index(tuple(i + s.start for i, s in zip(np.nonzero(inside), wider, strict=True)), labels.shape)
            rows.append(np.full(len(places), len(rows)))
            columns.append(places)
    at = (np.concatenate(rows), np.concatenate(columns))
    matrix = sparse.csr_array((np.ones(len(at[0]), np.float64), at), shape=(len(rows), height * width))
    return _Regions(matrix, max(1, round(FRESH * part)))


def _ranked(by_pixel: Array, regions: _Regions, token: Token) -> tuple[Array, int]:
    """The mean attribution of the region by which each pixel was taken, (H, W), and how many regions that were."""
    values = by_pixel.reshape(-1)
    by_column = regions.pixels.tocsc()
    sums, sizes = regions.pixels @ values, regions.pixels @ np.ones_like(values)
    free = np.ones(len(values), bool)
    ranked = np.zeros_like(values)
    taken = 0
    while (worth := sizes >= regions.fresh).any():
        token.check()
        best = int(np.argmax(np.where(worth, sums / np.maximum(sizes, 1), -np.inf)))
        members = regions.pixels.indices[regions.pixels.indptr[best] : regions.pixels.indptr[best + 1]]
        new = members[free[members]]
        ranked[new] = values[new].mean()
        free[new] = False
        taken += 1
        touched = by_column[:, new]
        sums, sizes = sums - touched @ values[new], np.rint(sizes - touched @ np.ones(len(new)))
    if free.any():
        ranked[free] = values[free].mean()
    return ranked.reshape(by_pixel.shape), taken
