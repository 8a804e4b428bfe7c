# U-Net v2 (PVTv2-B2) on ISIC 2018 at 256x256, by the official recipe (_base_/schedules/isic.py).
#
# What differs from the official run, which took place inside nnU-Net v1:
# - a sigmoid of one channel instead of a softmax of two: in both, the Dice loss covers the lesion alone, here image by
#   image, there over the batch
# - here the four outputs are enlarged to the mask, there the mask was reduced to them; their weights 8:4:2:1 are
#   nnU-Net's
# - images are normalised with ImageNet's mean and deviation, there with each image's own; augmentation is mmseg's
#   nearest equivalent
# - val.txt, the challenge's validation images, chooses the best checkpoint; there the test split did
_base_ = [
    "_base_/models/unetv2_pvt_b2.py",
    "_base_/datasets/isic2018.py",
    "_base_/schedules/isic.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(256, 256)),
    decode_head=dict(
        deep_supervision=4,
        head_weights=[8 / 15, 4 / 15, 2 / 15, 1 / 15],
        loss_decode=[
            dict(type="CrossEntropyLoss", use_sigmoid=True, avg_non_ignore=True, loss_weight=1.0),
            dict(type="DiceLoss", use_sigmoid=True, naive_dice=True, loss_weight=1.5),
        ],
    ),
)
