# SDI as a neck between PVTv2-B2 and mmseg's FPNHead: every level with the same number of channels.
_base_ = ["upernet_pvt_sdi_isic.py"]
model = dict(
    neck=dict(out_channels=64),
    decode_head=dict(
        _delete_=True,
        type="FPNHead",
        in_channels=[64, 64, 64, 64],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=64,
        dropout_ratio=0.1,
        num_classes=2,
        out_channels=2,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
)
