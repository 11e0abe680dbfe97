"""Label propagation side by side with a plain port of the published algorithm: seconds a frame, ratios, equal pixels.

    python benchmarks/davis_propagation.py                         # random ViT-S/16, frames drawn by the script
    python benchmarks/davis_propagation.py --patch-size 8 --frames 4 --rounds 1
    python benchmarks/davis_propagation.py --checkpoint dino.pth --num-heads 6 --davis-root DAVIS --sequence libby

The port follows the description of DINO's `eval_video_segmentation.py`: one frame at a time, attention as
softmax(q @ k^T) @ v, the dense affinity of all patches with all context patches, exponential and window over all of it,
top-k over the dense matrix. Both sides take turns over the clip; of each frame the fastest round counts, of these the
median over the clip.
"""

import argparse
import copy
import math
import platform
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from flsl_bench.backbones.vit import VisionTransformer
from flsl_bench.checkpoints import ARCHITECTURES, load_checkpoint
from flsl_bench.datasets import davis
from flsl_bench.errors import FlslBenchError
from flsl_bench.probes.label_propagation import Propagation, label_map, propagate, to_ids
from flsl_bench.probes.video_features import FrameFeatures

PUBLISHED = Propagation()
STEPS = ("ViT", "propagation")


class PlainAttention(nn.Module):
    """The attention of a block with its matrix of N x N weights written out."""

    def __init__(self, fused: nn.Module):
        super().__init__()
        self.heads, self.qkv, self.proj = fused.num_heads, fused.qkv, fused.proj

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, count, width))


class Port:
    """The published algorithm with dense matrices."""

    def __init__(self, vit: VisionTransformer, first_mask: np.ndarray, device: torch.device):
        self.vit = copy.deepcopy(vit).to(device).eval()
        for block in self.vit.blocks:
            block.attn = PlainAttention(block.attn)
        self.device, self.first_mask = device, first_mask
        self.recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=PUBLISHED.last_frames)
        self.first: tuple[Tensor, Tensor] | None = None
        self.window: Tensor | None = None

    @torch.no_grad()
    def features(self, path: Path) -> Tensor:
        """Unit features [C, h, w] of a frame."""
        image = cv2.imread(str(path))
        width = image.shape[1] * PUBLISHED.short_side // image.shape[0] // 64 * 64
        image = cv2.resize(image, (width, PUBLISHED.short_side)).astype(np.float32)[:, :, ::-1] / 255
        image = (image - np.float32(PUBLISHED.mean)) / np.float32(PUBLISHED.std)
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None]).to(self.device)
        return F.normalize(self.vit(image)[0][0], dim=0)

    @torch.no_grad()
    def step(self, features: Tensor) -> np.ndarray:
        """Object ids of the next frame [H, W]; the first call only remembers the first frame."""
        channels, h, w = features.shape
        flat = features.reshape(channels, h * w)
        if self.first is None:
            labels = label_map(self.first_mask, (h, w)).to(self.device)
            self.first = flat, labels.reshape(h * w, -1).t()
            self.window = self._neighbours(h, w)
            return self.first_mask
        context = [self.first, *self.recent]
        keys = F.normalize(torch.stack([features for features, _ in context]), dim=1)  # anew for each frame, [F, C, N]
        queries = flat.t()[None].repeat(len(context), 1, 1)
        affinity = torch.exp(torch.bmm(queries, keys) / PUBLISHED.temperature)  # [F, N, N]
        affinity = (affinity * self.window).transpose(1, 2).reshape(-1, h * w)  # [F * N, N]
        least = affinity.topk(PUBLISHED.top_k, dim=0).values.min(dim=0).values
        affinity[affinity < least] = 0
        affinity = affinity / affinity.sum(dim=0, keepdim=True)
        soft = torch.cat([labels for _, labels in context], dim=1) @ affinity  # [O + 1, N]
        self.recent.append((flat, soft))
        return self._ids(soft.reshape(-1, h, w))

    def _ids(self, soft: Tensor) -> np.ndarray:
        scores = F.interpolate(soft[None], scale_factor=self.vit.patch_size, mode="bilinear", align_corners=False)[0]
        for k in range(len(scores)):
            if scores[k].max() > 0:
                scores[k] = scores[k] - scores[k].min()
                scores[k] = scores[k] / scores[k].max()
        ids = scores.max(dim=0).indices.cpu().numpy().astype(np.uint8)
        return np.array(Image.fromarray(ids).resize(self.first_mask.shape[::-1], Image.Resampling.NEAREST))

    def _neighbours(self, h: int, w: int) -> Tensor:
        y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
        near = [(axis[:, None] - axis).abs() <= PUBLISHED.window for axis in (y, x)]
        return (near[0] & near[1]).float().to(self.device)


