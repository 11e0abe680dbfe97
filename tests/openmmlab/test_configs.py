"""Every shipped config is built and run; the published ones state the papers' recipe; options are traced."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

# First, as a config's custom_imports does: mmdet looks up mmcv's operators once, as it is imported.
import flsl_bench.openmmlab  # noqa: F401

# isort: split
from mmdet.registry import DATASETS, MODELS, TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from flsl_bench import tasks
from flsl_bench.backbones.vit import VisionTransformer
from flsl_bench.checkpoints import load_checkpoint
from flsl_bench.datasets.miniature import make_coco, make_uavdt
from flsl_bench.datasets.uavdt import CATEGORIES, OFFICIAL_FRAMES
from flsl_bench.errors import ConfigError
from flsl_bench.openmmlab.backbone import PlainViT
from flsl_bench.openmmlab.config import apply_knobs, fit_backbone, fit_device, load_config, protocol_deviations
from flsl_bench.paths import CHECKOUT
from flsl_bench.results.reported import load_reported

CONFIGS = sorted(path.name for path in (CHECKOUT / "mmconfigs").glob("*.py"))
RECIPES = ["maskrcnn_vits16_flsl.py", "maskrcnn_vits8_flsl.py", "maskrcnn_vitb16_flsl.py"]
AS_RELEASED = "maskrcnn_vits16_flsl_as_released.py"
UAVDT = {
    "fasterrcnn_vits16_flsl_uavdt.py": "maskrcnn_vits16_flsl.py",
    "fasterrcnn_vits8_flsl_uavdt.py": "maskrcnn_vits8_flsl.py",
    "fasterrcnn_vitb16_flsl_uavdt.py": "maskrcnn_vitb16_flsl.py",
}
"""Each with the config of COCO whose recipe it takes."""
SEGMENTORS = ("semfpn", "upernet", "linear")
SIZES = ("vits16", "vits8", "vitb16")
ADE20K = [f"{head}_{size}_flsl_ade20k.py" for head in SEGMENTORS for size in SIZES]
TINY = dict(embed_dim=24, depth=4, num_heads=3)
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@pytest.fixture(scope="module", autouse=True)
def mmdet_scope():
    """The scope in which mmengine's runner builds the detectors' configs."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@pytest.fixture
