# The runtime of schedules that count iterations instead of epochs.
_base_ = "runtime.py"

default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=4_000),
)
log_processor = dict(by_epoch=False)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
