# U-Net v2 (PVTv2-B2) on polyps at 352x352 by PraNet's protocol and the official recipe (_base_/schedules/polyp.py).
#
# What differs: a random scale for each batch instead of all three; no min-max of the probabilities in each test image
# before the threshold; the last iteration instead of the one that was best on the test sets.
_base_ = [
    "_base_/models/unetv2_pvt_b2.py",
    "_base_/datasets/polyp.py",
    "_base_/schedules/polyp.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(type="MultiScaleSegDataPreProcessor", scales=(0.75, 1.0, 1.25), size=(352, 352)),
    decode_head=dict(
        deep_supervision=2,
        summed_heads=2,
        # the published code passes reduce="none", which makes its cross-entropy unweighted
        loss_decode=dict(type="StructureLoss", unweighted_bce=True),
    ),
)
