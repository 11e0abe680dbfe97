"""Tiny checkpoints in the layouts of the releases: genuine key names and surroundings, small seeded tensors."""

import re
from argparse import Namespace

import torch

EMBED, DEPTH, HEADS, PATCH, GRID = 8, 2, 2, 4, 3


def canonical(
    embed=EMBED,
    depth=DEPTH,
    hidden=None,
    patch=PATCH,
    grid=GRID,
    *,
    class_token=True,
    positions=None,
    registers=0,
    layer_scale=False,
    qkv_bias=True,
    seed=0,
):
    """A ViT's state dict under DINO's names; `positions` overrides the length of `pos_embed`."""
    generator = torch.Generator().manual_seed(seed)

    def values(*shape):
        return torch.randn(*shape, generator=generator)

    hidden = hidden or 4 * embed
    tensors = {"cls_token": values(1, 1, embed)} if class_token else {}
    if registers:
        tensors["register_tokens"] = values(1, registers, embed)
    tensors["pos_embed"] = values(1, grid * grid + class_token if positions is None else positions, embed)
    tensors |= {"patch_embed.proj.weight": values(embed, 3, patch, patch), "patch_embed.proj.bias": values(embed)}
    for index in range(depth):
        block = {
            "norm1.weight": (embed,),
            "norm1.bias": (embed,),
            "attn.qkv.weight": (3 * embed, embed),
            **({"attn.qkv.bias": (3 * embed,)} if qkv_bias else {}),
            "attn.proj.weight": (embed, embed),
            "attn.proj.bias": (embed,),
            **({"ls1.gamma": (embed,), "ls2.gamma": (embed,)} if layer_scale else {}),
            "norm2.weight": (embed,),
            "norm2.bias": (embed,),
            "mlp.fc1.weight": (hidden, embed),
            "mlp.fc1.bias": (hidden,),
            "mlp.fc2.weight": (embed, hidden),
            "mlp.fc2.bias": (embed,),
        }
        tensors |= {f"blocks.{index}.{name}": values(*shape) for name, shape in block.items()}
    return tensors | {"norm.weight": values(embed), "norm.bias": values(embed)}


def prefixed(tensors, prefix):
    """The same tensors with `prefix` before every name."""
    return {prefix + key: tensor for key, tensor in tensors.items()}


def other(tensors):
    """Another branch's weights: the same names and shapes, other values."""
    return {key: tensor + 1 for key, tensor in tensors.items()}


def projection_head(prefix, extra=()):
    """DINO's projection head."""
    names = ("mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias", "last_layer.weight_g", "last_layer.weight_v")
    return {f"{prefix}head.{name}": torch.zeros(2, 2) for name in (*names, *extra)}


def surroundings(**args):
    """What a training script saves beside the weights."""
    return {
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]},
        "epoch": 100,
        "args": Namespace(patch_size=PATCH, out_dim=4, lr=0.0005, **args),
        "fp16_scaler": {"scale": 65536.0},
    }


def _pair(tensors, student_extra=None, head_extra=()):
    teacher = prefixed(tensors, "backbone.") | projection_head("", head_extra)
    student = prefixed(other(tensors), "module.backbone.") | projection_head("module.", head_extra)
    return {"student": student | (student_extra or {}), "teacher": teacher}


def flsl(tensors, **args):
    """FLSL: give it tensors with a `cls_token` whose `pos_embed` has one entry a patch."""
    return _pair(tensors) | surroundings(**args) | {"flsl_loss": {"center": torch.zeros(1, 2)}}


def dino(tensors, **args):
    """DINO's full checkpoint."""
    return _pair(tensors) | surroundings(**args) | {"dino_loss": {"center": torch.zeros(1, 2)}}


def dino_backbone(tensors):
    """DINO's `dino_deitsmall16_pretrain.pth`."""
    return dict(tensors)


def selfpatch(tensors, **args):
    """SelfPatch: class-attention blocks in the head make its CLS token."""
    names = (
        "norm1.weight",
        "attn.q.weight",
        "attn.k.weight",
        "attn.v.weight",
        "attn.proj.weight",
        "gamma_1",
        "gamma_2",
    )
    head = {f"head.cls_blocks.{index}.{name}": torch.zeros(2) for index in range(2) for name in names}
    content = _pair(tensors) | surroundings(**args)
    content["teacher"] |= head
    content["student"] |= prefixed(head, "module.")
    return content


def ibot(tensors, **args):
    """iBOT's training checkpoint."""
    masked = {"module.backbone.masked_embed": torch.zeros(1, EMBED)}
    extra = ("last_layer2.weight_g", "last_layer2.weight_v")
    return _pair(tensors, masked, extra) | surroundings(**args) | {"ibot_loss": {"center2": torch.zeros(1, 2)}}


def ibot_teacher(tensors):
    """iBOT's `checkpoint_teacher.pth`."""
    return {"state_dict": dict(tensors)}


def mocov3(tensors, arch="vit_small"):
    """MoCo v3's `vit-s-300ep.pth.tar`."""
    base, momentum = {}, {}
    for name, group, weights in (("base", base, tensors), ("momentum", momentum, other(tensors))):
        group |= prefixed(weights, f"module.{name}_encoder.")
        heads = ("0.weight", "1.weight", "1.running_mean", "1.num_batches_tracked", "3.weight")
        group |= {f"module.{name}_encoder.head.{key}": torch.zeros(2) for key in heads}
    predictor = {"module.predictor.0.weight": torch.zeros(2, 2), "module.predictor.3.weight": torch.zeros(2, 2)}
    state = base | momentum | predictor
    return {"epoch": 300, "arch": arch, "state_dict": state, "optimizer": {"state": {}}, "scaler": {"scale": 1.0}}


