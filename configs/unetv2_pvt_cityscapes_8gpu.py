# unetv2_pvt_cityscapes.py on eight GPUs, 1 image on each, batch norm over all 8:
#   mim train mmseg configs/unetv2_pvt_cityscapes_8gpu.py --launcher pytorch --gpus 8
_base_ = ["unetv2_pvt_cityscapes.py"]
train_dataloader = dict(batch_size=1)
sync_bn = "torch"
