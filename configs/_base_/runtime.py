# Shared by every config here: the plugin's import, mmseg's scope, one seed, pictures from mmengine's visualizer.
custom_imports = dict(imports=["sdi_plugin.adapters.mmsegmentation"], allow_failed_imports=False)
default_scope = "mmseg"
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="SegLocalVisualizer", vis_backends=vis_backends, name="visualizer", alpha=0.5)
log_processor = dict(by_epoch=False)
log_level = "INFO"
load_from = None
resume = False

randomness = dict(seed=0)
custom_hooks = [dict(type="ReseedHook")]  # --resume reaches what an uninterrupted run reaches
tta_model = dict(type="MeanProbabilityTTA")
