# FLSL ViT-B/16, Semantic FPN, ADE20K. Neither the config nor the figures were published; the ViT-S/16 recipe.
_base_ = "semfpn_vits16_flsl_ade20k.py"
model = dict(backbone=dict(arch="base"), neck=dict(in_channels=[768] * 4))
init_checkpoint = "checkpoints/flsl_vitb16.pth"
