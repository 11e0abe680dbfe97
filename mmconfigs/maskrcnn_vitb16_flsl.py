# FLSL ViT-B/16, Mask R-CNN, COCO 1x. Neither the config nor the figures were published; the ViT-S/16 recipe.
_base_ = "maskrcnn_vits16_flsl.py"
model = dict(backbone=dict(arch="base"), neck=dict(in_channels=[768] * 4))
init_checkpoint = "checkpoints/flsl_vitb16.pth"
