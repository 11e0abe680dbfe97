# FLSL ViT-B/16, UperNet, ADE20K. Neither the config nor the figures were published; the ViT-S/16 recipe, with a head as
# wide as the backbone. Reported: iBOT 50.0 mIoU (arXiv 2111.07832).
_base_ = "upernet_vits16_flsl_ade20k.py"
protocol = dict(reference="upernet_vitb16_flsl_ade20k.py")
model = dict(
    backbone=dict(arch="base"),
    decode_head=dict(in_channels=[768] * 4, channels=768),
    auxiliary_head=dict(in_channels=768),
)
init_checkpoint = "checkpoints/flsl_vitb16.pth"
