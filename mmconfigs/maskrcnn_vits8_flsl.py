# FLSL ViT-S/8, Mask R-CNN, COCO 1x. Reported: 46.5 box AP, 42.1 mask AP (arXiv 2306.06203, abstract). Its config was
# never published; this is the ViT-S/16 recipe. An image has up to 16,600 tokens, hence the recomputed activations.
_base_ = "maskrcnn_vits16_flsl.py"
model = dict(backbone=dict(patch_size=8, position_grid=(28, 28), recompute=True))
init_checkpoint = "checkpoints/flsl_vits8.pth"
