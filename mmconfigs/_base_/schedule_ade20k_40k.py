# 40,000 iterations of AdamW. The global batch is 16 (inferred): four images on each of four GPUs.
_base_ = "runtime_iterations.py"

train_cfg = dict(type="IterBasedTrainLoop", max_iters=40_000, val_interval=4_000)

# Both act from the first iteration on, and their factors multiply, as mmseg 0.x's poly schedule with warm-up did.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1_500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=40_000),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0), norm=dict(decay_mult=0.0))
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
