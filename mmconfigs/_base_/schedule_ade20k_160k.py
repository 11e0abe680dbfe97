# 160,000 iterations of AdamW; a run's config sets the learning rate. The global batch is 16: four images on each of
# four GPUs. Mixed precision, as in BEiT's code, which iBOT's comes from (inferred).
_base_ = "runtime_iterations.py"

train_cfg = dict(type="IterBasedTrainLoop", max_iters=160_000, val_interval=16_000)
default_hooks = dict(checkpoint=dict(interval=16_000))

# Both act from the first iteration on, and their factors multiply, as mmseg 0.x's poly schedule with warm-up did.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1_500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=160_000),
]
optim_wrapper = dict(
    type="AmpOptimWrapper",
    loss_scale="dynamic",
    optimizer=dict(type="AdamW", betas=(0.9, 0.999), weight_decay=0.05),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
