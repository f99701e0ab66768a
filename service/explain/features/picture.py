"""Features of a picture: superpixels of what the model sees, squares of a grid, or pixels; all channels of a pixel together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb, slic

from service.explain.features.blocks import blocks, elements
from service.explain.features.feature import numbered
from service.manifest import ImagePolicy, Input

Array = NDArray[Any]


def as_rgb(x: Array, declared: Input) -> Array:
    """A picture (..) in its input's layout as (H, W, 3), float64 0 to 1, by the range that the manifest tells, else by its own."""
    assert declared.image is not None
    pixels = np.asarray(x, np.float64)
    pixels = pixels if declared.image.layout == "NHWC" else pixels.transpose(1, 2, 0)
    low, high = declared.range or (pixels.min(), pixels.max())
    scaled = np.clip((pixels - low) / (high - low or 1.0), 0.0, 1.0)
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3)) if scaled.shape[2] == 1 else scaled


def superpixels(x: Array, declared: Input, count: int) -> Array:
    """About `count` areas of like colour (Achanta et al. 2012, doi:10.1109/TPAMI.2012.120), numbered (H, W)."""
    return numbered(slic(as_rgb(x, declared), n_segments=count, compactness=10, start_label=0))


def areas(x: Array, declared: Input, scale: float, smallest: int) -> Array:
    """Areas by their edges (Felzenszwalb and Huttenlocher 2004, doi:10.1023/B:VISI.0000022288.19776.77), numbered (H, W)."""
    return numbered(felzenszwalb(as_rgb(x, declared), scale=scale, sigma=0.8, min_size=smallest))


def squares(policy: ImagePolicy, count: int) -> Array:
    """At most `count` squares, numbered (H, W)."""
    return blocks((policy.height, policy.width), count)


def pixels(policy: ImagePolicy) -> Array:
    return elements((policy.height, policy.width))


def of_elements(numbers: Array, x: Array, policy: ImagePolicy) -> Array:
    """Numbers of pixels (H, W) as those of the elements of `x` (..), in the picture's layout."""
    return np.broadcast_to(numbers[:, :, None] if policy.layout == "NHWC" else numbers, x.shape)
