"""Feature pyramids on the single-scale maps of a plain ViT."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from flsl_bench.errors import ConfigError


class RescalePyramid(nn.Module):
    """FLSL's and SelfPatch's pyramid: the four taps rescaled to strides 4, 8, 16 and 32, no new channels.

    Four maps [B, C, h, w] of one stride become [B, C, ...] at strides 4, 8, 16, 32. Published for patch 16 and 8
    (alinlab/SelfPatch, detection/mmdet/models/backbones).
    """

    strides = (4, 8, 16, 32)

    def __init__(self, dim: int, patch_size: int):
        super().__init__()
        if patch_size not in (8, 16):
            raise ConfigError(f"the 'rescale' pyramid is defined for patch 16 and 8, not {patch_size}: use 'simple'")
        self.levels = nn.ModuleList(_rescaling(dim, patch_size / stride) for stride in self.strides)
        self.out_channels = dim

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [level(m) for level, m in zip(self.levels, maps, strict=True)]


class SimplePyramid(nn.Module):
    """ViTDet's simple feature pyramid (arXiv 2203.16527, section 3): every level from the last map alone.

    The last map [B, C, h, w] becomes five maps [B, out_channels, ...] at 4, 2, 1, 1/2 and 1/4 times its resolution
    (strides 4 to 64 for patch 16), each but the last after a 1x1 and a 3x3 convolution with LayerNorm.
    """

    def __init__(self, dim: int, patch_size: int, out_channels: int = 256):
        super().__init__()
        self.strides = tuple(patch_size / scale for scale in (4, 2, 1, 0.5, 0.25))
        self.levels = nn.ModuleList(
            nn.Sequential(scaling, *_output_convolutions(channels, out_channels))
            for scaling, channels in [
                (_upscale4_layernorm(dim), dim // 4),
                (nn.ConvTranspose2d(dim, dim // 2, 2, 2), dim // 2),
                (nn.Identity(), dim),
                (nn.MaxPool2d(2, ceil_mode=True), dim),
            ]
        )
        self.top = nn.MaxPool2d(1, stride=2)
        self.out_channels = out_channels

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = [level(maps[-1]) for level in self.levels]
        return [*levels, self.top(levels[-1])]


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images [B, C, H, W] of all processes, on GPUs and CPUs alike.

    PyTorch's own SyncBatchNorm refuses the CPU, and so does DistributedDataParallel for a model that holds one. This
    one reduces mean and variance by differentiable all-reduces; in one process it is plain batch normalisation.
    """

    def forward(self, x: Tensor) -> Tensor:
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not self.training or not several:
            return super().forward(x)
        x32 = x.float()
        count = x32.new_full((1,), x.numel() / x.shape[1])
        total, count = all_reduce(torch.cat([x32.sum((0, 2, 3)), count])).split([x.shape[1], 1])
        mean = total / count
        centred = x32 - mean.view(1, -1, 1, 1)
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, C, H, W], as ViTDet uses."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _rescaling(dim: int, scale: float) -> nn.Module:
    if scale == 4:
        # Plain indices and no `norm` in the names: the published no-decay rule on `norm` spares the ViT's
        # LayerNorms only.
        return nn.Sequential(
            nn.ConvTranspose2d(dim, dim, 2, 2), SyncBatchNorm(dim), nn.GELU(), nn.ConvTranspose2d(dim, dim, 2, 2)
        )
    if scale == 2:
        return nn.ConvTranspose2d(dim, dim, 2, 2)
    if scale == 1:
        return nn.Identity()
    # ceil_mode keeps the last row or column of an odd grid; for the papers' padded images it changes nothing.
    return nn.MaxPool2d(int(1 / scale), ceil_mode=True)


def _upscale4_layernorm(dim: int) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(dim, dim // 2, 2, 2),
        ChannelLayerNorm(dim // 2, eps=1e-6),
        nn.GELU(),
        nn.ConvTranspose2d(dim // 2, dim // 4, 2, 2),
    )


def _output_convolutions(channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out_channels, 1, bias=False),
        ChannelLayerNorm(out_channels, eps=1e-6),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        ChannelLayerNorm(out_channels, eps=1e-6),
    ]
