# U-Net v2 on ConvNeXt-T, with AdamW of the official polyp recipe: SGD at 1e-3 is for PVTv2. The weights come from
# timm's hub; model.backbone.name takes any name of timm, with its channels in model.decode_head.in_channels.
_base_ = ["unetv2_pvt_isic.py"]
model = dict(
    backbone=dict(_delete_=True, type="TimmPyramid", name="convnext_tiny", pretrained=True),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=12),
)
