"""Layer-wise learning-rate decay for backbones that can tell the depth of a parameter."""

from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ViTLayerDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's parameter rules, and on top a learning rate that decays from the head down to the embeddings.

    `paramwise_cfg.layer_decay_rate` r scales the rate of layer i of L by r ** (L - 1 - i) (BEiT, arXiv 2106.08254;
    MAE, arXiv 2111.06377). All other rules (custom_keys, norm_decay_mult, ...) are mmengine's.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        # It stays in paramwise_cfg: mmengine puts all parameters into one group where that is empty.
        self.layer_decay_rate = self.paramwise_cfg.get("layer_decay_rate", 1.0)

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs) -> None:
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:  # only once, after the recursion has gathered every parameter
            return
        model = module.module if is_model_wrapper(module) else module
        scales = _layer_scales(model, self.layer_decay_rate)
        for group in params:
            scale = scales.get(id(group["params"][0]), 1.0)
            group["lr"] = group.get("lr", self.base_lr) * scale


def _layer_scales(model: nn.Module, rate: float) -> dict[int, float]:
    """Learning-rate factor of every backbone parameter, by the parameter's id."""
    scales = {}
    for name, parameter in model.backbone.named_parameters():
        layer, layers = model.backbone.get_layer_depth(name)
        scales[id(parameter)] = rate ** (layers - 1 - layer)
    return scales
