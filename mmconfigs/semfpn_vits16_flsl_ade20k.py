# FLSL ViT-S/16, Semantic FPN, ADE20K, 40k iterations: SelfPatch's protocol. Reported: DINO 38.3, SelfPatch 41.2 mIoU
# (alinlab/SelfPatch, segmentation/README.md).
_base_ = [
    "_base_/ade20k.py",
    "_base_/semfpn_vit.py",
    "_base_/schedule_ade20k_40k.py",
]
task = "ade20k"
protocol = dict(
    name="ade20k_semfpn_40k",
    version="1",
    reference="semfpn_vits16_flsl_ade20k.py",  # every difference from this file is recorded with the result
    global_batch_size=16,
    images=dict(train=20_210, val=2_000),
)
init_checkpoint = "checkpoints/flsl_vits16.pth"
