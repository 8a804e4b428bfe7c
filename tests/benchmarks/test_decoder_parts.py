"""`benchmarks.decoder_parts`: parts that are trained alone, and their table."""

import torch

from benchmarks import decoder_parts
from benchmarks.sdi.cases import Case


def test_every_part_is_trained_alone_on_maps_of_the_decoder():
    found = decoder_parts.parts(Case.parse("2d-decoder-64-b2"))
    maps = {name: [tuple(y.shape) for y in part()] for name, part in found.items()}
    levels = maps["SDI"]
    assert maps["attention and reduction"] == maps["their norms"] == levels
    assert maps["transposed convolutions"] == maps["sums"] == levels[:-1]
    assert maps["a head"] == maps[decoder_parts.WHOLE] == [(2, 1, *levels[0][2:])]
    for part in found.values():
        assert all(y.requires_grad for y in part())
        torch.stack([y.sum() for y in part()]).sum().backward()


def test_a_part_is_shown_with_its_share():
    found = {name: {"SDI": 3.0, decoder_parts.WHOLE: 4.0} for name in decoder_parts.CASES}
    assert "| SDI                            | 3.0 ms, 75%      | 3.0 ms, 75%           |" in decoder_parts.table(found)