def mmseg_scope(mmdet_scope):
    """The scope in which it builds the segmentors'."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def load(name, **options):
    return load_config(CHECKOUT / "mmconfigs" / name, options)


def detection_batch(categories=80, masked=True):
    """Two images of different odd sizes with two boxes each, as a data loader hands them over."""
    generator = torch.Generator().manual_seed(0)
    batch = {"inputs": [], "data_samples": []}
    for height, width in ((40, 56), (56, 33)):
        sample = DetDataSample(
            metainfo=dict(
                img_id=1,
                img_path="a.jpg",
                img_shape=(height, width),
                ori_shape=(2 * height, 2 * width),
                scale_factor=(0.5, 0.5),
            )
        )
        masks = np.zeros((2, height, width), dtype=np.uint8)
        masks[0, 4:20, 4:24] = masks[1, 10:, 8:30] = 1
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[4.0, 4, 24, 20], [8, 10, 30, height]]),
            labels=torch.tensor([0, categories - 1]),
        )
        if masked:
            sample.gt_instances.masks = BitmapMasks(masks, height, width)
        sample.ignored_instances = InstanceData(
            bboxes=torch.tensor([[0.0, 24, 8, height]]), labels=torch.tensor([categories - 1])
        )
        batch["inputs"].append(torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8))
        batch["data_samples"].append(sample)
    return batch


def segmentation_batch():
    """Two crops of one size with label maps, some of whose pixels are to be ignored."""
    generator = torch.Generator().manual_seed(0)
    batch = {"inputs": [], "data_samples": []}
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_path="a.jpg", img_shape=(40, 50), ori_shape=(60, 75)))
        labels = torch.randint(0, 150, (1, 40, 50), generator=generator)
        labels[:, :7] = 255
        sample.gt_sem_seg = PixelData(data=labels)
        batch["inputs"].append(torch.randint(0, 256, (3, 40, 50), generator=generator, dtype=torch.uint8))
        batch["data_samples"].append(sample)
    return batch


BATCHES = {
    "coco": detection_batch,
    "uavdt": partial(detection_batch, categories=3, masked=False),
    **dict.fromkeys(("ade20k", "ade20k-upernet", "ade20k-linear"), segmentation_batch),
}


class TestEveryConfig:
    @pytest.fixture(params=CONFIGS)
    def config(self, request):
        return load(request.param)

    def test_trains_and_predicts_on_the_cpu(self, config):
        torch.manual_seed(0)
        if config.default_scope == "mmseg":
            config.image_scale_factor = 0.125  # crops of 512 pixels are padded to 64
            apply_knobs(config)
            del config.model.backbone["init_cfg"]
        with DefaultScope.overwrite_default_scope(config.default_scope):
            model = MODELS.build(config.model)
            self.train_one_step(model, BATCHES[config.task]())
            predict = {"mmdet": self.detect, "mmseg": self.segment}[config.default_scope]
            predict(model, BATCHES[config.task]())

    @staticmethod
    def train_one_step(model, batch):
        model.train()
        losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
        total, _ = model.parse_losses(losses)
        total.backward()
        assert total.isfinite()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        assert [name for name, gradient in gradients.items() if gradient is None] == []
        assert [name for name, gradient in gradients.items() if not gradient.isfinite().all()] == []

    @staticmethod
    def segment(model, batch):
        model.eval()
        with torch.no_grad():
            results = model.test_step(batch)
        for result in results:
            labels = result.pred_sem_seg.data
            assert labels.shape == (1, *result.ori_shape)
            assert ((labels >= 0) & (labels < 150)).all()

    @staticmethod
    def detect(model, batch):
        model.eval()
        model.roi_head.test_cfg.update(score_thr=0.0, max_per_img=4)  # a random detector is sure of nothing
        with torch.no_grad():
            results = model.test_step(batch)
        for result in results:
            found, (height, width) = result.pred_instances, result.ori_shape
            assert len(found) == 4
            assert ((found.bboxes >= 0) & (found.bboxes <= torch.tensor([width, height] * 2))).all()
            assert ((found.scores > 0) & (found.scores <= 1)).all()
            assert ("masks" in found) == model.with_mask
            if model.with_mask:
                assert found.masks.shape == (4, height, width)

    def test_names_where_to_start_from_and_what_it_follows(self, config):
        assert config.task in BATCHES
        assert config.init_checkpoint.startswith("checkpoints/")
        assert (CHECKOUT / "mmconfigs" / config.protocol.reference).is_file()


class TestRecipe:
    """The facts of FLSL's and SelfPatch's detection recipe."""

    @pytest.fixture(params=[*RECIPES, AS_RELEASED])
    def config(self, request):
        return load(request.param)

    def test_optimizer(self, config):
        assert config.optim_wrapper.optimizer == dict(type="AdamW", lr=5e-5, betas=(0.9, 0.999), weight_decay=0.05)
        assert config.optim_wrapper.type == "AmpOptimWrapper"
        assert "clip_grad" not in config.optim_wrapper
        assert "constructor" not in config.optim_wrapper  # no layer-wise decay

    def test_weight_decay_spares_positions_and_layer_norms_alone(self, config):
        config.launcher = "none"
        fit_device(config)
        model = MODELS.build(config.model)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
        decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
        layer_norms = {
            f"backbone.vit.blocks.{block}.norm{n}.{kind}"
            for block in range(12)
            for n in (1, 2)
            for kind in ("weight", "bias")
        }
        spared = {name for name, decay in decays.items() if decay == 0}
        assert spared == layer_norms | {"backbone.vit.pos_embed"}
        assert {decay for name, decay in decays.items() if name not in spared} == {0.05}
        assert {group["lr"] for group in groups} == {5e-5}
        assert decays.keys() == {name for name, p in model.named_parameters() if p.requires_grad}

    def test_weight_decay_spares_a_cls_token(self, config):
        assert config.optim_wrapper.paramwise_cfg.custom_keys.cls_token == dict(decay_mult=0.0)

    def test_schedule(self, config):
        warmup, steps = config.param_scheduler
        assert warmup == dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000)
        assert steps == dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1)
        assert config.train_cfg.max_epochs == 12
        assert config.train_dataloader.batch_size == 1
        assert config.protocol.global_batch_size == config.auto_scale_lr.base_batch_size == 8

    def test_training_sizes(self, config):
        load_image, annotations, flip, choice, pack = config.train_dataloader.dataset.pipeline
        (plain,), (shrink, crop, grow) = choice.transforms
        sides = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
        assert [step.type for step in (load_image, annotations, pack)] == [
            "LoadImageFromFile",
            "LoadAnnotations",
            "PackDetInputs",
        ]
        assert flip == dict(type="RandomFlip", prob=0.5)
        for resize, short_sides in ((plain, sides), (shrink, (400, 500, 600)), (grow, sides)):
            assert resize.type == "RandomChoiceResize"
            assert resize.keep_ratio
            assert [tuple(scale) for scale in resize.scales] == [(1333, side) for side in short_sides]
        assert dict(crop, crop_size=tuple(crop.crop_size)) == dict(
            type="RandomCrop", crop_type="absolute_range", crop_size=(384, 600), allow_negative_crop=True
        )

    @pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader"])
    def test_images_are_resized_before_annotations_are_loaded(self, config, loader):
        pipeline = config[loader].dataset.pipeline
        assert [step.type for step in pipeline] == ["LoadImageFromFile", "Resize", "LoadAnnotations", "PackDetInputs"]
        assert tuple(pipeline[1].scale) == (1333, 800)
        assert pipeline[1].keep_ratio

    def test_pixels(self, config):
        preprocessor = MODELS.build(config.model.data_preprocessor)
        assert preprocessor.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
        assert preprocessor.std.flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])
        assert config.model.data_preprocessor.bgr_to_rgb
        assert preprocessor.pad_size_divisor == 32

    def test_backbone(self, config):
        backbone = config.model.backbone
        assert tuple(backbone.taps) == (3, 5, 7, 11)
        assert backbone.norm_taps is False
        assert backbone.pyramid == "rescale"
        assert backbone.drop_path == 0.05
        assert backbone.class_token is False

    def test_neck_and_heads(self, config):
        model = config.model
        assert (model.neck.out_channels, model.neck.num_outs) == (256, 5)
        anchors = model.rpn_head.anchor_generator
        assert (anchors.scales, anchors.ratios, anchors.strides) == ([8], [0.5, 1.0, 2.0], [4, 8, 16, 32, 64])
        assert model.roi_head.bbox_head.type == "Shared2FCBBoxHead"
        assert model.roi_head.mask_head.num_convs == 4
        assert model.rpn_head.loss_bbox.type == model.roi_head.bbox_head.loss_bbox.type == "L1Loss"
        for extractor, size in ((model.roi_head.bbox_roi_extractor, 7), (model.roi_head.mask_roi_extractor, 14)):
            assert extractor.roi_layer == dict(type="RoIAlign", output_size=size, sampling_ratio=0, aligned=True)
            assert extractor.featmap_strides == [4, 8, 16, 32]

    def test_thresholds(self, config):
        train, test = config.model.train_cfg, config.model.test_cfg
        assert train.rpn_proposal.nms == test.rpn.nms == dict(type="nms", iou_threshold=0.7)
        assert test.rcnn == dict(
            score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5
        )

    def test_evaluation(self, config):
        assert config.val_evaluator == config.test_evaluator
        assert config.val_evaluator.type == "CocoAP"
        assert list(config.val_evaluator.metric) == ["bbox", "segm"]
        assert config.protocol.images == dict(train=118_287, val=5_000)


class TestUavdt:
    """The suite's own protocol: COCO's recipe without masks, for three categories and dense frames."""

    @pytest.fixture(params=UAVDT)
    def config(self, request):
        return load(request.param)

    @pytest.fixture
    def coco(self, config):
        return load(UAVDT[Path(config.filename).name])

    def test_is_a_protocol_of_its_own(self, config):
        task = tasks.get("uavdt")
        assert (config.protocol.name, config.protocol.version) == task.protocol
        assert config.protocol.images == {"train": OFFICIAL_FRAMES["train"], "val": OFFICIAL_FRAMES["test"]}
        assert protocol_deviations(config) == {}

    def test_trains_as_on_coco(self, config, coco):
        for field in ("optim_wrapper", "param_scheduler", "train_cfg", "auto_scale_lr", "init_checkpoint"):
            assert config[field] == coco[field]
        for part in ("backbone", "neck", "rpn_head"):
            assert config.model[part] == coco.model[part]
        heads = {name: head for name, head in config.model.roi_head.items() if head is not None}
        expected = {name: head for name, head in coco.model.roi_head.items() if "mask" not in name}
        assert heads == {**expected, "bbox_head": {**expected["bbox_head"], "num_classes": 3}}
        assert config.model.test_cfg == {
            **coco.model.test_cfg,
            "rcnn": {**coco.model.test_cfg.rcnn, "max_per_img": 300},
        }

    def test_ignore_regions_are_no_negatives(self, config):
        region, truth = torch.tensor([[100.0, 100, 200, 200]]), torch.tensor([[0.0, 0, 50, 50]])
        priors = torch.tensor([[1.0, 0, 50, 50], [120, 120, 160, 160], [140, 140, 300, 300], [300, 300, 350, 350]])
        for stage in ("rpn", "rcnn"):
            assigner = TASK_UTILS.build(config.model.train_cfg[stage].assigner)
            found = assigner.assign(
                InstanceData(priors=priors),
                InstanceData(bboxes=truth, labels=torch.tensor([0])),
                InstanceData(bboxes=region, labels=torch.tensor([0])),
            )
            assert found.gt_inds.tolist() == [1, -1, 0, 0]

    def test_images_are_of_cocos_sizes_and_without_masks(self, config, coco):
        for loader in LOADERS:
            steps, expected = config[loader].dataset.pipeline, coco[loader].dataset.pipeline
            assert [step.type for step in steps] == [step.type for step in expected]
            for step, other in zip(steps, expected, strict=True):
                own = {"type": "LoadAnnotations", "with_bbox": True} if step.type == "LoadAnnotations" else other
                assert step == own

    def test_data(self, config):
        train, test = config.train_dataloader.dataset, config.test_dataloader.dataset
        assert (train.ann_file, test.ann_file) == ("annotations/uavdt_train.json", "annotations/uavdt_test.json")
        for dataset in (train, test, config.val_dataloader.dataset):
            assert dataset.metainfo.classes == tuple(CATEGORIES.values())
            assert dataset.data_prefix.img == "UAV-benchmark-M/"
        assert config.val_evaluator == config.test_evaluator
        assert config.test_evaluator == dict(
            type="UavdtAP", ann_file="data/uavdt/annotations/uavdt_test.json", metric="bbox"
        )

    def test_the_loaders_read_what_the_converter_wrote(self, tmp_path):
        root = make_uavdt(tmp_path / "uavdt", frames=1)
        config = load("fasterrcnn_vits16_flsl_uavdt.py", data_root=str(root), init_checkpoint=None)
        apply_knobs(config)
        for loader, images in (("train_dataloader", 10), ("test_dataloader", 3)):
            dataset = DATASETS.build(config[loader].dataset)
            assert len(dataset) == images
            for index in range(images):
                flags = [instance["ignore_flag"] for instance in dataset.get_data_info(index)["instances"]]
                sample = dataset[index]["data_samples"]
                if loader == "test_dataloader":  # training images are cropped
                    assert len(sample.gt_instances) == flags.count(0) > 0
                    assert len(sample.ignored_instances) == flags.count(1)
                    assert max(sample.img_shape) > max(sample.ori_shape)


@pytest.mark.usefixtures("mmseg_scope")
class TestAde20k:
    """The facts of SelfPatch's Semantic FPN, and of iBOT's UperNet and linear layer."""

    @pytest.fixture(params=ADE20K)
    def config(self, request):
        return load(request.param)

    @pytest.fixture
    def recipe(self, config):
        """Task, optimizer's learning rate and weight decay, iterations."""
        return {
            "semfpn": ("ade20k", 6e-5, 0.01, 40_000),
            "upernet": ("ade20k-upernet", 3e-5, 0.05, 160_000),
            "linear": ("ade20k-linear", 8e-4, 0.05, 160_000),
        }[Path(config.filename).name.split("_")[0]]

    @staticmethod
    def groups(config):
        """The optimizer's group of every trained parameter, by name, and the model."""
        config.launcher = "none"
        fit_device(config)
        model = MODELS.build(config.model)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        found = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
        return {names[id(p)]: group for group in found for p in group["params"] if p.requires_grad}, model

    def test_protocol(self, config, recipe):
        assert config.task == recipe[0]
        assert (config.protocol.name, config.protocol.version) == tasks.get(config.task).protocol
        assert config.protocol.name in {figure.benchmark for figure in load_reported()}
        assert config.protocol.images == dict(train=20_210, val=2_000)
        assert config.protocol.global_batch_size == config.auto_scale_lr.base_batch_size == 16
        assert config.train_dataloader.batch_size == 4
        assert protocol_deviations(config) == {}

    def test_optimizer(self, config, recipe):
        _, rate, decay, _ = recipe
        assert config.optim_wrapper.optimizer == dict(type="AdamW", lr=rate, betas=(0.9, 0.999), weight_decay=decay)

    def test_learning_rate_over_the_iterations(self, config, recipe):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.AdamW([parameter], lr=1.0)
        schedulers = [
            PARAM_SCHEDULERS.build(dict(scheduler), default_args=dict(optimizer=optimizer))
            for scheduler in config.param_scheduler
        ]
        total = config.train_cfg.max_iters
        assert total == recipe[-1]
        for iteration in range(2_001):
            if iteration in (0, 1, 750, 1_499, 2_000):
                warmup = min(1.0, 1e-6 + (1 - 1e-6) * iteration / 1_499)
                expected = warmup * (1 - iteration / total)
                assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-4), iteration
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()

    def test_images(self, config):
        crop = (512, 512)
        _, labels, resize, cut, flip, colours, _ = config.train_dataloader.dataset.pipeline
        assert resize == dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True)
        assert cut == dict(type="RandomCrop", crop_size=crop, cat_max_ratio=0.75)
        assert flip == dict(type="RandomFlip", prob=0.5)
        assert (labels.type, colours.type) == ("LoadAnnotations", "PhotoMetricDistortion")
        assert labels.imdecode_backend == "pillow"
        assert tuple(config.model.data_preprocessor.size) == crop
        assert config.model.data_preprocessor.seg_pad_val == 255
        for loader in ("val_dataloader", "test_dataloader"):
            pipeline = config[loader].dataset.pipeline
            types = [step.type for step in pipeline]
            assert types == ["LoadImageFromFile", "Resize", "LoadAnnotations", "PackSegInputs"]
            assert pipeline[1] == dict(type="Resize", scale=(2048, 512), keep_ratio=True)
        assert all(config[loader].dataset.reduce_zero_label for loader in LOADERS)
        assert config.val_evaluator == config.test_evaluator == dict(type="SegmentationIoU")

    @pytest.mark.parametrize("size", SIZES)
    def test_semantic_fpn(self, size):
        config = load(f"semfpn_{size}_flsl_ade20k.py")
        groups, model = self.groups(config)
        backbone, head = config.model.backbone, model.decode_head
        assert (tuple(backbone.taps), backbone.norm_taps, backbone.pyramid) == ((2, 5, 8, 11), False, "none")
        assert backbone.drop_path == 0.1
        assert (model.neck.in_channels, model.neck.out_channels) == ([model.backbone.vit.embed_dim] * 4, 256)
        assert (model.neck.num_outs, head.channels, head.num_classes, head.dropout_ratio) == (4, 128, 150, 0.1)
        assert config.model.test_cfg.mode == "whole"
        side = 64 // model.backbone.vit.patch_size
        assert [m.shape[2:] for m in model.neck(model.backbone(torch.zeros(1, 3, 64, 64)))] == [(side, side)] * 4
        spared = {name for name, group in groups.items() if group["weight_decay"] == 0}
        assert spared == {n for n in groups if n == "backbone.vit.pos_embed" or ".norm" in n}
        assert {group["lr"] for group in groups.values()} == {6e-5}

    @pytest.mark.parametrize("size", SIZES)
    def test_upernet(self, size):
        config = load(f"upernet_{size}_flsl_ade20k.py")
        groups, model = self.groups(config)
        backbone = config.model.backbone
        assert (tuple(backbone.taps), backbone.norm_taps, backbone.pyramid) == ((3, 5, 7, 11), True, "rescale")
        width = model.backbone.vit.embed_dim
        assert (model.decode_head.in_channels, model.decode_head.channels) == ([width] * 4, width)
        auxiliary = model.auxiliary_head
        assert (auxiliary.in_channels, auxiliary.in_index, auxiliary.channels) == (width, 2, 256)
        assert (len(auxiliary.convs), auxiliary.loss_decode.loss_weight) == (1, 0.4)
        assert config.model.test_cfg == dict(mode="slide", crop_size=(512, 512), stride=(341, 341))
        rates = {name: group["lr"] for name, group in groups.items()}
        assert rates["decode_head.conv_seg.weight"] == pytest.approx(3e-5)
        assert rates["backbone.vit.blocks.11.mlp.fc1.weight"] == pytest.approx(3e-5 * 0.9)
        assert rates["backbone.vit.patch_embed.proj.weight"] == pytest.approx(3e-5 * 0.9**13)
        shapes = {name: parameter.dim() for name, parameter in model.named_parameters()}
        spared = {name for name, group in groups.items() if group["weight_decay"] == 0}
        assert spared == {n for n in groups if shapes[n] == 1 or n == "backbone.vit.pos_embed"}

    @pytest.mark.parametrize("size", SIZES)
    def test_linear(self, size):
        config = load(f"linear_{size}_flsl_ade20k.py")
        groups, model = self.groups(config)
        width = model.backbone.vit.embed_dim
        assert (tuple(config.model.backbone.taps), config.model.backbone.pyramid) == ((3, 5, 7, 11), "none")
        assert set(groups) == {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}
        assert model.decode_head.conv_seg.weight.shape == (150, 4 * width, 1, 1)
        model.train()
        assert not any(module.training for module in model.backbone.vit.blocks)
        maps = model.backbone(torch.zeros(1, 3, 32, 48))
        feature = torch.cat(maps, dim=1)
        torch.testing.assert_close(model.decode_head(maps), model.decode_head.conv_seg(feature))
        assert config.model.test_cfg == dict(mode="slide", crop_size=(512, 512), stride=(341, 341))


