# The attention heads of FLSL's and SelfPatch's released detection configs: 8, where the weights were trained with 6.
_base_ = "maskrcnn_vits16_flsl.py"
model = dict(backbone=dict(num_heads=8, force_heads=True))
