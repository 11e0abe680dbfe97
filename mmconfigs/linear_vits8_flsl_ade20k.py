# FLSL ViT-S/8, a linear layer on frozen features, ADE20K. Never published; the ViT-S/16 recipe.
_base_ = "linear_vits16_flsl_ade20k.py"
model = dict(backbone=dict(patch_size=8, position_grid=(28, 28)))
init_checkpoint = "checkpoints/flsl_vits8.pth"
