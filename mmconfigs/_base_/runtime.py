# What every config shares: registration of the suite's parts, hooks, logging.
custom_imports = dict(imports=["flsl_bench.openmmlab"], allow_failed_imports=False)

# Of the knobs that tools/train.py and tools/test.py carry to wherever they belong, the data set's base config states
# data_root and the run's config init_checkpoint. This one multiplies all image sizes of all pipelines, for trials.
image_scale_factor = 1.0

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0)
log_level = "INFO"
load_from = None
resume = False