class TestSizesOfTheViTs:
    @pytest.mark.parametrize(
        ("name", "sizes"),
        [
            ("maskrcnn_vits16_flsl.py", (384, 6, 16, (14, 14))),
            ("maskrcnn_vits8_flsl.py", (384, 6, 8, (28, 28))),
            ("maskrcnn_vitb16_flsl.py", (768, 12, 16, (14, 14))),
            ("fasterrcnn_vits16_flsl_uavdt.py", (384, 6, 16, (14, 14))),
            ("fasterrcnn_vits8_flsl_uavdt.py", (384, 6, 8, (28, 28))),
            ("fasterrcnn_vitb16_flsl_uavdt.py", (768, 12, 16, (14, 14))),
            *((f"{head}_vits16_flsl_ade20k.py", (384, 6, 16, (14, 14))) for head in SEGMENTORS),
            *((f"{head}_vits8_flsl_ade20k.py", (384, 6, 8, (28, 28))) for head in SEGMENTORS),
            *((f"{head}_vitb16_flsl_ade20k.py", (768, 12, 16, (14, 14))) for head in SEGMENTORS),
            (AS_RELEASED, (384, 8, 16, (14, 14))),
        ],
    )
    def test_width_heads_patch_and_positions(self, name, sizes):
        vit = MODELS.build(load(name).model.backbone).vit
        assert (vit.embed_dim, vit.blocks[0].attn.num_heads, vit.patch_size, vit.position_grid) == sizes
        assert vit.depth == 12
        assert vit.num_prefix_tokens == 0

    def test_the_number_of_heads_is_forced_in_the_released_variant_alone(self):
        assert load(AS_RELEASED).model.backbone.force_heads
        assert not any("force_heads" in load(name).model.backbone for name in RECIPES)

    def test_patch_8_recomputes_activations(self):
        assert MODELS.build(load("maskrcnn_vits8_flsl.py").model.backbone).vit.recompute


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    return make_coco(tmp_path_factory.mktemp("data") / "coco", train_images=6, val_images=3)


