"""The plain Vision Transformer (arXiv 2010.11929), as DINO, FLSL, iBOT, MAE, MoCo v3, DINOv2 and timm pretrain it.

Parameter names are DINO's and timm's, so that a state dict read by `flsl_bench.checkpoints` fits as it is.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flsl_bench.backbones.positions import RULES, fit_positions, sincos_positions
from flsl_bench.errors import ConfigError

FACETS = ("query", "key", "value")
"""What a block's attention makes of its input, in the order of the rows of its `qkv` matrix."""


class VisionTransformer(nn.Module):
    """A ViT that gives the tokens after any of its blocks, for images of any size.

    Args:
        embed_dim, depth, num_heads, patch_size, mlp_ratio, qkv_bias, norm_eps: the usual sizes.
        class_token: whether a CLS token leads the sequence (False for FLSL and SelfPatch).
        class_token_position: whether `pos_embed` has an entry for it.
        num_registers: register tokens between CLS and the patches (DINOv2-reg); they carry no position.
        layer_scale: whether each residual branch has a learned gain per channel (DINOv2, DeiT-3).
        position_grid: rows and columns of the patch position table.
        positions: "learned", or "fixed" (sin-cos unless a checkpoint fills it; never trained).
        position_rule: how the table is fitted to other image sizes, see `positions.fit_positions`.
        drop_path: stochastic depth rate of the last block; it grows linearly from 0 at the first.
        recompute: trade time for memory by recomputing each block's activations in the backward pass.
    """

    def __init__(
        self,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        patch_size: int = 16,
        mlp_ratio: float = 4.0,
        class_token: bool = True,
        class_token_position: bool = True,
        num_registers: int = 0,
        layer_scale: bool = False,
        qkv_bias: bool = True,
        position_grid: tuple[int, int] = (14, 14),
        norm_eps: float = 1e-6,
        positions: str = "learned",
        position_rule: str = "scale_factor",
        drop_path: float = 0.0,
        recompute: bool = False,
    ):
        super().__init__()
        _check(embed_dim, num_heads, positions, position_rule)
        self.embed_dim, self.depth, self.patch_size = embed_dim, depth, patch_size
        self.num_heads = num_heads
        self.position_grid = tuple(position_grid)
        self.position_rule = position_rule
        self.recompute = recompute
        self.class_token_position = class_token and class_token_position
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if class_token else None
        self.register_tokens = nn.Parameter(torch.zeros(1, num_registers, embed_dim)) if num_registers else None
        self.pos_embed = self._position_parameter(fixed=positions == "fixed")
        self.patch_embed = PatchEmbedding(embed_dim, patch_size)
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias, layer_scale, norm_eps, rate) for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.reset_parameters()

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the spatial ones: CLS and registers; 0 for FLSL."""
        registers = 0 if self.register_tokens is None else self.register_tokens.shape[1]
        return int(self.cls_token is not None) + registers

    def reset_parameters(self) -> None:
        """Random weights as ViTs start with: truncated normal (0.02) for matrices and tokens, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for token in (self.cls_token, self.register_tokens, self.pos_embed):
            if token is not None and token.requires_grad:
                nn.init.trunc_normal_(token, std=0.02)

    def tokens(self, images: Tensor, blocks: Sequence[int], norm: bool = False) -> list[Tensor]:
        """Tokens [B, P + N, C] after each of `blocks` (0-based, ascending), with the final LayerNorm if `norm`.

        `images` is [B, 3, H, W]; H and W are padded at the bottom and right to multiples of the patch size, so
        N = ceil(H / p) * ceil(W / p). The spatial tokens are always the last N. Blocks after the last one asked
        for are not run.
        """
        wanted = self.check_blocks(blocks)
        x = self._embed(images)
        taps = []
        for index, block in enumerate(self.blocks[: wanted[-1] + 1]):
            recompute = self.recompute and self.training and torch.is_grad_enabled()
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
            if index in wanted:
                taps.append(self.norm(x) if norm else x)
        return taps

    def facet(self, images: Tensor, block: int, name: str) -> Tensor:
        """Queries, keys or values [B, P + N, C] of the attention of `block` (0-based), its heads side by side.

        `images` and the order of tokens are those of `tokens`. Nothing that the facet does not need is run.
        Raises `ConfigError` for a block that is not there and a name that is none of `FACETS`.
        """
        if name not in FACETS:
            raise ConfigError(f"facet {name!r} is none of {', '.join(FACETS)}")
        self.check_blocks([block])
        x = self._embed(images)
        for earlier in self.blocks[:block]:
            x = earlier(x)
        last = self.blocks[block]
        return last.attn.qkv(last.norm1(x)).chunk(3, dim=-1)[FACETS.index(name)]

    def forward(
        self, images: Tensor, blocks: Sequence[int] | None = None, norm: bool = True, prefix: bool = False
    ) -> list[Tensor] | list[tuple[Tensor, Tensor]]:
        """Token maps [B, C, ceil(H / p), ceil(W / p)] after each of `blocks` (default: the last).

        With `prefix`, pairs of a map and the prefix tokens [B, P, C].
        """
        rows, cols = self.grid(images)
        taps = self.tokens(images, [self.depth - 1] if blocks is None else blocks, norm)
        count = self.num_prefix_tokens
        maps = [t[:, count:].transpose(1, 2).reshape(t.shape[0], -1, rows, cols) for t in taps]
        if prefix:
            return [(m, t[:, :count]) for m, t in zip(maps, taps, strict=True)]
        return maps

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of an image batch [B, 3, H, W]."""
        return tuple(-(-side // self.patch_size) for side in images.shape[-2:])

    def check_blocks(self, blocks: Sequence[int]) -> list[int]:
        """`blocks` as a list, or a `ConfigError` if they are not ascending indices of existing blocks."""
        blocks = list(blocks)
        if not blocks or blocks != sorted(set(blocks)) or blocks[0] < 0 or blocks[-1] >= self.depth:
            raise ConfigError(f"blocks {blocks} must be ascending indices within 0..{self.depth - 1}")
        return blocks

    def _embed(self, images: Tensor) -> Tensor:
        rows, cols = self.grid(images)
        bottom = rows * self.patch_size - images.shape[-2]
        right = cols * self.patch_size - images.shape[-1]
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom))
        patches = self.patch_embed(images)
        leading = int(self.class_token_position)
        positions = fit_positions(self.pos_embed[:, leading:], self.position_grid, (rows, cols), self.position_rule)
        sequence = [patches + positions.to(patches.dtype)]
        if self.register_tokens is not None:
            sequence.insert(0, self.register_tokens.expand(len(images), -1, -1).to(patches.dtype))
        if self.cls_token is not None:
            cls = self.cls_token + self.pos_embed[:, :1] if self.class_token_position else self.cls_token
            sequence.insert(0, cls.expand(len(images), -1, -1).to(patches.dtype))
        return torch.cat(sequence, dim=1)

    def _position_parameter(self, fixed: bool) -> nn.Parameter:
        rows, cols = self.position_grid
        table = torch.zeros(1, int(self.class_token_position) + rows * cols, self.embed_dim)
        if fixed:
            table[:, int(self.class_token_position) :] = sincos_positions(self.embed_dim, self.position_grid)
        return nn.Parameter(table, requires_grad=not fixed)


class PatchEmbedding(nn.Module):
    """Images [B, 3, H, W] to one token a patch [B, N, C], in row-major order."""

    def __init__(self, embed_dim: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens through PyTorch's fused kernel."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, C))


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned gain per channel (arXiv 2103.17239, section 2.1)."""

    def __init__(self, dim: int, initial: float = 1e-5):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class DropPath(nn.Module):
    """Drops a sample's residual branch with probability `rate` in training (arXiv 1603.09382), keeping the mean."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        qkv_bias: bool,
        layer_scale: bool,
        norm_eps: float,
        drop_path: float,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, qkv_bias)
        self.ls1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim) if layer_scale else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


def _check(embed_dim: int, num_heads: int, positions: str, position_rule: str) -> None:
    if embed_dim % num_heads:
        raise ConfigError(f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
    if positions not in ("learned", "fixed"):
        raise ConfigError(f"positions {positions!r} is neither 'learned' nor 'fixed'")
    if position_rule not in RULES:
        raise ConfigError(f"position_rule {position_rule!r} is none of {', '.join(RULES)}")
