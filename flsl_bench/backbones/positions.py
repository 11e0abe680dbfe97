"""Position embeddings of a plain ViT: the fixed sin-cos table, and both rules of fitting a table to an image."""

import torch
import torch.nn.functional as F
from torch import Tensor

RULES = ("scale_factor", "size")

# DINO adds 0.1 to the wanted grid so that the output size survives rounding (facebookresearch/dino,
# vision_transformer.py). As the interpolation then samples at slightly other points, results differ from `size`.
_DINO_OFFSET = 0.1


def sincos_positions(dim: int, grid: tuple[int, int]) -> Tensor:
    """Fixed two-dimensional sin-cos table [1, rows * cols, dim], x in the first half, y in the second.

    Source: MoCo v3 (arXiv 2104.02057, section 4; temperature 10,000). `dim` must be a multiple of four.
    """
    if dim % 4:
        raise ValueError(f"sin-cos positions need a dimension divisible by 4, not {dim}")
    rows, cols = grid
    frequency = 1.0 / 10_000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    y = torch.arange(rows, dtype=torch.float64)[:, None] * frequency  # [rows, dim/4]
    x = torch.arange(cols, dtype=torch.float64)[:, None] * frequency  # [cols, dim/4]
    x = torch.cat([x.sin(), x.cos()], dim=1)[None].expand(rows, -1, -1)
    y = torch.cat([y.sin(), y.cos()], dim=1)[:, None].expand(-1, cols, -1)
    return torch.cat([x, y], dim=2).reshape(1, rows * cols, dim).float()


def fit_positions(table: Tensor, source: tuple[int, int], target: tuple[int, int], rule: str) -> Tensor:
    """Resample the patch positions `table` [1, rows * cols, C] from grid `source` to grid `target`, bicubic, in fp32.

    `rule` "scale_factor" is DINO's, by which the papers' numbers were made; "size" asks for the size directly.
    """
    if rule not in RULES:
        raise ValueError(f"position rule {rule!r} is none of {', '.join(RULES)}")
    if source == target:
        return table
    grid = table.float().reshape(1, *source, -1).permute(0, 3, 1, 2)  # [1, C, rows, cols]
    if rule == "size":
        grid = F.interpolate(grid, size=target, mode="bicubic")
    else:
        scale = tuple((wanted + _DINO_OFFSET) / side for wanted, side in zip(target, source, strict=True))
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        if grid.shape[-2:] != target:
            raise RuntimeError(f"positions came out as {tuple(grid.shape[-2:])} where {target} patches are")
    return grid.flatten(2).transpose(1, 2).to(table.dtype)
