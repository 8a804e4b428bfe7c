"""What a comparison in equal time says of its runs."""

import pytest

from benchmarks import nnunet_comparison
from benchmarks.nnunet_comparison import LITE, OURS, STOCK, STUDIES


@pytest.mark.parametrize(("lite", "said"), [((0.8, 0.8), " Their seeds overlap: a tie."), ((1.0, 1.0), "")])
def test_the_winner_is_the_trainer_with_the_highest_mean_over_sets_and_seeds(lite, said):
    dice = {STOCK: (0.5, 0.7), OURS: (0.6, 0.9), LITE: lite}
    runs = [
        {"trainer": name, "seed": seed, "steps": 10, "seconds": 9.0, "dice": {"kvasir": value, "colondb": value - 0.1}}
        for name, values in dice.items()
        for seed, value in enumerate(values)
    ]
    section = nnunet_comparison._section(STUDIES["isic"], {"step": dict.fromkeys(dice, 1.5), "runs": runs})
    table, _, winner = section.partition("\n\n")
    assert winner == f"Highest mean: {LITE}, {lite[0] - 0.05:.3f}; next {OURS}, 0.700.{said}"
    _, _, *rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()]
    assert rows[0] == [STOCK, "1.50", "10", "9", "2", "0.500 (0.400 to 0.600)", "0.600 (0.500 to 0.700)"]
    assert [row[0] for row in rows] == [STOCK, OURS, LITE]


def test_the_page_has_the_tables_of_the_stored_results():
    assert nnunet_comparison.render(nnunet_comparison.stored()) == nnunet_comparison.PAGE.read_text()
