# A small ViT and small heads, trained on the miniature UAVDT within minutes on a CPU. Everything that differs from
# the recipe of UAVDT is here; its numbers say that the machinery works and nothing more.
_base_ = "fasterrcnn_vits16_flsl_uavdt.py"

protocol = dict(
    name="miniature_uavdt_fasterrcnn",
    reference="fasterrcnn_vitt16_flsl_uavdt_miniature.py",
    global_batch_size=4,
    images=dict(train=80, val=24),
)
data_root = "data/miniature/uavdt"
init_checkpoint = "checkpoints/demo_vitt16.pth"

_channels = 64
_scale = (352, 196)

model = dict(
    backbone=dict(arch=dict(_delete_=True, embed_dim=192, depth=4, num_heads=3), taps=(0, 1, 2, 3), drop_path=0.0),
    neck=dict(in_channels=[192] * 4, out_channels=_channels),
    # Anchors of half the size: here a car is 20 to 30 pixels long.
    rpn_head=dict(in_channels=_channels, feat_channels=_channels, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=_channels), bbox_head=dict(in_channels=_channels, fc_out_channels=256)
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=250), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=250)),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Resize", scale=_scale, keep_ratio=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=_scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=8, val_interval=8)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="MultiStepLR", begin=0, end=8, by_epoch=True, milestones=[6, 7], gamma=0.1),
]
optim_wrapper = dict(_delete_=True, type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05))
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=1))