class TestPipelinesOnImages:
    @pytest.fixture
    def config(self, miniature):
        config = load(RECIPES[0], data_root=str(miniature), init_checkpoint=None)
        apply_knobs(config)
        return config

    def test_training_images_have_the_recipes_sizes(self, config):
        dataset = DATASETS.build(config.train_dataloader.dataset)
        np.random.seed(0)
        sizes = [sorted(dataset[index % len(dataset)]["inputs"].shape[1:]) for index in range(12)]
        for short, long in sizes:
            assert long <= 1333
            assert long >= 1332 or min(abs(short - side) for side in range(480, 801, 32)) <= 1
        assert len({short for short, _ in sizes}) > 3

    def test_test_annotations_keep_the_images_own_size(self, config):
        dataset = DATASETS.build(config.test_dataloader.dataset)
        sample = dataset[0]["data_samples"]
        instances = dataset.get_data_info(0)["instances"]
        expected = torch.tensor([i["bbox"] for i in instances if not i["ignore_flag"]])
        assert max(sample.img_shape) > max(sample.ori_shape)
        torch.testing.assert_close(sample.gt_instances.bboxes.tensor, expected, check_dtype=False)
        assert sample.gt_instances.masks.masks.shape[1:] == sample.ori_shape


class TestLoadingAConfig:
    @staticmethod
    def write(folder, text):
        path = folder / "own.py"
        path.write_text(text)
        return path

    def test_finds_the_shipped_ones_from_any_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert load_config(f"mmconfigs/{RECIPES[0]}").task == "coco"

    def test_merges_options(self):
        config = load(RECIPES[0], **{"train_dataloader.batch_size": 3, "model.backbone.taps": [0, 1, 2, 3]})
        assert config.train_dataloader.batch_size == 3
        assert config.model.backbone.taps == [0, 1, 2, 3]

    def test_missing_file(self, tmp_path):
        with pytest.raises(ConfigError, match=r"own\.py: no such config; the shipped ones are in .*mmconfigs"):
            load_config(tmp_path / "own.py")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model = dict(\n", r"own\.py: cannot be read \(SyntaxError: "),
            ("raise RuntimeError('two\\nlines')", r"own\.py: cannot be read \(RuntimeError: two\)$"),
            ("_base_ = 'absent.py'", r"own\.py: cannot be read \(FileNotFoundError: .*absent\.py"),
        ],
    )
    def test_broken_file(self, tmp_path, text, message):
        with pytest.raises(ConfigError, match=message):
            load_config(self.write(tmp_path, text))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model.backbone.arch.depth": 3}, "arch is a dict in the child config but is of type <class 'str'>"),
            ({"train_dataloader.dataset.pipeline.9.type": "X"}, "Index 9 exceeds the length"),
            ({"train_dataloader.dataset.pipeline.x.type": "X"}, "list indices must be integers"),
        ],
    )
    def test_option_that_does_not_fit(self, options, message):
        with pytest.raises(ConfigError, match=rf"^--cfg-options do not fit .*{RECIPES[0]}: .*{message}"):
            load(RECIPES[0], **options)

    @pytest.mark.parametrize("field", ["task", "protocol"])
    def test_missing_field(self, tmp_path, field):
        text = "\n".join(f"{name} = 'x'" for name in ("task", "protocol") if name != field)
        with pytest.raises(ConfigError, match=f"field {field} is missing; start from a config in mmconfigs/"):
            load_config(self.write(tmp_path, text))


