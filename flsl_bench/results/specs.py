"""What each table of the results shows: its sections, their titles, their columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flsl_bench.results.record import Record
from flsl_bench.results.reported import Figure
from flsl_bench.results.rows import Gap, question

_DEMO = "The demo: "


@dataclass(frozen=True)
class TableSpec:
    """One table. Figures of two benchmarks are not comparable, so each has a section of its own."""

    label: str  # the data set; stands before a section's title where sections of several tables meet
    title: str
    sections: Mapping[str, str]  # benchmark -> title, in the order of the table
    metrics: tuple[str, ...]  # columns of every section, by their names in records
    more: tuple[str, ...] = ()  # columns of the sections where they have a value
    tasks: tuple[str, ...] = ()  # whose records it shows; empty: those that no other table shows
    gaps: Mapping[str, tuple[Gap, ...]] = field(default_factory=dict)  # benchmark -> rows that lack a source
    notes: tuple[str, ...] = ()  # footnotes besides those that explain the signs

    def shows(self, figure: Figure) -> bool:
        """Whether the figure has a cell in this table."""
        return figure.benchmark in self.sections and figure.record_metric in (*self.metrics, *self.more)

    def heading(self, benchmark: str) -> str:
        """A section's title for where it stands beside those of other tables."""
        title = self.sections.get(benchmark, benchmark)
        named = not self.label or title.startswith(_DEMO)
        return title if named else f"{self.label}: {title}"


def _demo(data: str, network: str) -> str:
    return f"{_DEMO}miniature {data}, a small {network}; not {data} and not comparable with it"


_SUITE = "plain ViT with rescaled taps and FPN, 1x (the protocol this suite runs)"

_BOXES = ("box_AP", "box_AP50", "box_AP75")
_MASKS = ("mask_AP", "mask_AP50", "mask_AP75")
_BOX_SIZES = ("box_APs", "box_APm", "box_APl")
_MASK_SIZES = ("mask_APs", "mask_APm", "mask_APl")

COCO = TableSpec(
    label="COCO",
    title="COCO: object detection and instance segmentation, AP in % on val2017",
    tasks=("coco",),
    sections={
        "coco_maskrcnn_vit_fpn_1x": f"Mask R-CNN, {_SUITE}",
        "coco_cascade_maskrcnn_vit_1x": "Cascade Mask R-CNN, ViT, 1x (iBOT's protocol)",
        "coco_maskrcnn_r50_fpn_90k": "Mask R-CNN, ResNet-50 FPN, 90k iterations",
        "coco_maskrcnn_r50_fpn_180k": "Mask R-CNN, ResNet-50 FPN, 180k iterations",
        "coco_maskrcnn_r50_fpn_12k": "Mask R-CNN, ResNet-50 FPN, 12k iterations",
        "coco_maskrcnn_r50_c4_90k": "Mask R-CNN, ResNet-50 C4, 90k iterations",
        "coco_maskrcnn_r50_c4_180k": "Mask R-CNN, ResNet-50 C4, 180k iterations",
        "coco_maskrcnn_r50_c4_12k": "Mask R-CNN, ResNet-50 C4, 12k iterations",
        "coco_maskrcnn_r50_fpn_4conv1fc_90k": "Mask R-CNN, ResNet-50 FPN, 4conv1fc box head, 90k iterations",
        "coco_maskrcnn_r50_fpn_4conv1fc_1x_mmdet": "Mask R-CNN, ResNet-50 FPN, 4conv1fc box head, 1x in MMDetection",
        "coco_maskrcnn_r50_fpn_90k_insloc": "Mask R-CNN, ResNet-50 FPN, 90k iterations, InsLoc's variant",
        "coco_maskrcnn_r50_fpn_unspecified": "Mask R-CNN, ResNet-50 FPN, schedule not stated",
        "coco_instance_seg_unspecified": "Instance segmentation, ResNet-50, detector not stated",
        "coco_detection_r50_finetune": "Detection, ResNet-50, detector not stated",
        "miniature_coco_maskrcnn": _demo("COCO", "Mask R-CNN"),
    },
    metrics=(*_BOXES, *_MASKS),
    gaps={"coco_maskrcnn_vit_fpn_1x": (Gap("FLSL", "No source for FLSL's ViT-B/16 figures was found.", "ViT-B/16"),)},
    notes=("Works without a row, because no source for their figures was found: CCOP, MMC, Pair DETR, SCFS.",),
)

