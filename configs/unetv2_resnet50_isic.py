# The same decoder on mmseg's ResNet-50, with four levels at strides 4, 8, 16 and 32.
_base_ = ["unetv2_pvt_isic.py"]
model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 1, 1),
        strides=(1, 2, 2, 2),
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
)
