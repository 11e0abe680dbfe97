"""From a config file and command-line options to a config that is ready to run."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from flsl_bench.checkpoints import Facts
from flsl_bench.errors import ConfigError
from flsl_bench.openmmlab.backbone import architecture_sizes
from flsl_bench.paths import CHECKOUT, find

# What says where and how conveniently a run happens, or which model it evaluates, but does not change the protocol.
_NOT_PROTOCOL = (
    "custom_imports",
    "data_root",
    "default_hooks",
    "default_scope",
    "env_cfg",
    "init_checkpoint",
    "launcher",
    "load_from",
    "log_level",
    "log_processor",
    "model.auxiliary_head.in_channels",
    "model.backbone.arch",
    "model.backbone.class_token",
    "model.backbone.class_token_position",
    "model.backbone.init_cfg",
    "model.backbone.layer_scale",
    "model.backbone.mlp_ratio",
    "model.backbone.norm_eps",
    "model.backbone.num_heads",
    "model.backbone.num_registers",
    "model.backbone.patch_size",
    "model.backbone.position_grid",
    "model.backbone.qkv_bias",
    "model.backbone.recompute",
    "model.decode_head.in_channels",
    "model.neck.in_channels",
    "model_name",
    "randomness.seed",
    "resume",
    "test_evaluator.ann_file",
    "test_pipeline",  # a name of the config files; what acts are the loaders' copies
    "train_pipeline",
    "val_evaluator.ann_file",
    "vis_backends",
    "visualizer",
    "work_dir",
)
_CONVENIENCE = ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor", "data_root", "backend_args")

# A smoke run: so many images a split, so many iterations where the schedule counts them, images of a quarter's width.
SMOKE_IMAGES, SMOKE_ITERATIONS, SMOKE_SCALE = 8, 4, 0.25

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def load_config(path: str | os.PathLike, options: dict[str, Any] | None = None) -> Config:
    """The config in `path` (seen from here or from the checkout) with `options` merged in, knobs not yet applied.

    Raises:
        ConfigError: the file is missing or broken, or an option does not fit it.
    """
    file = find(path)
    if not file.is_file():
        raise ConfigError(f"{path}: no such config; the shipped ones are in {CHECKOUT / 'mmconfigs'}")
    try:
        config = Config.fromfile(str(file))
    except Exception as error:  # a config is code and may fail in any way
        raise ConfigError(f"{file}: cannot be read ({type(error).__name__}: {_first_line(error)})") from error
    try:
        config.merge_from_dict(options or {})
    except (KeyError, TypeError, AssertionError, IndexError) as error:
        raise ConfigError(f"--cfg-options do not fit {file}: {_first_line(error)}") from error
    for field in ("task", "protocol"):
        if field not in config:
            raise ConfigError(f"{file}: field {field} is missing; start from a config in mmconfigs/")
    return config


def protocol_deviations(config: Config) -> dict[str, Any]:
    """Every setting, as dotted path and value, in which `config` differs from the protocol's reference config."""
    reference = load_config(CHECKOUT / "mmconfigs" / config.protocol.reference)
    own, published = dict(_flatten(config.to_dict())), dict(_flatten(reference.to_dict()))
    differing = {key for key in own.keys() | published.keys() if own.get(key) != published.get(key)}
    return {key: own.get(key) for key in sorted(differing) if _is_protocol(key)}


def apply_knobs(config: Config) -> None:
    """Carry the knobs `data_root`, `init_checkpoint` and `image_scale_factor` to where they belong, in place."""
    root = find(config.data_root)
    for name in _LOADERS:
        if name in config:
            _innermost(config[name].dataset).data_root = str(root)
    for name in ("val", "test"):
        evaluator = config.get(f"{name}_evaluator")
        if evaluator and "ann_file" in evaluator:
            evaluator.ann_file = str(root / _innermost(config[f"{name}_dataloader"].dataset).ann_file)
    config.data_root = str(root)
    config.init_checkpoint = str(find(config.init_checkpoint)) if config.init_checkpoint else None
    if config.init_checkpoint:
        branch = (config.model.backbone.get("init_cfg") or {}).get("branch")
        config.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=config.init_checkpoint)
        if branch:
            config.model.backbone.init_cfg.branch = branch
    if config.image_scale_factor != 1.0:
        for name in _LOADERS:
            if name in config:
                _scale_sizes(_innermost(config[name].dataset).pipeline, config.image_scale_factor)
        _scale_segmentor(config.model, config.image_scale_factor)