def draw_frames(folder: Path, frames: int, objects: int = 2) -> tuple[list[Path], np.ndarray]:
    """Textured ellipses that move over a textured ground, as JPEGs of 854x480, and the first mask."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 255, (60, 107, 3), dtype=np.uint8), (854, 480), interpolation=cv2.INTER_CUBIC)
    textures = [rng.integers(0, 255, (480, 854, 3), dtype=np.uint8) // 2 + 100 * (k % 2) for k in range(objects)]
    start, speed = rng.uniform((200, 120), (650, 360), (objects, 2)), rng.uniform(-6, 6, (objects, 2))
    paths, first = [], np.zeros((480, 854), np.uint8)
    for t in range(frames):
        image = ground.copy()
        for k in range(objects):
            mask = np.zeros((480, 854), np.uint8)
            x, y = np.round(start[k] + t * speed[k]).astype(int).tolist()
            cv2.ellipse(mask, (x, y), (100, 70), 20, 0, 360, 1, -1)
            image[mask > 0] = textures[k][mask > 0]
            if t == 0:
                first[mask > 0] = k + 1
        paths.append(folder / f"{t:05d}.jpg")
        cv2.imwrite(str(paths[-1]), image)
    return paths, first


class Run:
    """Masks of the frames after the first, and seconds a frame of both steps; the first frame is the warm-up."""

    def __init__(self, device: torch.device):
        self.device = device
        self.times: dict[str, list[float]] = {step: [] for step in STEPS}
        self.masks: list[np.ndarray] = []

    def timed(self, step: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        outcome = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.times[step].append(time.perf_counter() - begun)
        return outcome


def run_ours(vit: VisionTransformer, frames: list[Path], mask: np.ndarray, device: torch.device) -> Run:
    run, queue = Run(device), deque()
    sizes = {"short_side": PUBLISHED.short_side, "size_multiple": PUBLISHED.size_multiple}
    features = FrameFeatures(vit, frames, **sizes, mean=PUBLISHED.mean, std=PUBLISHED.std, device=device, batch=1)
    softs = propagate(_arriving(queue), label_map(mask, features.grid), PUBLISHED)
    coming = iter(features)
    queue.append(next(coming))
    for _ in frames[1:]:
        queue.append(run.timed("ViT", lambda: next(coming)))
        ids = run.timed("propagation", lambda: to_ids(next(softs), vit.patch_size, mask.shape))
        run.masks.append(ids)
    return run


def run_port(vit: VisionTransformer, frames: list[Path], mask: np.ndarray, device: torch.device) -> Run:
    run, port = Run(device), Port(vit, mask, device)
    port.step(port.features(frames[0]))
    for frame in frames[1:]:
        features = run.timed("ViT", lambda frame=frame: port.features(frame))
        run.masks.append(run.timed("propagation", lambda features=features: port.step(features)))
    return run


def _arriving(queue: deque[Tensor]) -> Iterator[Tensor]:
    while True:
        yield queue.popleft()


def compare(
    vit: VisionTransformer, frames: list[Path], mask: np.ndarray, device: torch.device, rounds: int, port: bool
) -> None:
    """Print seconds a frame of both sides, their ratios, and the share of equal pixels."""
    run_ours(vit, frames[:2], mask, device)  # compiles the loops
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(run_ours(vit, frames, mask, device))
        if port:
            theirs.append(run_port(vit, frames, mask, device))
    print(f"ViT {vit.embed_dim}x{vit.depth}, patch {vit.patch_size}; {len(frames)} frames, {rounds} rounds")
    print(f"seconds a frame           {'ViT':>8}  {'propagation':>11}  {'together':>8}")
    mine = _row("flsl_bench", ours)
    if port:
        published = _row("published, plain port", theirs)
        ratios = [b / a for a, b in zip(mine, published, strict=True)]
        print(f"ratio                     {ratios[0]:8.1f}  {ratios[1]:11.1f}  {ratios[2]:8.1f}")
        equal = [100 * float(np.mean(a == b)) for a, b in zip(ours[0].masks, theirs[0].masks, strict=True)]
        print(f"equal pixels: {min(equal):.4f} % in the worst frame, {statistics.fmean(equal):.4f} % on average")


def _row(name: str, runs: list[Run]) -> list[float]:
    fastest = {step: map(min, *(run.times[step] for run in runs), repeat(math.inf)) for step in STEPS}
    medians = [statistics.median(fastest[step]) for step in STEPS]
    print(f"{name:24}  {medians[0]:8.3f}  {medians[1]:11.3f}  {sum(medians):8.3f}")
    return [*medians, sum(medians)]


def backbone(options: argparse.Namespace) -> VisionTransformer:
    if options.checkpoint:
        checkpoint = load_checkpoint(options.checkpoint, num_heads=options.num_heads)
        vit = VisionTransformer(**asdict(checkpoint.facts.architecture))
        vit.load_state_dict(checkpoint.state_dict)
        return vit
    torch.manual_seed(0)
    size, side = ARCHITECTURES[options.arch], 224 // options.patch_size
    return VisionTransformer(*size, patch_size=options.patch_size, position_grid=(side, side))


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_small", choices=ARCHITECTURES, help="of the random backbone")
    parser.add_argument("--patch-size", type=int, default=16, help="of the random backbone")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--num-heads", type=int, help="of the checkpoint, where it does not say")
    parser.add_argument("--davis-root", type=Path)
    parser.add_argument("--sequence", default="blackswan")
    parser.add_argument("--frames", type=int, default=12, help="2 or more")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--without-port", action="store_true", help="time only flsl_bench")
    options = parser.parse_args()
    if options.frames < 2 or options.rounds < 1:
        parser.error("give 2 frames and 1 round, or more")
    device = torch.device(options.device)
    print(f"{device_name(device)}; torch {torch.__version__}")
    try:
        vit = backbone(options)
        if options.davis_root:
            sequence = davis.sequence(options.davis_root, options.sequence)
            frames, mask = sequence.images()[: options.frames], sequence.first_mask()
            compare(vit, frames, mask, device, options.rounds, not options.without_port)
        else:
            with tempfile.TemporaryDirectory() as folder:
                frames, mask = draw_frames(Path(folder), options.frames)
                compare(vit, frames, mask, device, options.rounds, not options.without_port)
    except FlslBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
