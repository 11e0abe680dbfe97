# FLSL ViT-S/8, Semantic FPN, ADE20K. Neither the config nor the figures were published; the ViT-S/16 recipe. A crop
# has 4,096 tokens, hence the recomputed activations.
_base_ = "semfpn_vits16_flsl_ade20k.py"
model = dict(backbone=dict(patch_size=8, position_grid=(28, 28), recompute=True))
init_checkpoint = "checkpoints/flsl_vits8.pth"
