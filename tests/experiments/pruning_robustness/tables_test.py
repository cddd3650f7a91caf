"""Tables of "On the Effect of Pruning ..." against hand computation, and its own numbers."""

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

import pytest

from experiments.pruning_robustness.results import AVERAGES, STUDIES
from experiments.pruning_robustness.tables import TABLES
from tests.analysis.readers import parse
from tests.experiments.pruning_robustness.maker import CONTROL, UNPRUNED, cut, without
from tf_tickets.analysis.measurements import select


def tables(networks, reference, study, criterion="pls"):
    """The study's only group's text, on one line, and its tables."""
    text = TABLES[study](networks.group(study, criterion), reference)
    return text.replace("\n", " "), parse(text)


def test_every_study_has_tables():
    assert list(TABLES) == list(STUDIES)


def test_structures_is_table_1(pruned, reference):
    # A network that the paper does not have, with one of its accuracies.
    pruned.network(UNPRUNED, natural=[0.5], model="resnet_20")
    pruned.network(cut("pls", "blocks"), natural=[0.6], level=1, model="resnet_20")
    text, (table, control, absolute) = tables(pruned, reference, "structures")
    # The paper's columns typed anew from its Table 1.
    assert table == [
        ["", "Semantic", "paper", "Occlusion", "paper", "FGSM", "paper", "Clean", "paper",
         "Average", "paper"],
        ["ResNet-56, filters", "+2.50±0.71", "+1.58", "+3.00±0.00", "+2.76", "-0.50±0.71",
         "+3.68", "+1.00±1.41", "+0.60", "+1.50±0.00", "+2.15"],
        ["ResNet-56, trained on (control)", "+1.00±0.00", "–", "+2.00±2.83", "–", "+0.00±1.41",
         "–", "+1.00±1.41", "–", "+1.00±0.71", "–"],
        ["ResNet-20, layers", "–", "+1.05", "–", "+1.06", "–", "+3.20", "+10.00", "+0.84", "–",
         "+1.53"],
    ]  # fmt: skip
    assert "Semantic: the mean over 15 corruptions at severity 5." in text
    assert "PLS, ResNet-56, ResNet-56 (beside ResNet-20) on CIFAR-10." in text
    # Semantic: 1 and 2, mean 1.5, sd 1/√2, standard error 0.5. Occlusion: 3 and -1. FGSM: -2
    # and 1. Clean: 2 and -2. Average: 1 and 0, standard error 0.5.
    assert control == [
        ["", "Semantic", "Occlusion", "FGSM", "Clean", "Average"],
        ["ResNet-56, filters", "+1.50±0.71 ▲", "+1.00±2.83", "-0.50±2.12", "+0.00±2.83",
         "+0.50±0.71"],
    ]  # fmt: skip
    assert "more than 2 standard errors (sd/√seeds): 1 and 0 of 5" in text
    assert "Over 2 seeds, chance marks 30% of differences that are none: with so few" in text
    assert absolute == [
        ["", "parameters gone", "FLOPs gone", "Semantic", "Occlusion", "FGSM", "Clean"],
        ["ResNet-56, unpruned", "–", "–", "52.00±2.83", "40.00±0.00", "22.00±2.83", "91.00±1.41"],
        ["ResNet-56, filters", "13.0±1.4", "25.0±0.0", "54.50±3.54", "43.00±0.00", "21.50±3.54",
         "92.00±0.00"],
        ["ResNet-56, trained on (control)", "–", "–", "53.00±2.83", "42.00±2.83", "22.00±1.41",
         "92.00±2.83"],
        ["ResNet-20, unpruned", "–", "–", "–", "–", "–", "50.00"],
        ["ResNet-20, layers", "–", "–", "–", "–", "–", "60.00"],
    ]  # fmt: skip


def test_gains_and_losses_beyond_the_spread_over_seeds(networks, reference):
    networks.network(CONTROL, [0.5] * 3, [0.5] * 3, [0.5] * 3, [0.5] * 3)
    networks.network(
        cut("l1", "blocks"),
        [0.52, 0.53, 0.54],
        [0.48, 0.47, 0.46],
        [0.49, 0.50, 0.51],
        [0.53],
        level=1,
    )
    text, tables_ = tables(networks, reference, "structures", "l1")
    assert tables_[1][1] == [
        "ResNet-56, layers", "+3.00±1.00 ▲", "-3.00±1.00 ▼", "+0.00±1.00", "+3.00", "+0.50",
    ]  # fmt: skip
    assert ": 1 and 1 of 3. Over 3 seeds, chance marks 18% of" in text


