# FLSL ViT-S/8, Faster R-CNN, UAVDT; the ViT-S/16 recipe. A frame has up to 14,800 tokens, hence the recomputed
# activations.
_base_ = "fasterrcnn_vits16_flsl_uavdt.py"
model = dict(backbone=dict(patch_size=8, position_grid=(28, 28), recompute=True))
init_checkpoint = "checkpoints/flsl_vits8.pth"
