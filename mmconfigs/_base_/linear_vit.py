# One 1x1 convolution on the concatenated normed taps of a frozen plain ViT: an FCN head without layers of its own.
_base_ = "segmentor_vit.py"
model = dict(
    backbone=dict(taps=(3, 5, 7, 11), norm_taps=True, pyramid="none", frozen_stages=12),
    decode_head=dict(
        type="FCNHead",
        in_channels=[384] * 4,
        input_transform="resize_concat",
        channels=4 * 384,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0,
    ),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