UAVDT = TableSpec(
    label="UAVDT",
    title="UAVDT: object detection, AP in % on the 20 test sequences",
    tasks=("uavdt",),
    sections={
        "uavdt_fasterrcnn_vit_fpn_1x": f"Faster R-CNN, {_SUITE}",
        "miniature_uavdt_fasterrcnn": _demo("UAVDT", "Faster R-CNN"),
    },
    metrics=(*_BOXES, *_BOX_SIZES, "official_AP"),
    gaps={"uavdt_fasterrcnn_vit_fpn_1x": (Gap("FLSL", "No source for FLSL's UAVDT figures was found."),)},
    notes=(
        "box AP: COCO's AP over car, truck and bus; official AP: the data set's own toolkit, classes not told apart, "
        "IoU 0.7. The detector is this suite's choice: no protocol was published.",
    ),
)

ADE20K = TableSpec(
    label="ADE20K",
    title="ADE20K: semantic segmentation, mIoU in % on the validation images, 150 classes",
    tasks=("ade20k", "ade20k-upernet", "ade20k-linear"),
    sections={
        "ade20k_semfpn_40k": "Semantic FPN, 40k iterations",
        "ade20k_upernet_160k": "UperNet, 160k iterations",
        "ade20k_linear_160k": "Linear, frozen backbone, 160k iterations",
        "ade20k_semseg_unspecified": "Semantic segmentation, protocol not stated",
        "miniature_ade20k_semfpn": _demo("ADE20K", "Semantic FPN"),
    },
    metrics=("mIoU",),
    more=("mAcc", "aAcc", "mIoU_150"),
    gaps={"ade20k_semfpn_40k": (Gap("FLSL", "No source with an ADE20K figure for FLSL was found."),)},
    notes=(
        "mIoU: mean over the classes that occur in the annotations or the predictions, as MMSegmentation takes it; "
        "mIoU 150: the sum over all classes divided by 150, as the data set's own demo takes it. They are one number "
        "where all 150 classes occur.",
    ),
)

DAVIS = TableSpec(
    label="DAVIS 2017",
    title="DAVIS 2017: video object segmentation by label propagation, J and F in % on val",
    tasks=("davis",),
    sections={
        "davis2017_val_label_prop": "Label propagation with frozen features (the protocol this suite runs)",
    },
    metrics=("J&F-Mean", "J-Mean", "F-Mean"),
    more=("J-Recall", "J-Decay", "F-Recall", "F-Decay"),
    gaps={
        "davis2017_val_label_prop": (
            Gap("FLSL", "No source for FLSL's DAVIS figures was found."),
            Gap("DINO+SelfPatch", "No source for SelfPatch's DAVIS figures was found."),
        )
    },
    notes=("STM is trained on the masks of videos; the other methods see no mask but the first frame's.",),
)

_MASKED = ("coco", "davis", "voc", "ade20k")
_PROBED = (  # task, protocol and title, each of a data set
    ("prompt-seg-{}", "mmc_style_prompt_seg_{}", "MMC-style segmentation from one prompted patch", _MASKED),
    ("similarity-{}", "object_similarity_{}", "Patches within and between objects", _MASKED),
    ("box-knn-{}", "box_knn_{}", "Box-aligned k-NN", ("imagenet", "voc", "coco")),
    ("dense-nn-{}", "dense_nn_{}", "Dense nearest-neighbour retrieval", ("voc", "ade20k")),
    ("linear-seg-{}", "linear_seg_{}_20ep", "Linear segmentation of frozen patches, 20 epochs", ("voc", "ade20k")),
)
_DATA = {"coco": "COCO", "davis": "DAVIS 2017", "voc": "PASCAL VOC", "ade20k": "ADE20K", "imagenet": "ImageNet"}

PROBES = TableSpec(
    label="Probes",
    title="Probes of frozen features, in %",
    tasks=tuple(task.format(data) for task, _, _, data_sets in _PROBED for data in data_sets),
    sections={
        protocol.format(data): f"{title}: {_DATA[data]}"
        for _, protocol, title, data_sets in _PROBED
        for data in data_sets
    },
    metrics=(),
    more=(
        *(f"mIoU{part}" for part in ("", "-class", "-oracle", "-small", "-medium", "-large")),
        *("mAcc", "aAcc", "AUC", "AUROC", "AUROC-objects", "AUROC-background", "overlap"),
        *("any_20", "majority_20", "patch_20", "any_10", "any_100", "any_200"),
    ),
    notes=(
        "Protocols are this suite's: of MMC's probe only the abstract is published; the k-NN follows FLSL, the "
        "retrieval Hummingbird. mIoU of prompts: over objects, at the best threshold of the data set; class: over "
        "classes; oracle: at each object's own best threshold. Of the overlap, less is better. any: images of which at "
        "least one of nine patches is voted right, as published.",
    ),
)

_SHARES = ("1", "2", "5", "10")  # percent of COCO's training images
_BY_SIZE = ("r50_fpn_90k", "r50_fpn_180k", "r50_c4_90k", "r50_c4_180k")

