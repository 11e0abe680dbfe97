"""Semi-supervised video object segmentation by label propagation through frozen features, as DINO scores DAVIS 2017.

Each frame's patches take the labels of the most similar patches in the first and in the last few frames. Source: the
protocol of Jabri et al. (arXiv 2006.14613) with the values of DINO (arXiv 2104.14294), whose script is
`eval_video_segmentation.py`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from flsl_bench.backbones.vit import VisionTransformer
from flsl_bench.datasets.davis import VOID_ID
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.probes.video_features import FrameFeatures
from flsl_bench.probes.windowed_top_k import BandedMemory, TiledMemory, window_reach

Progress = Callable[[int, int], None]

WINDOW_SHAPES = ("square", "circle")


@dataclass(frozen=True)
class Propagation:
    """The protocol; the defaults are the published values. Raises `ConfigError` for values that mean nothing."""

    last_frames: int = 7
    """Context frames besides the first one, which is always there."""
    window: int = 12
    """How far a patch looks around its own place in each context frame, in patches."""
    window_shape: str = "square"
    """"square": |dx| and |dy| up to `window`; "circle": distance up to `window`."""
    top_k: int = 5
    """Context patches that count, over all context frames together; all that tie with the last one count too."""
    temperature: float = 0.1
    short_side: int = 480
    """Pixels; frames are resized to it."""
    size_multiple: int = 64
    """The long side is rounded down to a multiple of it."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.228, 0.224, 0.225)
    """RGB of images in [0, 1]; 0.228 is as published, where ImageNet's is 0.229."""

    def __post_init__(self):
        least = {"last_frames": 0, "window": 0, "top_k": 1, "short_side": 1, "size_multiple": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"{name}={getattr(self, name)}: give {value} or more")
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature}: give a number above 0")
        if self.window_shape not in WINDOW_SHAPES:
            raise ConfigError(f"window_shape={self.window_shape!r} is none of {', '.join(WINDOW_SHAPES)}")


def propagate(features: Iterable[Tensor], first_labels: Tensor, options: Propagation | None = None) -> Iterator[Tensor]:
    """Soft label maps [h, w, O + 1] of the second and all later frames, as `features` comes along.

    Args:
        features: a map [C, h, w] a frame, of any length; they are computed with in float32 on their device.
        first_labels: [h, w, O + 1] of the first frame, one-hot or soft, background first.
        options: the protocol, by default the published one.

    Memory holds the context frames only. On the CPU the result does not depend on the number of threads.
    Raises `DataError` for features that are not finite and for maps of different sizes.
    """
    options = options or Propagation()
    memory = None
    for t, feature in enumerate(features):
        unit = _unit(feature, first_labels.shape[:2], t)
        if memory is None:
            memory = _memory(unit, first_labels.shape[-1], options)
            memory.write(0, unit, first_labels.to(unit))
            continue
        soft = memory.read(unit)
        if options.last_frames:
            memory.write(1 + (t - 1) % options.last_frames, unit, soft)
        yield soft


def label_map(mask: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """A mask of object ids [H, W] as one-hot labels [h, w, O + 1] in float32, down-sampled to the grid by nearest.

    O is the largest id of the full-size mask. Void (255) counts as background.
    """
    ids = np.where(mask == VOID_ID, 0, mask).astype(np.uint8)
    small = Image.fromarray(ids).resize(grid[::-1], Image.Resampling.NEAREST)
    return F.one_hot(torch.from_numpy(np.array(small, dtype=np.int64)), int(ids.max(initial=0)) + 1).float()


def to_ids(soft: Tensor, patch_size: int, out_size: tuple[int, int]) -> np.ndarray:
    """Object ids uint8 [H, W] = `out_size` of a soft label map [h, w, O + 1].

    Bilinear up-sampling by the patch size, each class stretched to [0, 1], argmax (the lower id of equals), nearest to
    `out_size`.
    """
    scores = F.interpolate(soft.permute(2, 0, 1)[None], scale_factor=patch_size, mode="bilinear", align_corners=False)
    # `max` and not `argmax`, which takes thirty times as long over the first dimension on the CPU.
    ids = _stretched(scores[0]).max(dim=0).indices.to(torch.uint8).cpu().numpy()
    return np.array(Image.fromarray(ids).resize(out_size[::-1], Image.Resampling.NEAREST))


def propagate_sequence(
    vit: VisionTransformer,
    frames: Sequence[str | os.PathLike],
    first_mask: np.ndarray,
    options: Propagation | None = None,
    *,
    device: str | torch.device = "cpu",
    batch: int | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """The index and the object ids uint8 [H, W] of every frame, the first one as given.

    Args:
        vit: moved to `device` and set to evaluation.
        frames: image files in order.
        first_mask: object ids uint8 [H, W] of the first; 255 is void.
        options: the protocol, by default the published one.
        device, batch, dtype: see `FrameFeatures`.
        progress: called with the frames done and the frames in all.

    Raises `DataError` for a frame that cannot be read and a mask that does not fit the first one, `ConfigError` for
    a frame size that the patch size does not divide.
    """
    options = options or Propagation()
    features = FrameFeatures(
        vit,
        frames,
        short_side=options.short_side,
        size_multiple=options.size_multiple,
        mean=options.mean,
        std=options.std,
        device=device,
        batch=batch,
        dtype=dtype,
    )
    if first_mask.shape != features.original_size:
        raise DataError(f"{frames[0]}: the frame is {features.original_size}, its mask {first_mask.shape} (H, W)")
    labels = label_map(first_mask, features.grid)
    report = progress or (lambda done, total: None)
    report(1, len(frames))
    yield 0, first_mask
    for t, soft in enumerate(propagate(features, labels, options), 1):
        ids = to_ids(soft, vit.patch_size, first_mask.shape)
        report(t + 1, len(frames))
        yield t, ids


def _unit(feature: Tensor, grid: tuple[int, int], t: int) -> Tensor:
    """[C, h, w] as [h, w, C] in float32, each patch of length one."""
    if feature.ndim != 3 or feature.shape[1:] != grid:
        raise DataError(f"frame {t}: features of shape {tuple(feature.shape)}, the labels' map is {tuple(grid)}")
    unit = F.normalize(feature.detach().permute(1, 2, 0).float(), dim=-1)
    if not bool(torch.isfinite(unit).all()):
        raise DataError(f"frame {t}: features are not finite; the weights are damaged, or half precision overflows")
    return unit


def _memory(unit: Tensor, classes: int, options: Propagation) -> TiledMemory | BandedMemory:
    rows, columns, channels = unit.shape
    reach = window_reach(rows, columns, options.window, options.window_shape)
    arguments = 1 + options.last_frames, (rows, columns), channels, classes, reach, options.top_k, options.temperature
    return TiledMemory(*arguments) if unit.device.type == "cpu" else BandedMemory(*arguments, unit.device)


def _stretched(scores: Tensor) -> Tensor:
    """Each class of [O + 1, H, W] stretched to [0, 1] where it is positive anywhere.

    A positive constant stretches to nothing but infinity: it wins everywhere, as the 0 / 0 of the published code does.
    """
    low, high = scores.flatten(1).aminmax(dim=1)
    span = (high - low)[:, None, None]
    low, high = low[:, None, None], high[:, None, None]
    stretched = torch.where(span > 0, (scores - low) / span, torch.inf)
    return torch.where(high > 0, stretched, scores)
