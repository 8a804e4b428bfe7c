# The official recipe for polyps: AdamW at 1e-4, 100 epochs of 91 batches (the paper says 300), gradient values clipped
# at 0.5. A batch gets one of the three scales, not all of them one after another: three times as many iterations give
# the same number of steps. The published code has no schedule for the learning rate.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(type="value", clip_value=0.5),
)
param_scheduler = []
train_cfg = dict(type="IterBasedTrainLoop", max_iters=27300)
val_cfg = None
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2730, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
)
