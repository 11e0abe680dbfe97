# A small ViT and a small Semantic FPN, trained on the miniature ADE20K within a minute on a CPU. Everything that
# differs from the published recipe is here; its numbers say that the machinery works and nothing more.
_base_ = "semfpn_vits16_flsl_ade20k.py"

protocol = dict(
    name="miniature_ade20k_semfpn",
    reference="semfpn_vitt16_flsl_ade20k_miniature.py",
    global_batch_size=4,
    images=dict(train=120, val=24),
)
data_root = "data/miniature/ade20k"
init_checkpoint = "checkpoints/demo_vitt16.pth"

_channels = 64
_crop = (128, 128)
_scale = (240, 200)

model = dict(
    data_preprocessor=dict(size=_crop),
    backbone=dict(arch=dict(_delete_=True, embed_dim=192, depth=4, num_heads=3), taps=(0, 1, 2, 3), drop_path=0.0),
    neck=dict(in_channels=[192] * 4, out_channels=_channels),
    decode_head=dict(in_channels=[_channels] * 4, channels=_channels),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", imdecode_backend="pillow"),
    dict(type="Resize", scale=_scale, keep_ratio=True),
    dict(type="RandomCrop", crop_size=_crop, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=_scale, keep_ratio=True),
    dict(type="LoadAnnotations", imdecode_backend="pillow"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=250, val_interval=250)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=250),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.05))
default_hooks = dict(checkpoint=dict(interval=125, max_keep_ckpts=1))
