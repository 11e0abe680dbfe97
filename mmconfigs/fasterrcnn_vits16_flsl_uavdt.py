# FLSL ViT-S/16, Faster R-CNN, UAVDT. FLSL published no protocol for UAVDT; this one is ours: the recipe of COCO for
# 12 epochs on all frames of the 30 training sequences, tested on those of the 20 test sequences.
_base_ = [
    "_base_/runtime.py",
    "_base_/uavdt_detection.py",
    "_base_/fasterrcnn_vit.py",
    "_base_/schedule_coco_1x.py",
]
task = "uavdt"
protocol = dict(
    name="uavdt_fasterrcnn_vit_fpn_1x",
    version="1",
    reference="fasterrcnn_vits16_flsl_uavdt.py",  # every difference from this file is recorded with the result
    global_batch_size=8,
    images=dict(train=23_829, val=16_580),
)
init_checkpoint = "checkpoints/flsl_vits16.pth"