class TestProtocolDeviations:
    @pytest.mark.parametrize("name", RECIPES)
    def test_shipped_configs_have_none(self, name):
        assert protocol_deviations(load(name)) == {}

    def test_released_number_of_heads_is_one(self):
        assert protocol_deviations(load(AS_RELEASED)) == {"model.backbone.force_heads": True}

    @pytest.mark.parametrize(
        "options",
        [
            {"optim_wrapper.optimizer.lr": 1e-4},
            {"train_dataloader.batch_size": 2},
            {"train_cfg.max_epochs": 3},
            {"model.backbone.drop_path": 0.1},
            {"model.backbone.taps": [2, 5, 8, 11]},
            {"model.backbone.position_rule": "size"},
            {"model.test_cfg.rcnn.score_thr": 0.01},
            {"model.neck.out_channels": 128},
            {"image_scale_factor": 0.5},
            {"optim_wrapper.clip_grad.max_norm": 1.0},
            {"train_dataloader.dataset.ann_file": "annotations/half.json"},
            {"optim_wrapper.optimizer.lr": 1e-4, "optim_wrapper.optimizer.weight_decay": 0.1},
        ],
        ids=lambda options: "+".join(options),
    )
    @pytest.mark.parametrize("name", RECIPES)
    def test_are_exactly_what_an_option_changed(self, name, options):
        assert protocol_deviations(load(name, **options)) == options

    def test_a_changed_pipeline_is_told_as_a_whole(self):
        config = load(RECIPES[0], **{"train_dataloader.dataset.pipeline.2.prob": 0.0})
        deviations = protocol_deviations(config)
        assert list(deviations) == ["train_dataloader.dataset.pipeline"]
        assert deviations["train_dataloader.dataset.pipeline"][2] == {"type": "RandomFlip", "prob": 0.0}

    def test_a_removed_setting_is_none(self):
        config = load(RECIPES[0])
        del config.model.backbone["drop_path"]
        assert protocol_deviations(config) == {"model.backbone.drop_path": None}

    @pytest.mark.parametrize(
        "options",
        [
            {"data_root": "/data/coco"},
            {"train_dataloader.dataset.data_root": "/data/coco", "val_evaluator.ann_file": "/data/coco/x.json"},
            {"init_checkpoint": "/weights/other.pth"},
            {"work_dir": "/runs/1"},
            {"resume": True, "load_from": "/runs/1/epoch_3.pth"},
            {"train_dataloader.num_workers": 8, "val_dataloader.persistent_workers": False},
            {"model.backbone.recompute": True},
            {"randomness.seed": 7},
            {"default_hooks.logger.interval": 1, "log_level": "ERROR", "env_cfg.dist_cfg.backend": "gloo"},
            {"model.backbone.taps": [3, 5, 7, 11]},  # a list instead of the config's tuple
        ],
        ids=lambda options: "+".join(options),
    )
    def test_where_and_how_conveniently_it_runs_is_none(self, options):
        assert protocol_deviations(load(RECIPES[0], **options)) == {}

    def test_carried_knobs_are_none(self, tmp_path):
        config = load(RECIPES[0], data_root=str(tmp_path))
        apply_knobs(config)
        assert protocol_deviations(config) == {}


