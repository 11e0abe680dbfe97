# FLSL ViT-B/16, Faster R-CNN, UAVDT; the ViT-S/16 recipe.
_base_ = "fasterrcnn_vits16_flsl_uavdt.py"
model = dict(backbone=dict(arch="base"), neck=dict(in_channels=[768] * 4))
init_checkpoint = "checkpoints/flsl_vitb16.pth"
