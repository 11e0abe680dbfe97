# FLSL ViT-S/16, Mask R-CNN, COCO 1x. Reported: 44.9 box AP, 40.8 mask AP (arXiv 2306.06203, abstract).
# The released config says num_heads=8; the weights were trained with the 6 of ViT-S, which is used here.
_base_ = [
    "_base_/runtime.py",
    "_base_/coco_instance.py",
    "_base_/maskrcnn_vit.py",
    "_base_/schedule_coco_1x.py",
]
task = "coco"
protocol = dict(
    name="coco_maskrcnn_vit_fpn_1x",
    version="1",
    reference="maskrcnn_vits16_flsl.py",  # every difference from this file is recorded with the result
    global_batch_size=8,
    images=dict(train=118_287, val=5_000),
)
init_checkpoint = "checkpoints/flsl_vits16.pth"