OTHERS = TableSpec(
    label="",
    title="Other benchmarks in the papers",
    sections={
        "voc0712_fasterrcnn_c4_24k": "Pascal VOC 07+12: Faster R-CNN, C4, 24k iterations",
        "voc0712_fasterrcnn_c4_24k_mmdet": "Pascal VOC 07+12: Faster R-CNN, C4, 24k iterations, in MMDetection",
        "voc0712_ddetr_100ep": "Pascal VOC 07+12: Deformable DETR, 100 epochs",
        "voc0712_detection_finetune": "Pascal VOC 07+12: detection, detector not stated",
        "voc12aug_fcn_20k_512": "Pascal VOC 12 (augmented): FCN, 20k iterations",
        "voc12aug_fcn_20k_512_mmseg": "Pascal VOC 12 (augmented): FCN, 20k iterations, in MMSegmentation",
        "voc12_semseg_finetune": "Pascal VOC 12: semantic segmentation, protocol not stated",
        "voc12_val_attention_jaccard_60pct_mass": "Pascal VOC 12 val: attention with 60 % of the mass as a mask",
        "cityscapes_maskrcnn_r50_fpn_24k": "Cityscapes: Mask R-CNN, ResNet-50 FPN, 24k iterations",
        "cityscapes_upernet_r50_40k": "Cityscapes: UperNet, ResNet-50, 40k iterations",
        "cityscapes_upernet_r50_80k": "Cityscapes: UperNet, ResNet-50, 80k iterations",
        "cityscapes_semseg_r50": "Cityscapes: semantic segmentation, ResNet-50",
        "cityscapes_semseg_finetune": "Cityscapes: semantic segmentation, protocol not stated",
        "imagenet_knn": "ImageNet: k-NN on frozen features",
        "imagenet_linear": "ImageNet: linear classifier on frozen features",
        **{
            f"coco_maskrcnn_{name}": f"COCO: {COCO.sections[f'coco_maskrcnn_{name}']}, by size of the objects"
            for name in _BY_SIZE
        },
        "coco_retinanet_r50_12k": "COCO: RetinaNet, ResNet-50, 12k iterations",
        "coco_retinanet_r50_90k": "COCO: RetinaNet, ResNet-50, 90k iterations",
        "coco_retinanet_r50_180k": "COCO: RetinaNet, ResNet-50, 180k iterations",
        "coco_fcos_r50": "COCO: FCOS, ResNet-50",
        "coco_sparsercnn_r50_3x_ms": "COCO: Sparse R-CNN, ResNet-50, 3x, multi-scale",
        "coco_detr_300ep": "COCO: DETR, 300 epochs",
        "coco_detr_500ep": "COCO: DETR, 500 epochs",
        "coco_ddetr_50ep": "COCO: Deformable DETR, 50 epochs",
        "coco_solov2_r50": "COCO: SOLOv2, ResNet-50",
        "coco_keypointrcnn_r50_180k": "COCO keypoints: Keypoint R-CNN, ResNet-50, 180k iterations",
        "coco_densepose_r50": "COCO DensePose: ResNet-50",
        "coco_curated_unsup_semseg_27": "COCO, curated: unsupervised segmentation into 27 classes",
        **{
            f"coco{share}pct_{detector}": f"COCO, {share} % of the training images: {title}"
            for detector, title in {
                "maskrcnn_r50_fpn": "Mask R-CNN, ResNet-50 FPN",
                "retinanet_r50": "RetinaNet, ResNet-50",
                "frcnn": "Faster R-CNN, semi-supervised",
                "ddetr": "Deformable DETR",
            }.items()
            for share in _SHARES
        },
    },
    metrics=(),
    more=(
        *(*_BOXES, *_BOX_SIZES, *_MASKS, *_MASK_SIZES, "voc11pt_AP50", "kp_AP", "kp_AP50", "kp_AP75"),
        *("dp_AP", "dp_AP50", "dp_AP75", "mIoU", "jaccard", "top1"),
    ),
    notes=("voc11pt AP50: AP at IoU 0.5 by VOC 2007's eleven points; kp: keypoints; dp: DensePose; top1: accuracy.",),
)

TABLES = {"coco": COCO, "uavdt": UAVDT, "ade20k": ADE20K, "davis": DAVIS, "probes": PROBES, "others": OTHERS}


def spec_of(task: str) -> TableSpec:
    """The table that shows the records of `task`."""
    return next((spec for spec in TABLES.values() if task in spec.tasks), OTHERS)


def table_order(record: Record) -> tuple:
    """Sort key: what followed its protocol, then the rest; each by table, section, protocol and its version."""
    spec = spec_of(record.task)
    benchmarks, name = list(spec.sections), record.protocol.name
    place = benchmarks.index(name) if name in benchmarks else len(benchmarks)
    table = list(TABLES.values()).index(spec)
    return (not record.comparable, table, place, record.task, name, record.protocol.version, question(record))
