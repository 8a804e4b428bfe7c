# unetv2_pvt_polyp.py on eight GPUs, 2 images on each, batch norm over all 16:
#   mim train mmseg configs/unetv2_pvt_polyp_8gpu.py --launcher pytorch --gpus 8
_base_ = ["unetv2_pvt_polyp.py"]
train_dataloader = dict(batch_size=2)
sync_bn = "torch"
