# FLSL ViT-S/16, a linear layer on frozen features, ADE20K, 160k iterations: iBOT's settings. Figures were reported for
# ViT-B/16 only.
_base_ = [
    "_base_/ade20k.py",
    "_base_/linear_vit.py",
    "_base_/schedule_ade20k_160k.py",
]
task = "ade20k-linear"
protocol = dict(
    name="ade20k_linear_160k",
    version="1",
    reference="linear_vits16_flsl_ade20k.py",  # every difference from this file is recorded with the result
    global_batch_size=16,
    images=dict(train=20_210, val=2_000),
)
init_checkpoint = "checkpoints/flsl_vits16.pth"

optim_wrapper = dict(optimizer=dict(lr=8e-4))
