# FLSL ViT-S/16, UperNet, ADE20K, 160k iterations: iBOT's settings. Reported: DINO 42.3, SelfPatch 43.2
# (alinlab/SelfPatch, segmentation/README.md), iBOT 45.4 mIoU (arXiv 2111.07832).
_base_ = [
    "_base_/ade20k.py",
    "_base_/upernet_vit.py",
    "_base_/schedule_ade20k_160k.py",
]
task = "ade20k-upernet"
protocol = dict(
    name="ade20k_upernet_160k",
    version="1",
    reference="upernet_vits16_flsl_ade20k.py",  # every difference from this file is recorded with the result
    global_batch_size=16,
    images=dict(train=20_210, val=2_000),
)
init_checkpoint = "checkpoints/flsl_vits16.pth"

# As BEiT's constructor has it: no decay for anything of one dimension.
optim_wrapper = dict(
    optimizer=dict(lr=3e-5),
    constructor="ViTLayerDecayConstructor",
    paramwise_cfg=dict(
        layer_decay_rate=0.9,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0)),
    ),
)
