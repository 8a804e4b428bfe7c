# As unetv2_pvt_isic.py, on PVTv2-B0: 3.6 M parameters instead of 25.1.
_base_ = ["unetv2_pvt_isic.py"]
model = dict(
    backbone=dict(
        name="pvt_v2_b0",
        init_cfg=dict(checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_v2_b0.pth"),
    ),
    decode_head=dict(in_channels=[32, 64, 160, 256]),
)