def fit_backbone(config: Config, facts: Facts) -> None:
    """Set in `model.backbone` what the checkpoint alone knows: prefix tokens, LayerScale, position grid, heads.

    Raises:
        ConfigError: the checkpoint is of another architecture or patch size than the config is for.
    """
    backbone, found = config.model.backbone, facts.architecture
    asked = architecture_sizes(backbone.arch)
    wanted = (asked["embed_dim"], asked["depth"], backbone.patch_size)
    given = (found.embed_dim, found.depth, found.patch_size)
    if wanted != given:
        raise ConfigError(
            f"{facts.path}: holds a ViT of width, depth, patch {given} where the config asks for {wanted}; use the "
            "config of that size, or set model.backbone.arch and patch_size (and model.neck.in_channels)"
        )
    if "num_heads" not in backbone:
        backbone.num_heads = found.num_heads
    for field in ("class_token", "class_token_position", "num_registers", "layer_scale", "qkv_bias", "norm_eps"):
        backbone[field] = getattr(found, field)
    backbone.mlp_ratio = found.mlp_ratio
    backbone.position_grid = tuple(found.position_grid)


def cut_for_smoke(config: Config) -> None:
    """Cut steps, images and image sizes to the least that still goes through every part of a run, in place."""
    loop = config.train_cfg
    if "max_epochs" in loop:
        loop.max_epochs = loop.val_interval = 1
    else:
        loop.max_iters = loop.val_interval = SMOKE_ITERATIONS
        config.default_hooks.checkpoint.interval = SMOKE_ITERATIONS
    config.image_scale_factor = SMOKE_SCALE
    for name in _LOADERS:
        _innermost(config[name].dataset).indices = SMOKE_IMAGES


def fit_device(config: Config, gpu: bool | None = None) -> str:
    """Turn mixed precision off and choose gloo where there is no GPU, in place; the precision that remains.

    `gpu` tells of the machine that will run it; None: it is this one.
    """
    wrapper = config.optim_wrapper
    if not (torch.cuda.is_available() if gpu is None else gpu):
        config.env_cfg.dist_cfg.backend = "gloo"
        if config.launcher != "none":  # mmengine would hand a GPU's number to DistributedDataParallel
            config.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False)
        if wrapper.type == "AmpOptimWrapper":
            wrapper.type = "OptimWrapper"
            for field in ("loss_scale", "dtype"):
                wrapper.pop(field, None)
    if wrapper.type == "AmpOptimWrapper":
        return {"bfloat16": "bf16 (AMP)"}.get(wrapper.get("dtype"), "fp16 (AMP)")
    return "fp32"


def draw_predictions(config: Config, folder: str | os.PathLike) -> None:
    """Have every test prediction drawn over its image into `folder`, in place."""
    config.default_hooks.visualization = dict(type="DrawingHook", test_out_dir=os.path.abspath(folder))


def _is_protocol(key: str) -> bool:
    ignored = any(key == name or key.startswith(f"{name}.") for name in _NOT_PROTOCOL)
    return not ignored and key.split(".")[-1] not in _CONVENIENCE and not key.startswith(("_", "protocol."))


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dicts as dotted paths; a list, a pipeline too, is one leaf."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}{key}.")
    else:
        yield prefix.rstrip("."), _plain(value)


def _plain(value: Any) -> Any:
    """`value` with tuples as lists, as JSON knows them."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _innermost(dataset: ConfigDict) -> ConfigDict:
    while "dataset" in dataset:
        dataset = dataset.dataset
    return dataset


def _scale_sizes(pipeline: Any, factor: float) -> None:
    """Multiply every image size in a pipeline by `factor`, in place."""
    if isinstance(pipeline, dict):
        for key, value in pipeline.items():
            if key in ("scale", "scales", "crop_size"):
                pipeline[key] = _scaled(value, factor)
            else:
                _scale_sizes(value, factor)
    elif isinstance(pipeline, (list, tuple)):
        for item in pipeline:
            _scale_sizes(item, factor)


def _scale_segmentor(model: ConfigDict, factor: float) -> None:
    """Multiply the sizes that a segmentor states apart from its pipelines, of padding and sliding windows, in place."""
    for part, field in (("data_preprocessor", "size"), ("test_cfg", "crop_size"), ("test_cfg", "stride")):
        if field in model.get(part, {}):
            model[part][field] = _scaled(model[part][field], factor)


def _scaled(size: Any, factor: float) -> Any:
    if isinstance(size, (list, tuple)):
        return type(size)(_scaled(item, factor) for item in size)
    return max(1, round(size * factor))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def default_work_dir(path: str | os.PathLike) -> str:
    """OpenMMLab's convention: `./work_dirs/<config name>`."""
    return str(Path("work_dirs") / Path(path).stem)
