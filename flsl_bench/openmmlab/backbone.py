"""The plain ViT with its feature pyramid as an OpenMMLab backbone."""

import logging
from collections.abc import Sequence

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from flsl_bench.backbones.pyramids import RescalePyramid, SimplePyramid
from flsl_bench.backbones.vit import VisionTransformer
from flsl_bench.checkpoints import ARCHITECTURES, Checkpoint, load_checkpoint
from flsl_bench.errors import CheckpointError, ConfigError

PYRAMIDS = {"rescale": RescalePyramid, "simple": SimplePyramid, "none": None}


@MODELS.register_module()
class PlainViT(BaseModule):
    """A plain ViT whose `forward` gives one map a pyramid level, for mmdet and mmseg.

    Args:
        arch: "tiny", "small", "base", "large", or a dict with embed_dim, depth and num_heads.
        patch_size: side of a patch in pixels.
        num_heads: overrides the architecture's number of attention heads.
        force_heads: accept `num_heads` even where the checkpoint's own metadata contradict it (for reproducing
            configs released with the wrong number).
        taps: blocks (0-based) whose outputs are used.
        norm_taps: whether the final LayerNorm is applied to each tap.
        pyramid: "rescale" (FLSL, SelfPatch; four taps), "simple" (ViTDet; the last tap) or "none" (all taps at the
            patch stride).
        frozen_stages: -1 trains all, 0 freezes the embeddings, k also the first k blocks, the ViT's depth all of it.
        init_cfg: dict(type="Pretrained", checkpoint=FILE), read by `flsl_bench.checkpoints`, or None for random
            weights.
        vit: further arguments of `VisionTransformer`: prefix tokens, drop path, position rule, recompute, ...
    """

    def __init__(
        self,
        arch: str | dict = "small",
        patch_size: int = 16,
        num_heads: int | None = None,
        force_heads: bool = False,
        taps: Sequence[int] = (3, 5, 7, 11),
        norm_taps: bool = False,
        pyramid: str = "rescale",
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
        **vit,
    ):
        super().__init__(init_cfg)
        sizes = architecture_sizes(arch)
        if num_heads is not None:
            sizes["num_heads"] = num_heads
        self.force_heads = force_heads
        self.vit = VisionTransformer(**{**sizes, "patch_size": patch_size, **vit})
        self.taps = self.vit.check_blocks(taps)
        self.norm_taps = norm_taps
        self.frozen_stages = frozen_stages
        self.pyramid = self._pyramid(pyramid)
        self._freeze()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images [B, 3, H, W] to maps [B, C, ceil(H / stride), ceil(W / stride)], finest first."""
        maps = self.vit(images, self.taps, norm=self.norm_taps)
        if self.pyramid is None:
            return tuple(maps)
        height, width = images.shape[-2:]
        return tuple(
            level[..., : _ceil_div(height, stride), : _ceil_div(width, stride)]
            for level, stride in zip(self.pyramid(maps), self.pyramid.strides, strict=True)
        )

    def init_weights(self) -> None:
        """Load the pretrained checkpoint of `init_cfg` completely, or raise; without one keep random weights."""
        if self._is_init:
            return
        if self.init_cfg is None:
            print_log("PlainViT starts from random weights: no init_cfg was given", "current", logging.WARNING)
        else:
            self.load_pretrained(self._read_checkpoint())
        self._is_init = True

    def load_pretrained(self, checkpoint: Checkpoint) -> None:
        """Fill the ViT with a checkpoint's weights.

        Raises:
            CheckpointError: a weight is missing, left over or of another shape, or the heads disagree.
        """
        own = self.vit.state_dict()
        given = checkpoint.state_dict
        problems = [f"missing {k}" for k in own if k not in given] + [f"left over {k}" for k in given if k not in own]
        problems += [
            f"{k} is {list(given[k].shape)} where the config needs {list(own[k].shape)}"
            for k in own
            if k in given and own[k].shape != given[k].shape
        ]
        if problems:
            more = f" and {len(problems) - 6} more" if len(problems) > 6 else ""
            raise CheckpointError(
                f"{checkpoint.facts.path}: does not fit the config's backbone: {'; '.join(problems[:6])}{more}; set "
                f"arch, patch_size and prefix tokens in model.backbone as `flsl-bench checkpoint inspect` shows them"
            )
        self.vit.load_state_dict(given)
        facts = checkpoint.facts
        print_log(
            f"Loaded {facts.path} ({facts.format}, {facts.architecture.name}, {facts.matched_keys} weights, heads "
            f"{facts.architecture.num_heads} from {facts.heads_source})",
            "current",
        )

    def train(self, mode: bool = True) -> "PlainViT":
        super().train(mode)
        self._freeze()
        return self

    def get_layer_depth(self, name: str) -> tuple[int, int]:
        """Depth of the parameter `name` (0: embeddings, 1..depth: blocks) and the number of layers, depth + 2."""
        layers = self.vit.depth + 2
        if name.startswith("vit.blocks."):
            return int(name.split(".")[2]) + 1, layers
        if name.startswith(("vit.cls_token", "vit.register_tokens", "vit.pos_embed", "vit.patch_embed")):
            return 0, layers
        return layers - 1, layers

    def _read_checkpoint(self) -> Checkpoint:
        path = self.init_cfg.get("checkpoint")
        if self.init_cfg.get("type") != "Pretrained" or not path:
            raise ConfigError(
                f"model.backbone.init_cfg is {self.init_cfg}: use dict(type='Pretrained', checkpoint=FILE)"
            )
        return load_checkpoint(
            path,
            branch=self.init_cfg.get("branch"),
            num_heads=self.vit.num_heads,
            class_token=self.vit.cls_token is not None,
            force_heads=self.force_heads,
        )

    def _pyramid(self, name: str) -> nn.Module | None:
        if name not in PYRAMIDS:
            raise ConfigError(f"model.backbone.pyramid {name!r} is none of {', '.join(PYRAMIDS)}")
        kind = PYRAMIDS[name]
        if kind is RescalePyramid and len(self.taps) != 4:
            raise ConfigError(f"the 'rescale' pyramid takes four taps, not {self.taps}")
        return kind(self.vit.embed_dim, self.vit.patch_size) if kind else None

    def _freeze(self) -> None:
        vit = self.vit
        frozen = list(vit.blocks[: max(self.frozen_stages, 0)])
        if self.frozen_stages >= 0:
            frozen.append(vit.patch_embed)
            for token in (vit.cls_token, vit.register_tokens, vit.pos_embed):
                if token is not None:
                    token.requires_grad_(False)
        for module in frozen:
            module.eval()
        # What no output depends on gets no gradient, which DistributedDataParallel would wait for in vain.
        frozen.extend(vit.blocks[self.taps[-1] + 1 :])
        if not self.norm_taps or self.frozen_stages >= vit.depth:
            frozen.append(vit.norm)
        for module in frozen:
            module.requires_grad_(False)


def architecture_sizes(arch: str | dict) -> dict[str, int]:
    """embed_dim, depth and num_heads of a named architecture ("small" or "vit_small"), or a copy of a dict of sizes."""
    if isinstance(arch, dict):
        return dict(arch)
    sizes = ARCHITECTURES.get(arch) or ARCHITECTURES.get(f"vit_{arch}")
    if sizes is None:
        names = ", ".join(name.removeprefix("vit_") for name in ARCHITECTURES)
        raise ConfigError(f"unknown architecture {arch!r}: use one of {names}, or a dict of sizes")
    return sizes._asdict()


def _ceil_div(side: int, stride: float) -> int:
    return int(-(-side // stride))