class TestKnobs:
    def test_data_root_reaches_loaders_and_evaluators(self, tmp_path):
        config = load(RECIPES[0], data_root=str(tmp_path))
        apply_knobs(config)
        assert {config[name].dataset.data_root for name in LOADERS} == {str(tmp_path)}
        expected = str(tmp_path / "annotations/instances_val2017.json")
        assert config.val_evaluator.ann_file == config.test_evaluator.ann_file == expected

    def test_data_root_reaches_a_wrapped_data_set(self, tmp_path):
        config = load(RECIPES[0], data_root=str(tmp_path))
        config.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=config.train_dataloader.dataset)
        apply_knobs(config)
        assert config.train_dataloader.dataset.dataset.data_root == str(tmp_path)

    def test_init_checkpoint_reaches_the_backbone(self, tmp_path):
        config = load(RECIPES[0], init_checkpoint=str(tmp_path / "weights.pth"))
        apply_knobs(config)
        assert config.model.backbone.init_cfg == dict(type="Pretrained", checkpoint=str(tmp_path / "weights.pth"))

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_no_init_checkpoint_leaves_random_weights(self, nothing):
        config = load(RECIPES[0], init_checkpoint=nothing)
        apply_knobs(config)
        assert "init_cfg" not in config.model.backbone
        assert config.init_checkpoint is None

    def test_image_scale_factor_reaches_every_size_once(self):
        config = load(RECIPES[0], image_scale_factor=0.5)
        apply_knobs(config)
        (plain,), (shrink, crop, grow) = config.train_dataloader.dataset.pipeline[3].transforms
        for resize in (plain, grow):
            assert [tuple(scale) for scale in resize.scales] == [(666, side // 2) for side in range(480, 801, 32)]
        assert [tuple(scale) for scale in shrink.scales] == [(666, 200), (666, 250), (666, 300)]
        assert tuple(crop.crop_size) == (192, 300)
        for name in ("val_dataloader", "test_dataloader"):
            assert tuple(config[name].dataset.pipeline[1].scale) == (666, 400)

    def test_image_scale_factor_reaches_the_crops_and_windows_of_a_segmentor(self):
        config = load("upernet_vits16_flsl_ade20k.py", image_scale_factor=0.25)
        apply_knobs(config)
        _, _, resize, crop, *_ = config.train_dataloader.dataset.pipeline
        assert (resize.scale, resize.ratio_range, crop.crop_size) == ((512, 128), (0.5, 2.0), (128, 128))
        assert config.test_dataloader.dataset.pipeline[1].scale == (512, 128)
        assert config.model.data_preprocessor.size == (128, 128)
        assert config.model.test_cfg == dict(mode="slide", crop_size=(128, 128), stride=(85, 85))

    def test_image_scale_factor_of_one_changes_nothing(self):
        config = load(RECIPES[0])
        apply_knobs(config)
        for name in LOADERS:
            assert config[name].dataset.pipeline == load(RECIPES[0])[name].dataset.pipeline

    def test_image_scale_factor_leaves_at_least_one_pixel(self):
        config = load(RECIPES[0], image_scale_factor=1e-6)
        apply_knobs(config)
        assert tuple(config.test_dataloader.dataset.pipeline[1].scale) == (1, 1)


class TestFittingTheBackbone:
    """A config gets from a checkpoint what only that knows."""

    @pytest.fixture
    def config(self):
        config = load(RECIPES[0])
        config.model.backbone.arch = dict(TINY)
        config.model.backbone.taps = (0, 1, 2, 3)
        return config

    @pytest.fixture
    def checkpoint(self, tmp_path):
        """A function that saves a ViT and gives its path and the facts about it."""

        def save(**options):
            path = tmp_path / "weights.pth"
            torch.save(VisionTransformer(**{**TINY, **options}).state_dict(), path)
            return str(path), load_checkpoint(path, num_heads=3).facts

        return save

    @pytest.mark.parametrize(
        "options",
        [
            dict(class_token=False, position_grid=(3, 3)),
            dict(class_token=True, position_grid=(5, 5), layer_scale=True),
            dict(class_token=True, num_registers=4, position_grid=(4, 4), qkv_bias=False),
            dict(class_token=False, mlp_ratio=3.0),
        ],
        ids=str,
    )
    def test_every_kind_of_checkpoint_fits_afterwards(self, config, checkpoint, options):
        path, facts = checkpoint(**options)
        fit_backbone(config, facts)
        backbone = PlainViT(
            **{key: value for key, value in config.model.backbone.items() if key != "type"},
            init_cfg=dict(type="Pretrained", checkpoint=path),
        )
        backbone.init_weights()
        weights = torch.load(path)
        assert all(torch.equal(value, weights[name]) for name, value in backbone.vit.state_dict().items())

    def test_heads_come_from_the_checkpoint(self, config, checkpoint):
        fit_backbone(config, checkpoint()[1])
        assert config.model.backbone.num_heads == 3

    def test_heads_that_the_config_states_stay(self, config, checkpoint):
        config.model.backbone.num_heads = 8
        fit_backbone(config, checkpoint()[1])
        assert config.model.backbone.num_heads == 8

    def test_recipe_stays(self, config, checkpoint):
        fit_backbone(config, checkpoint()[1])
        assert config.model.backbone.drop_path == 0.05
        assert list(protocol_deviations(config)) == ["model.backbone.taps"]  # which this test changed

    @pytest.mark.parametrize(
        ("options", "given"),
        [
            (dict(depth=5), (24, 5, 16)),
            (dict(embed_dim=48), (48, 4, 16)),
            (dict(patch_size=8), (24, 4, 8)),
        ],
    )
    def test_another_architecture_is_refused(self, config, checkpoint, options, given):
        path, facts = checkpoint(**options)
        with pytest.raises(ConfigError) as caught:
            fit_backbone(config, facts)
        message = str(caught.value)
        assert message.startswith(
            f"{path}: holds a ViT of width, depth, patch {given} where the config asks for (24, 4, 16)"
        )
        assert "; use the config of that size, or set model.backbone.arch" in message


class TestFittingTheDevice:
    @pytest.fixture
    def config(self):
        config = load(RECIPES[0])
        config.launcher = "none"
        return config

    @pytest.fixture
    def gpu(self, monkeypatch):
        """A function that makes torch report whether there is a GPU."""
        return lambda present: monkeypatch.setattr(torch.cuda, "is_available", lambda: present)

    def test_without_a_gpu_precision_is_full_and_the_backend_gloo(self, config, gpu):
        gpu(False)
        config.optim_wrapper.dtype = "float16"
        assert fit_device(config) == "fp32"
        assert config.optim_wrapper.type == "OptimWrapper"
        assert not {"loss_scale", "dtype"} & set(config.optim_wrapper)
        assert config.optim_wrapper.optimizer.lr == 5e-5
        assert config.env_cfg.dist_cfg.backend == "gloo"
        assert "model_wrapper_cfg" not in config

    def test_without_a_gpu_processes_get_no_device_numbers(self, config, gpu):
        gpu(False)
        config.launcher = "pytorch"
        fit_device(config)
        assert config.model_wrapper_cfg.type == "MMDistributedDataParallel"
        assert config.model_wrapper_cfg.device_ids is None

    def test_with_a_gpu_nothing_changes(self, config, gpu):
        gpu(True)
        config.launcher = "pytorch"
        before = config.to_dict()
        assert fit_device(config) == "fp16 (AMP)"
        assert config.to_dict() == before
        assert config.env_cfg.dist_cfg.backend == "nccl"

    @pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", "bf16 (AMP)"), ("float16", "fp16 (AMP)")])
    def test_precision_with_a_gpu_is_that_of_the_wrapper(self, config, gpu, dtype, precision):
        gpu(True)
        config.optim_wrapper.dtype = dtype
        assert fit_device(config) == precision

    @pytest.mark.parametrize("present", [True, False])
    def test_precision_without_mixing_is_full(self, config, gpu, present):
        gpu(present)
        config.optim_wrapper = dict(type="OptimWrapper", optimizer=config.optim_wrapper.optimizer)
        assert fit_device(config) == "fp32"
