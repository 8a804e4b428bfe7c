# SDI as a neck between PVTv2-B2 and mmseg's UPerHead, which stays as it is.
_base_ = ["unetv2_pvt_isic.py"]
model = dict(
    neck=dict(type="SDINeck", in_channels=[64, 128, 320, 512], channels=32),
    decode_head=dict(
        _delete_=True,
        type="UPerHead",
        in_channels=[64, 128, 320, 512],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=128,
        dropout_ratio=0.1,
        num_classes=2,
        out_channels=2,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
)
