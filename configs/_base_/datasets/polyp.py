# PraNet's protocol. Train: 900 images of Kvasir and 550 of CVC-ClinicDB. Test: the rest of these, CVC-300, CVC-ColonDB
# and ETIS. From PraNet's TrainDataset and TestDataset, for each NAME of kvasir clinicdb colondb cvc300 etis:
#   sdi-plugin data prepare NAME --source PraNet/ --out data/NAME --layout mmseg
dataset_type = "PolypDataset"
image_size = (352, 352)  # height, width
meta_keys = (
    "img_path",
    "seg_map_path",
    "ori_shape",
    "img_shape",
    "pad_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "reduce_zero_label",
    "dataset_name",  # LesionMetric reports each test set
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="MaskToLabels"),
    dict(type="Resize", scale=image_size[::-1], keep_ratio=False),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_size[::-1], keep_ratio=False),
    dict(type="LoadAnnotations"),  # after Resize: masks keep their own size, at which DSC is measured
    dict(type="MaskToLabels"),
    dict(type="PackSegInputs", meta_keys=meta_keys),
]
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=image_size[::-1], keep_ratio=False)],
            [
                dict(type="RandomFlip", prob=0.0, direction="horizontal"),
                dict(type="RandomFlip", prob=1.0, direction="horizontal"),
            ],
            [dict(type="LoadAnnotations")],
            [dict(type="MaskToLabels")],
            [dict(type="PackSegInputs", meta_keys=meta_keys)],
        ],
    ),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=["data/kvasir", "data/clinicdb"],
        ann_file="splits/pranet_train.txt",
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=["data/kvasir", "data/clinicdb", "data/cvc300", "data/colondb", "data/etis"],
        ann_file="splits/pranet_test.txt",
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type="LesionMetric")
# The protocol has no validation set, and the published scores are those of the epoch that was best on the test sets.
# Here the last iteration counts.
val_dataloader = None
val_evaluator = None
