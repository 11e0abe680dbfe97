# UAVDT as `flsl-bench data convert-uavdt` writes it: COCO's loaders and image sizes, boxes alone. A frame of 1024x540
# is trained at short sides 480 to 703 and tested at 1333x703, 1.3 times its size, which suits many tiny vehicles.
_base_ = "coco_instance.py"
data_root = "data/uavdt/"

train_pipeline = _base_.train_pipeline
train_pipeline[1] = dict(type="LoadAnnotations", with_bbox=True)
test_pipeline = _base_.test_pipeline
test_pipeline[2] = dict(type="LoadAnnotations", with_bbox=True)

_frames = dict(
    data_root=data_root,
    metainfo=dict(classes=("car", "truck", "bus")),
    data_prefix=dict(img="UAV-benchmark-M/"),
)
train_dataloader = dict(
    dataset=dict(ann_file="annotations/uavdt_train.json", pipeline=train_pipeline, **_frames),
)
val_dataloader = dict(
    dataset=dict(ann_file="annotations/uavdt_test.json", pipeline=test_pipeline, **_frames),
)
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type="UavdtAP", ann_file=data_root + "annotations/uavdt_test.json", metric="bbox")
test_evaluator = val_evaluator
