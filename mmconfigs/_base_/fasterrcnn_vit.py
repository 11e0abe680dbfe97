# Faster R-CNN: the Mask R-CNN beside it without its masks, for UAVDT's three categories and dense frames.
_base_ = "maskrcnn_vit.py"

# An anchor or proposal that lies by half in an ignore region is no negative: there are vehicles nobody annotated.
_spare_ignored = dict(assigner=dict(ignore_iof_thr=0.5))

model = dict(
    type="FasterRCNN",
    data_preprocessor=dict(pad_mask=False),
    roi_head=dict(bbox_head=dict(num_classes=3), mask_roi_extractor=None, mask_head=None),
    train_cfg=dict(rpn=_spare_ignored, rcnn=_spare_ignored),
    # COCO's AP counts the first 100 of each category; the official AP counts all.
    test_cfg=dict(rcnn=dict(max_per_img=300)),
)