def test_one_seed_has_no_spread(networks, reference):
    networks.network(CONTROL, natural=[0.5])
    networks.network(cut("pls", "both"), natural=[0.7], level=1)
    text, (_, control, _) = tables(networks, reference, "structures")
    assert control == [["", "Clean"], ["ResNet-56, both", "+20.00"]]
    assert "One seed has no spread" in text


def test_iterations_is_figure_2(pruned, reference):
    pruned.network(cut("pls"), natural=[0.94, 0.95], fgsm=[0.19, 0.25], level=2)
    text, (correlations, levels) = tables(pruned, reference, "iterations")
    # Clean 92, 92, 94, 95; FGSM 19, 24, 19, 25: covariance 4.25 (sums of products about the
    # means), variances 6.75 and 30.75: r = 4.25 / √(6.75 · 30.75) = 0.295.
    assert correlations == [
        ["", "Pearson's r", "paper", "p-value", "networks"],
        ["Semantic", "–", "≤ 0.31", "–", "2"],
        ["Occlusion", "–", "≤ 0.31", "–", "2"],
        ["FGSM", "+0.29", "≤ 0.31", "0.71", "4"],
    ]
    assert levels == [
        ["", "parameters gone (%)", "Semantic", "Occlusion", "FGSM", "Clean", "Average"],
        ["1", "13.0±1.4", "+2.50±0.71", "+3.00±0.00", "-0.50±0.71", "+1.00±1.41", "+1.50±0.00"],
        ["2", "–", "–", "–", "+0.00±1.41", "+3.50±0.71", "–"],
        ["control", "–", "+1.00±0.00", "+2.00±2.83", "+0.00±1.41", "+1.00±1.41", "+1.00±0.71"],
    ]


def test_criteria_is_table_2(pruned, reference):
    pruned.network(cut("kl"), natural=[0.91], level=1)
    pruned.network(cut("random"), natural=[0.8], level=1)
    text, (table, control, gone) = tables(pruned, reference, "criteria")
    # As in Table 1 of the same networks.
    assert control[-2][:3] == ["PLS", "+1.50±0.71 ▲", "+1.00±2.83"]
    assert gone == [["", "parameters gone", "FLOPs gone"], ["PLS", "13.0±1.4", "25.0±0.0"]]
    # The paper's columns typed anew from its Table 2.
    assert [[row[0], *row[2:10:2], row[10]] for row in table] == [
        ["", "paper", "paper", "paper", "paper", "paper"],
        ["ℓ1-norm", "+1.64", "-0.80", "+3.75", "+0.38", "+1.24"],
        ["expected-ABS", "+0.96", "-0.09", "+4.29", "+0.51", "+1.41"],
        ["HRank", "+0.93", "+2.92", "+3.18", "+0.39", "+1.85"],
        ["KL divergence", "+0.82", "+0.73", "+3.00", "+0.34", "+1.22"],
        ["PLS", "+1.58", "+2.76", "+3.68", "+0.60", "+2.15"],
        ["random", "–", "–", "–", "–", "–"],
        ["trained on (control)", "–", "–", "–", "–", "–"],
    ]
    ours = {row[0]: row[1:10:2] for row in table}
    assert ours["KL divergence"] == ["–", "–", "–", "+1.00", "–"]
    assert ours["PLS"] == ["+2.50±0.71", "+3.00±0.00", "-0.50±0.71", "+1.00±1.41", "+1.50±0.00"]
    assert ours["random"][3] == "-10.00" and ours["HRank"] == ["–"] * 5
    assert "The paper's numbers: ResNet-56 on CIFAR-10." in text


def test_adjustment_is_table_3(pruned, reference):
    pruned.network(
        cut("pls", adjustment="scratch_2x"),
        [0.51, 0.55],
        [0.42, 0.42],
        [0.23, 0.27],
        [0.9, 0.9],
        level=1,
    )
    text, (table,) = tables(pruned, reference, "adjustment")
    # The paper's columns typed anew from its Table 3.
    assert table == [
        ["", "Semantic", "paper", "Occlusion", "paper", "FGSM", "paper", "Avg.", "paper", "Clean"],
        ["Scratch-E (twice the epochs)", "+1.00±0.00", "+1.72", "+2.00±0.00", "-0.60",
         "+3.00±0.00", "+1.64", "+2.00±0.00", "+0.92", "-1.00±1.41"],
        ["Scratch-B (the same epochs)", "–", "+1.25", "–", "-0.71", "–", "+3.64", "–", "+1.39",
         "–"],
        ["W-ticket", "–", "+1.13", "–", "-5.41", "–", "+1.40", "–", "-0.96", "–"],
        ["fine-tuning", "+2.50±0.71", "+1.58", "+3.00±0.00", "+2.76", "-0.50±0.71", "+3.68",
         "+1.67±0.47", "+2.67", "+1.00±1.41"],
        ["trained on (control)", "+1.00±0.00", "–", "+2.00±2.83", "–", "+0.00±1.41", "–",
         "+1.00±0.47", "–", "+1.00±1.41"],
    ]  # fmt: skip
    assert "fine-tuning there, in points: Scratch-B 0.28, Scratch-E 0.69, W-ticket 0.01." in text


