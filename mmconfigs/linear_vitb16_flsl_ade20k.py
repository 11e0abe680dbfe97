# FLSL ViT-B/16, a linear layer on frozen features, ADE20K. Reported: iBOT 38.3, DINO 34.5 mIoU (POA, table 2).
_base_ = "linear_vits16_flsl_ade20k.py"
protocol = dict(reference="linear_vitb16_flsl_ade20k.py")
model = dict(backbone=dict(arch="base"), decode_head=dict(in_channels=[768] * 4, channels=4 * 768))
init_checkpoint = "checkpoints/flsl_vitb16.pth"
