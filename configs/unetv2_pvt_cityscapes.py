# U-Net v2 (PVTv2-B2) for the 19 classes of Cityscapes, mmseg's own data set and metric. No published recipe: see
# _base_/schedules/cityscapes.py.
_base_ = [
    "_base_/models/unetv2_pvt_b2.py",
    "_base_/datasets/cityscapes.py",
    "_base_/schedules/cityscapes.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    decode_head=dict(
        channels=64,
        num_classes=19,
        out_channels=19,
        deep_supervision=2,
        head_weights=[1.0, 0.4],
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
    test_cfg=dict(mode="slide", crop_size=(512, 1024), stride=(341, 683)),
)