def test_transfer_is_table_4(pruned, reference):
    pruned.network(UNPRUNED, fgsm=[0.3, 0.3], model="mobilenet_v2")
    for labels, level, values in ((UNPRUNED, 0, [0.5, 0.6]), (cut("pls"), 1, [0.7, 0.7])):
        pruned.transfer(labels, values, made_for=("mobilenet_v2", UNPRUNED), level=level)
    text, (ours, paper) = tables(pruned, reference, "transfer")
    assert ours == [
        ["examples of ↓", "ResNet-56", "ResNet-56 + pruning", "MobileNetV2"],
        ["ResNet-56", "22.00±2.83", "–", "–"],
        ["ResNet-56 + pruning", "–", "21.50±3.54", "–"],
        ["MobileNetV2", "55.00±7.07", "70.00±0.00", "30.00±0.00"],
    ]
    # Typed anew from the paper's Table 4.
    assert paper == [
        ["examples of ↓", "ResNet-56", "ResNet-56 + pruning", "MobileNetV2",
         "MobileNetV2 + pruning"],
        ["ResNet-56", "21.60", "32.73", "52.55", "53.25"],
        ["ResNet-56 + pruning", "33.91", "25.28", "53.67", "53.68"],
        ["MobileNetV2", "70.28", "70.25", "24.21", "27.17"],
        ["MobileNetV2 + pruning", "69.69", "70.01", "28.29", "24.84"],
    ]  # fmt: skip


def test_defenses_is_table_5(pruned, reference):
    pruned.network(UNPRUNED, semantic=[0.51, 0.52], natural=[0.91, 0.97], regime="mixup")
    text, (table,) = tables(pruned, reference, "defenses")
    # The paper's columns typed anew from its Table 5. MixUp: 1 and -2, 1 and 5.
    assert table == [
        ["", "Robustness", "paper", "Generalization", "paper", "Average", "paper"],
        ["Stylized (cited only)", "–", "-2.29", "–", "-16.20", "–", "-9.24"],
        ["MixUp", "-0.50±2.12", "-4.77", "+3.00±2.83", "+1.10", "+1.25±0.35", "-1.83"],
        ["Cutout", "–", "+1.39", "–", "+0.75", "–", "+1.06"],
        ["CutMix", "–", "+1.71", "–", "+2.07", "–", "+1.89"],
        ["Shape-Texture (cited only)", "–", "+7.50", "–", "+0.50", "–", "+4.00"],
        ["pruning filters", "+2.50±0.71", "+1.14", "+1.00±1.41", "+3.15", "+1.75±0.35", "+2.14"],
        ["pruning layers", "–", "+1.20", "–", "+3.03", "–", "+2.11"],
        ["trained on (control)", "+1.00±0.00", "–", "+1.00±1.41", "–", "+1.00±0.71", "–"],
    ]  # fmt: skip
    assert "The paper's numbers: ResNet-50 on ImageNet." in text


