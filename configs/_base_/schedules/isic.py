# The official recipe for ISIC, that of nnU-Net v1: SGD at 1e-3, momentum 0.99, poly, 300 epochs of 250 iterations.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=1e-3, momentum=0.99, nesterov=True, weight_decay=3e-5),
    clip_grad=dict(max_norm=12),
)
param_scheduler = [dict(type="PolyLR", eta_min=0, power=0.9, begin=0, end=75000, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=75000, val_interval=2500)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # Two are kept: mmengine removes an old checkpoint before it has written the new one.
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2500, max_keep_ckpts=2, save_best="DSC"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
)
