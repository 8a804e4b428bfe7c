# U-Net v2 on a frozen DINOv2 ViT-S, whose tokens become levels at 1/4 to 2 patches of 14 pixels. Only the pyramid and
# the decoder train, with AdamW of the official polyp recipe. The weights come from timm's hub.
_base_ = ["unetv2_pvt_isic.py"]
model = dict(
    backbone=dict(_delete_=True, type="TimmPyramid", name="vit_small_patch14_dinov2", frozen_stages=4, pretrained=True),
    decode_head=dict(in_channels=[96, 192, 384, 384]),
)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=12),
)
