# unetv2_pvt_isic.py on eight GPUs, 6 images on each, batch norm over all 48:
#   mim train mmseg configs/unetv2_pvt_isic_8gpu.py --launcher pytorch --gpus 8
_base_ = ["unetv2_pvt_isic.py"]
train_dataloader = dict(batch_size=6)
sync_bn = "torch"
