# Semantic FPN on four taps of a plain ViT, all at the patch stride.
_base_ = "segmentor_vit.py"
model = dict(
    # Whole images of any size: padded to whole patches, or their maps would be stretched by the remainder.
    data_preprocessor=dict(test_cfg=dict(size_divisor=16)),
    backbone=dict(taps=(2, 5, 8, 11), norm_taps=False, pyramid="none", drop_path=0.1),
    neck=dict(type="FPN", in_channels=[384] * 4, out_channels=256, num_outs=4),
    decode_head=dict(
        type="FPNHead",
        in_channels=[256] * 4,
        feature_strides=[16] * 4,  # only their ratios count: all maps are of one size, so none is upsampled
        channels=128,
        dropout_ratio=0.1,
        norm_cfg=dict(type="SyncBatchNorm", requires_grad=True),
    ),
    test_cfg=dict(mode="whole"),
)
