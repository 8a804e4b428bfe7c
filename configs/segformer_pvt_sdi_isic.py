# SDI as a neck between PVTv2-B2 and mmseg's SegformerHead.
_base_ = ["upernet_pvt_sdi_isic.py"]
model = dict(
    decode_head=dict(
        _delete_=True,
        type="SegformerHead",
        in_channels=[64, 128, 320, 512],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=2,
        out_channels=2,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
)
