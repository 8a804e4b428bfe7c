# unetv2_pvt_isic.py with curves and pictures for TensorBoard, under WORK_DIR/*/vis_data (pip install tensorboard).
_base_ = ["unetv2_pvt_isic.py"]
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(vis_backends=vis_backends)