def test_single_element_stands_beside_the_texts_numbers(networks, reference):
    networks.network(without("nothing"), [0.5, 0.5], [0.4, 0.4], [0.2, 0.2], [0.9, 0.9])
    # Seed 0: more robust with half a point less; seed 1: and with half a point more.
    networks.network(without("filters", "conv", 0), [0.4] * 2, [0.4] * 2, [0.3] * 2, [0.895, 0.905])
    # More robust against occlusion with exactly two points less.
    networks.network(without("filters", "conv", 1), [0.4] * 2, [0.5] * 2, [0.1] * 2, [0.88, 0.88])
    text, (filters,) = tables(networks, reference, "single_element")
    assert filters == [
        ["i", "Semantic", "paper", "Occlusion", "paper", "FGSM", "paper"],
        ["0", "0.00±0.00", "< 10", "0.00±0.00", "3.07", "25.00±35.36", "8.04"],
        ["1", "0.00±0.00", "–", "0.00±0.00", "39.88", "50.00±0.00", "80.36"],
        ["2", "0.00±0.00", "–", "0.00±0.00", "–", "50.00±0.00", "–"],
        *[[drop, "0.00±0.00", "–", "50.00±0.00", "–", "50.00±0.00", "–"] for drop in "345"],
    ]
    assert "  2 filters:  " in text and "layers:" not in text
    assert "Semantic: each image under one of the 15 corruptions at severity 5." in text
    networks.network(
        without("blocks", "stage_1.block_2"), [0.6] * 2, [0.3] * 2, [0.1] * 2, [0.95] * 2
    )
    text, (_, layers) = tables(networks, reference, "single_element")
    assert layers[1:3] == [
        ["0", "100.00±0.00", "0.00", "0.00±0.00", "0.00", "0.00±0.00", "0.00"],
        ["1", "100.00±0.00", "< 20", "0.00±0.00", "< 20", "0.00±0.00", "< 20"],
    ]
    assert "  1 layers:  " in text


def test_the_papers_table_1(reference):
    rows = select(reference, source="Table 1").pivot(
        index=["model", "removed"], columns="attack", values="value"
    )
    rows = rows[["semantic", "occlusion", "fgsm", "natural", "average"]]
    # Typed anew from the paper.
    assert {key: row.tolist() for key, row in rows.iterrows()} == {
        ("resnet_56", "filters"): [1.58, 2.76, 3.68, 0.60, 2.15],
        ("resnet_56", "blocks"): [1.05, 1.06, 3.20, 0.84, 1.53],
        ("resnet_56", "both"): [-4.13, 4.62, 0.36, -0.60, 0.06],
        ("mobilenet_v2", "filters"): [-0.60, 3.35, 0.64, 0.37, 0.94],
        ("mobilenet_v2", "blocks"): [-0.49, 2.12, 1.44, 0.15, 0.80],
        ("mobilenet_v2", "both"): [0.07, 2.56, 1.05, 0.17, 0.96],
        ("vgg_16", "filters"): [-1.0, 4.86, -2.21, 0.89, 0.63],
    }


@pytest.mark.parametrize("source", ["Table 1", "Table 2", "Table 3", "Table 5"])
def test_remarks_say_where_the_papers_averages_are_not_rounded(reference, source):
    average = {"Table 3": "attack_average", "Table 5": "semantic_clean_average"}
    average = average.get(source, "average")
    rows = select(reference, source=source)
    networks = ["model", "regime", "criterion", "removed", "adjustment"]
    for _, row in rows.groupby(networks):
        numbers = {
            attack: Decimal(str(value)) for attack, value in zip(row["attack"], row["value"])
        }
        given = numbers.pop(average)
        assert set(numbers) == set(AVERAGES[average])
        mean = sum(numbers.values()) / len(numbers)
        remark = str(row["remark"].iloc[-1])
        if given == mean.quantize(Decimal("0.01"), ROUND_HALF_UP):
            assert "mean of its columns" not in remark
        else:
            assert f"the mean of its columns is {mean.normalize()}" in remark
            cut_off = given == mean.quantize(Decimal("0.01"), ROUND_DOWN)
            assert ("cut off" in remark) == cut_off


def test_the_text_agrees_with_the_tables(reference):
    value = {
        (row.source, row.regime, row.criterion, row.removed, row.adjustment, row.attack): row.value
        for row in reference.itertuples()
        if row.quantity == "difference" and row.model in ("resnet_50", "resnet_56")
    }
    text = select(reference, source="Section 4", quantity="behind_fine_tuning")
    (behind,) = select(text, attack="attack_average")["value"]
    scratch, fine_tuned = (
        value["Table 3", "natural", "pls", "filters", way, "attack_average"]
        for way in ("scratch_1x", "fine_tuned")
    )
    assert fine_tuned - scratch == pytest.approx(behind)
    # The text says MixUp of Stylized's, and the other way round.
    behind = select(reference, quantity="behind_pls_filters").set_index("regime")
    average = "semantic_clean_average"
    for regime, other in (("mixup", "stylized"), ("stylized", "mixup")):
        gap = value["Table 5", "natural", "pls", "filters", "fine_tuned", average]
        gap -= value["Table 5", regime, "", "nothing", "", average]
        assert gap == pytest.approx(behind.loc[other, "value"])
        assert f"Table 5 makes it {gap:.2f}" in behind.loc[regime, "remark"]