def mocov3_linear(tensors):
    """MoCo v3's `linear-vit-s-300ep.pth.tar`."""
    state = prefixed(tensors, "module.") | {"module.head.weight": torch.zeros(5, 2), "module.head.bias": torch.zeros(5)}
    return {"epoch": 90, "arch": "vit_small", "state_dict": state, "best_acc1": torch.tensor(72.5), "optimizer": {}}


def mae(tensors, **args):
    """MAE's pre-training checkpoint with decoder."""
    decoder = canonical(embed=4, depth=1, seed=5)
    decoder = {f"decoder_{key}": value for key, value in decoder.items() if key.startswith(("blocks", "norm", "pos_"))}
    extra = {"mask_token": torch.zeros(1, 1, 4), "decoder_embed.weight": torch.zeros(4, EMBED), **decoder}
    extra |= {"decoder_embed.bias": torch.zeros(4), "decoder_pred.weight": torch.zeros(48, 4)}
    around = {key: value for key, value in surroundings(**args).items() if key != "fp16_scaler"}
    return {"model": dict(tensors) | extra, "scaler": {"scale": 1.0}, **around}


def mae_encoder(tensors):
    """MAE's `mae_pretrain_vit_base.pth`: the encoder alone."""
    return {"model": dict(tensors)}


def dinov2(tensors):
    """DINOv2's `dinov2_vits14_reg4_pretrain.pth`: give it LayerScale, and registers for the -reg models."""
    return dict(tensors) | {"mask_token": torch.zeros(1, EMBED)}


def dinov2_teacher(tensors):
    """DINOv2's `teacher_checkpoint.pth`, with its chunks of blocks."""
    chunked = {re.sub(r"^blocks\.(\d+)", r"blocks.0.\1", key): value for key, value in tensors.items()}
    heads = {f"{name}.mlp.0.weight": torch.zeros(2, 2) for name in ("dino_head", "ibot_head")}
    return {"teacher": prefixed(dinov2(chunked), "backbone.") | heads, "iteration": 624999}


def timm(tensors):
    """timm's `vit_small_patch16_224`."""
    renamed = {("reg_token" if key == "register_tokens" else key): value for key, value in tensors.items()}
    return renamed | {"head.weight": torch.zeros(5, EMBED), "head.bias": torch.zeros(5)}


def deit3(tensors):
    """DeiT-3's `deit_3_small_224_1k.pth`: `gamma_1` for LayerScale, a CLS token without a position."""
    renamed = {re.sub(r"ls([12])\.gamma", r"gamma_\1", key): value for key, value in tensors.items()}
    return {"model": renamed | {"head.weight": torch.zeros(5, EMBED), "head.bias": torch.zeros(5)}}


def huggingface(tensors, prefix="vit."):
    """transformers' `ViTForImageClassification` (`vit.`) or `ViTModel` (no prefix)."""
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    inside = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    renamed = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", key)
        if match is None:
            renamed[names[key]] = tensor
        elif match[2] == "attn.qkv":
            for part, chunk in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"encoder.layer.{match[1]}.attention.attention.{part}.{match[3]}"] = chunk.clone()
        else:
            renamed[f"encoder.layer.{match[1]}.{inside[match[2]]}.{match[3]}"] = tensor
    if prefix:
        return prefixed(renamed, prefix) | {
            "classifier.weight": torch.zeros(5, EMBED),
            "classifier.bias": torch.zeros(5),
        }
    return renamed | {"pooler.dense.weight": torch.zeros(EMBED, EMBED), "pooler.dense.bias": torch.zeros(EMBED)}


def openmmlab(tensors, norm="ln", mmcv_attention=False, wrapped=True):
    """mmpretrain's and, with `mmcv_attention`, mmseg's VisionTransformer."""
    rules = [
        (r"^patch_embed\.proj\.", "patch_embed.projection."),
        (r"^norm\.", f"{norm}1."),
        (r"^(blocks\.\d+)\.norm([12])\.", rf"\1.{norm}\2."),
        (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
        (r"\.mlp\.fc2\.", ".ffn.layers.1."),
        (r"^blocks\.", "layers."),
    ]
    if mmcv_attention:
        rules += [
            (r"\.attn\.qkv\.(weight|bias)$", r".attn.attn.in_proj_\1"),
            (r"\.attn\.proj\.", ".attn.attn.out_proj."),
        ]
    renamed = {}
    for key, tensor in tensors.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = tensor
    if not wrapped:
        return renamed
    head = {"head.layers.head.weight": torch.zeros(5, EMBED), "head.layers.head.bias": torch.zeros(5)}
    return {"meta": {"epoch": 3, "cfg": "model = dict()"}, "state_dict": prefixed(renamed, "backbone.") | head}


def openmmlab_finetuned(tensors):
    """This project's own detector after training with OpenMMLab."""
    rest = ("backbone.up1.0.weight", "neck.lateral_convs.0.conv.weight", "rpn_head.rpn_cls.weight")
    rest += ("roi_head.bbox_head.fc_cls.weight", "roi_head.mask_head.conv_logits.bias")
    state = prefixed(tensors, "backbone.vit.") | {key: torch.zeros(2, 2) for key in rest}
    return {"meta": {"epoch": 12}, "state_dict": state, "optimizer": {"state": {}}, "param_schedulers": []}
