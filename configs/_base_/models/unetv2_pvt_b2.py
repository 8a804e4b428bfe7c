# U-Net v2 on PVTv2-B2 for one foreground: one channel, a sigmoid, the threshold 0.5.
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type="PVTv2",
        name="pvt_v2_b2",
        drop_path_rate=0.1,
        # ImageNet weights of PVTv2's authors, downloaded once; a file's path works too, and None is a random start.
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_v2_b2.pth",
        ),
    ),
    decode_head=dict(
        type="UNetV2Head",
        in_channels=[64, 128, 320, 512],
        channels=32,
        num_classes=2,
        out_channels=1,
        threshold=0.5,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
