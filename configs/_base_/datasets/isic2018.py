# ISIC 2018, task 1, from: sdi-plugin data prepare isic2018 --source DOWNLOAD --out data/isic2018 --layout mmseg
# For another year prepare isic2017 or isic2016 (which has no val.txt), and pass --cfg-options data_root=data/isic2017;
# for another size image_size=352 or image_size='(256,320)'.
dataset_type = "ISICDataset"
data_root = "data/isic2018"
image_size = (256, 256)  # height, width

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="MaskToLabels"),
    dict(type="Resize", scale=image_size[::-1], keep_ratio=False),
    dict(type="RandomResize", scale=image_size[::-1], ratio_range=(0.7, 1.4), keep_ratio=False),
    dict(type="RandomRotate", prob=0.2, degree=180, pad_val=0, seg_pad_val=255),
    dict(type="RandomCrop", crop_size=image_size),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="RandomFlip", prob=0.5, direction="vertical"),
    dict(type="PhotoMetricDistortion", hue_delta=9),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_size[::-1], keep_ratio=False),
    dict(type="LoadAnnotations"),  # after Resize: masks keep their own size, at which DSC is measured
    dict(type="MaskToLabels"),
    dict(type="PackSegInputs"),
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
                dict(type="RandomFlip", prob=1.0, direction="vertical"),
            ],
            [dict(type="LoadAnnotations")],
            [dict(type="MaskToLabels")],
            [dict(type="PackSegInputs")],
        ],
    ),
]

train_dataloader = dict(
    batch_size=49,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file="splits/train.txt", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file="splits/val.txt", pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file="splits/test.txt", pipeline=test_pipeline),
)
val_evaluator = dict(type="LesionMetric")
test_evaluator = dict(type="LesionMetric")
