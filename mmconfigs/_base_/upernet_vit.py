# UperNet with an auxiliary FCN head on four normed taps of a plain ViT, rescaled to strides 4 to 32.
_base_ = "segmentor_vit.py"
_norm = dict(type="SyncBatchNorm", requires_grad=True)
model = dict(
    backbone=dict(taps=(3, 5, 7, 11), norm_taps=True, pyramid="rescale", drop_path=0.1),
    decode_head=dict(
        type="UPerHead",
        in_channels=[384] * 4,
        pool_scales=(1, 2, 3, 6),
        channels=384,
        dropout_ratio=0.1,
        norm_cfg=_norm,
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=384,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=_norm,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
