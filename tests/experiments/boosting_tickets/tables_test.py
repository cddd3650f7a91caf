"""Tables of "Boosting Ticket" against numbers computed by hand, and its own numbers."""

import pytest

from experiments.boosting_tickets.tables import TABLES
from tests.analysis.readers import parse


def tables(maker, reference, study):
    """The study's only group's text, and its tables."""
    text = TABLES[study](maker.group(study), reference)
    return text, parse(text)


def test_existence(trainings, reference):
    for seed in (0, 1):
        where = {"seed": seed, "tests": {"natural": 0.9}}
        # 95% of 0.8 is 0.76, of 0.9 it is 0.855.
        end = 0.8 + 0.1 * seed
        trainings.train("winning", 100, "natural", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, end], **where)
        trainings.train("boosting", 100, "natural", [0.1, 0.5, 0.75, 0.77, 0.8, 0.86], **where)
        trainings.train("random", 100, "natural", [0.1, 0.3, 0.4], **where)
    # Without a winning ticket of its seed there is no goal for it.
    trainings.train("random", 100, "natural", [0.1, 0.9], seed=2)
    trainings.train("dense", 100, "natural", [0.1, 0.3, 0.8])
    text, (table,) = tables(trainings, reference, "existence")
    assert "mean±sd of 3 seeds" in text
    assert "The paper's numbers: VGG-16 on CIFAR-10." in text.replace("\n", " ")
    assert table == [
        ["", "epoch 1", "epoch 5", "last epoch", "epochs to 95%", "test", "paper"],
        ["boosting ticket", "50.00±0.00", "86.00±0.00", "86.00±0.00", "4.0±1.4", "90.00±0.00",
         "92.05"],
        ["winning ticket", "20.00±0.00", "60.00±0.00", "85.00±7.07", "6.0±0.0", "90.00±0.00",
         "92.00"],
        ["boosting's masks, new weights", "50.00±34.64", "–", "56.67±28.87", "never", "90.00±0.00",
         "–"],
        ["dense (never pruned)", "30.00", "–", "80.00", "2.0", "–", "–"],
    ]  # fmt: skip


def test_existence_on_mnist_stands_beside_table_5(trainings, reference):
    trainings.train("boosting", 100, "natural", [0.1], model="lenet_conv", data_set="mnist")
    text, (table,) = tables(trainings, reference, "existence")
    assert "LeNet (two convolutions) on MNIST" in text.replace("\n", " ")
    assert table[1] == ["boosting ticket", "–", "–", "10.00", "–", "–", "99.23"]


def test_epochs_is_table_1(trainings, reference):
    for seed, accuracy in enumerate((0.8, 0.9)):
        tests = {"natural": accuracy}
        trainings.train("boosting", 40, "natural", [0.1], tests=tests, seed=seed)
    trainings.train("winning", 70, "natural", [0.1], tests={"natural": 0.5})
    text, (table,) = tables(trainings, reference, "epochs")
    # The paper's columns typed anew from its Table 1.
    assert table == [
        ["length", "winning ticket", "paper", "boosting ticket", "paper"],
        ["20%", "–", "88.10", "–", "91.25"],
        ["40%", "–", "90.03", "85.00±7.07", "91.84"],
        ["60%", "–", "90.96", "–", "92.13"],
        ["70%", "50.00", "–", "–", "–"],
        ["80%", "–", "91.79", "–", "92.14"],
        ["100%", "–", "92.00", "–", "92.05"],
    ]
    assert "100 epochs in the paper" in text.replace("\n", " ")


def test_learning_rate(trainings, reference):
    for rate, percent, accuracy in ((0.1, 20, 0.5), (0.05, 20, 0.6), (0.05, 100, 0.7)):
        tests = {"natural": accuracy}
        trainings.train("boosting", percent, "natural", [0.1], tests=tests, finding_rate=rate)
    # Not of the study.
    trainings.train("boosting", 40, "natural", [0.1], tests={"natural": 0.9})
    _, (table,) = tables(trainings, reference, "learning_rate")
    assert len(table) == 6 and table[2] == ["40%", "–", "–"]
    assert table[0] == ["length", "found at 0.05", "found at 0.1"]
    assert table[1] == ["20%", "60.00", "50.00"] and table[-1] == ["100%", "70.00", "–"]


def test_pruning_ratio(trainings, reference):
    for seed in (0, 1):
        curve = [0.1, 0.2 + 0.02 * seed, 0.3, 0.4, 0.5, 0.6]
        where = {"sparsity": 0.79998, "pruned_to": 0.8, "seed": seed}
        trainings.train("boosting", None, "natural", curve, **where)
    trainings.train("random", None, "natural", [0.1, 0.3], sparsity=0.5, pruned_to=0.5)
    trainings.train("boosting", 100, "natural", [0.1, 0.9])
    text, (table,) = tables(trainings, reference, "pruning_ratio")
    assert table == [
        ["pruned (%)", "boosting, epoch 1", "boosting, epoch 5", "new weights, epoch 1",
         "new weights, epoch 5"],
        ["50", "–", "–", "30.00", "–"],
        ["80", "21.00±1.41", "60.00±0.00", "–", "–"],
    ]  # fmt: skip
    assert "VGG-16 about 80 and 83; ResNet-18 about 76 and 85" in text.replace("\n", " ")


def test_capacity(trainings, reference):
    for model, first in (("wide_resnet_34_10", 0.6), ("wide_resnet_34_2", 0.4), ("vgg_16", 0.9)):
        tests = {"natural": 0.7}
        trainings.train("boosting", 100, "natural", [0.1, first, 0.7], tests=tests, model=model)
    text, (table, table_4) = tables(trainings, reference, "capacity")
    assert table == [
        ["network", "epoch 1", "epoch 5", "last epoch", "test"],
        ["WideResNet-34-2", "40.00", "–", "70.00", "70.00"],
        ["WideResNet-34-10", "60.00", "–", "70.00", "70.00"],
    ]
    assert "90.88 (and 90.28 on test)" in text.replace("\n", " ")
    assert "constant 0.01" in text.replace("\n", " ")
    # Ours: a convolution or dense layer of k inputs a unit has k weights, BatchNorm has two.
    assert table_4[1:3] == [
        ["WideResNet-34-2", "1,855,578", "1,855,578"],
        ["WideResNet-34-10", "46,160,474", "46,160,474"],
    ]
    assert ["VGG-16", "14,987,722", "29,975,444"] in table_4
    assert ["ResNet-18", "11,173,962", "11,173,962"] in table_4
    assert len(table_4) == 11


def test_adversarial(trainings, reference):
    robust = [0.1, 0.4, 0.3]
    trainings.train(
        "finding", None, "fgsm", [0.1, 0.5], [0.2, 0.0],
        tests={"natural": 0.9, "pgd_20": 0.01, "fgsm": 0.8, "cw_linf": 0.0},
    )  # fmt: skip
    for seed in (0, 1):
        tests = {"natural": 0.7 + 0.1 * seed, "pgd_20": 0.35}
        trainings.train(
            "fgsm_ticket", 100, "pgd", robust, robust, tests=tests, selected=1, seed=seed
        )
    trainings.train("natural_ticket", 100, "pgd", robust, robust)
    text, (table,) = tables(trainings, reference, "adversarial")
    assert table == [
        ["", "test, natural", "test, FGSM", "paper", "test, PGD-20", "paper",
         "test, margin loss (C&W)", "of epoch", "best validation, PGD-20"],
        ["natural ticket", "–", "–", "–", "–", "–", "–", "–", "40.00"],
        ["FGSM ticket", "75.00±7.07", "–", "–", "35.00±0.00", "–", "–", "1.0±0.0", "40.00±0.00"],
        ["FGSM training (finds the ticket)", "90.00", "80.00", "89.00", "1.00", "0.40", "0.00",
         "1.0", "0.00"],
    ]  # fmt: skip
    # 1% and 35% and what else was measured are of 100 images: √(0.35 · 0.65 / 100).
    assert "one seed: 4.8 points (100 test images)" in text.replace("\n", " ")


def test_a_ticket_of_fast_training_stands_beside_the_papers(trainings, reference):
    trainings.train("fast_ticket", 100, "pgd", [0.1, 0.4], [0.1, 0.3], tests={"natural": 0.4})
    _, (table,) = tables(trainings, reference, "adversarial")
    assert [row[:2] for row in table[1:]] == [["fast ticket", "40.00"]]


def test_mnist_is_table_5(trainings, reference):
    where = {"model": "lenet_conv", "data_set": "mnist"}
    for seed, losses in enumerate(([2.3, 0.2, 0.1, 0.1], [2.3, 0.1, 0.2, 0.3])):
        trainings.train(
            "boosting", 100, "natural", [0.1, 0.9, 0.9, 0.9], losses=losses,
            tests={"natural": 0.98 - 0.5 * seed}, selected=2, seed=seed, **where,
        )  # fmt: skip
    # Another network has a table of its own, and the paper no numbers of it.
    trainings.train("winning", 100, "natural", [0.1, 0.2], losses=[1, 0.5], data_set="mnist",
                    tests={"natural": 0.3})  # fmt: skip
    text, (table, other) = tables(trainings, reference, "mnist")
    assert other[2] == ["winning ticket", "1.0", "–", "30.00", "–"]
    assert "Natural training, VGG-16" in text
    # The paper's columns typed anew from its Table 5.
    assert table == [
        ["", "early stopping", "paper", "test", "paper"],
        ["dense (never pruned)", "–", "20", "–", "99.18"],
        ["winning ticket", "–", "18", "–", "99.24"],
        # Seed 1 was tested after epoch 2 and should have stopped after epoch 1.
        ["boosting ticket", "1.5±0.7", "11", "98.00", "99.23"],
        ["boosting's masks, new weights", "–", "16", "–", "98.97"],
    ]


def test_mnist_under_adversarial_training(trainings, reference):
    for model, family in (
        ("vgg_16", "pgd_ticket"), ("lenet_conv", "pgd_random"), ("lenet_conv", "pgd_ticket")
    ):  # fmt: skip
        trainings.train(
            family, 100, "pgd", [0.1, 0.2], [0.1, 0.15], tests={"natural": 0.2, "pgd_20": 0.14},
            model=model, data_set="mnist",
        )  # fmt: skip
    _, (table,) = tables(trainings, reference, "mnist")
    assert [row[:5] for row in table[1:]] == [
        ["LeNet (two convolutions)", "PGD ticket", "20.00", "11.42", "14.00"],
        ["LeNet (two convolutions)", "PGD ticket's masks, new weights", "20.00", "–", "14.00"],
        ["VGG-16", "PGD ticket", "20.00", "–", "14.00"],
    ]


def test_convergence_is_table_2(trainings, reference):
    for seed in (0, 1):
        tests = {"natural": 0.7, "pgd_10": 0.3 + 0.1 * seed}
        where = {"attack": "pgd_10", "seed": seed, "tests": tests}
        trainings.train("fgsm_ticket", 60, "pgd", [0.1], [0.1], **where)
        where["tests"] = tests | {"cw_linf": 0.2}
        trainings.train("dense", 100, "pgd", [0.1], [0.1], **where)
    _, (table,) = tables(trainings, reference, "convergence")
    # The paper's columns typed anew from its Table 2; ours says which attack was ours.
    assert table == [
        ["length", "PGD-10", "paper", "natural", "paper", "margin loss (C&W)"],
        ["20%", "–", "44.49", "–", "75.15", "–"],
        ["40%", "–", "45.27", "–", "76.28", "–"],
        ["60%", "35.00±7.07", "45.73", "70.00±0.00", "76.48", "–"],
        ["80%", "–", "45.20", "–", "77.60", "–"],
        ["100%", "–", "44.53", "–", "78.07", "–"],
        ["baseline", "35.00±7.07", "44.78", "70.00±0.00", "77.21", "20.00±0.00"],
    ]


def test_acceleration_is_table_6(accelerated, reference):
    text, (table, reached) = tables(accelerated, reference, "acceleration")
    assert table[0] == [
        "", "Madry's", "paper", "Ours-40", "paper", "Ours-70", "paper", "Ours-100", "paper",
    ]  # fmt: skip
    assert [[row[0], *row[1::2]] for row in table[1:]] == [
        ["natural", "80.00±0.00", "70.00±0.00", "–", "–"],
        ["PGD-20", "41.00±1.41", "–", "–", "–"],
        ["PGD-100", "–", "–", "–", "–"],
        ["margin loss (C&W)", "–", "–", "–", "–"],
        ["from Madry's", "–", "60.00±0.00", "–", "–"],
        ["from Ours-40", "–", "–", "–", "–"],
        ["from Ours-70", "–", "–", "–", "–"],
        ["from Ours-100", "–", "–", "–", "–"],
        ["pruning (s)", "0.0±0.0", "3.0±1.4", "3.0±1.4", "–"],
        ["training (s)", "30.0±14.1", "15.0±7.1", "18.0±8.5", "–"],
        ["total (s)", "30.0±14.1", "18.0±8.5", "21.0±9.9", "–"],
        # Exactly 0.6 and 0.7 for both seeds; the ratio of the means has no sd.
        ["ratio to Madry's", "–", "0.60±0.00", "0.70±0.00", "–"],
        ["total (CPU s)", "90±42", "54±25", "63±30", "–"],
        ["ratio, CPU s", "–", "0.60±0.00", "0.70±0.00", "–"],
    ]
    # The paper's columns typed anew from its Table 6.
    assert [[row[0], *row[2::2]] for row in table[1:]] == [
        ["natural", "86.21", "87.72", "87.85", "87.35"],
        ["PGD-20", "50.07", "50.37", "50.48", "49.92"],
        ["PGD-100", "49.32", "49.28", "49.58", "49.11"],
        ["margin loss (C&W)", "50.46", "50.92", "50.82", "50.37"],
        ["from Madry's", "–", "58.16", "57.39", "57.63"],
        ["from Ours-40", "58.69", "–", "54.04", "56.11"],
        ["from Ours-70", "58.77", "54.60", "–", "55.23"],
        ["from Ours-100", "58.61", "56.62", "55.20", "–"],
        ["pruning (s)", "0", "15,462", "15,462", "15,462"],
        ["training (s)", "134,764", "54,090", "94,796", "137,105"],
        ["total (s)", "134,764", "69,552", "110,258", "152,567"],
        ["ratio to Madry's", "–", "0.51", "0.82", "1.13"],
        ["total (CPU s)", "–", "–", "–", "–"],
        ["ratio, CPU s", "–", "–", "–", "–"],
    ]
    assert reached[1:] == [
        ["Ours-40", *["never"] * 3],
        ["Ours-70", "15.0±7.1", "0.50±0.00", "0.67±0.00"],
        ["FGSM training alone", *["never"] * 3],
        ["Ours-40, in CPU s", *["never"] * 3],
        ["Ours-70, in CPU s", "45.0±21.2", "0.50±0.00", "0.67±0.00"],
        ["FGSM training alone, in CPU s", *["never"] * 3],
    ]
    assert (
        "Goal: the validation robust accuracy that Madry's ends with (45.00±0.00%), less one "
        "standard error, as there are 100 images: 40.03±0.00%. It is first reached by Ours-70: "
        "after 15.0±7.1 s, finding the ticket included; that is 0.50±0.00 of the time of Madry's "
        "whole training and 0.67±0.00 of the time after which Madry's gets there."
    ) in text.replace("\n", " ")


def test_acceleration_says_never(trainings, reference):
    trainings.train("dense", 100, "pgd", [0.1, 0.501], [0.1, 0.501], seconds=[1])
    trainings.train("finding", None, "fgsm", [0.1], seconds=[1])
    trainings.train("fgsm_ticket", 40, "pgd", [0.1, 0.4], [0.1, 0.4], seconds=[1])
    text, (_, reached) = tables(trainings, reference, "acceleration")
    assert "None of ours reaches it." in text
    # Nobody counted CPU seconds.
    assert reached[1:] == [["Ours-40", "never", "never", "never"]]


def test_a_goal_that_guessing_reaches_is_none(trainings, reference):
    trainings.train("dense", 100, "pgd", [0.1, 0.102], [0.1, 0.102], seconds=[1])
    trainings.train("finding", None, "fgsm", [0.1], seconds=[1])
    trainings.train("fgsm_ticket", 40, "pgd", [0.1, 0.4], [0.1, 0.4], seconds=[1])
    text, found = tables(trainings, reference, "acceleration")
    assert len(found) == 1  # No table of when it was reached.
    assert "A network that guesses has 10.0%" in text.replace("\n", " ")
    assert "first reached" not in text


def test_a_finder_that_gets_there_alone_is_named(trainings, reference):
    robust = [0.1, 0.29, 0.41]
    trainings.train("finding", None, "fgsm", robust, robust, seconds=[1, 2])
    for family, percent in (("dense", 100), ("fgsm_ticket", 40)):
        trainings.train(family, percent, "pgd", robust, robust, seconds=[10, 20])
    text, _ = tables(trainings, reference, "acceleration")
    assert "reaches it by itself, with 1 of 1 seeds" in text.replace("\n", " ")


@pytest.mark.parametrize("family, percent", [("dense", 100), ("fgsm_ticket", 40)])
def test_acceleration_of_half_a_run(trainings, reference, family, percent):
    tests = {"natural": 0.5}
    trainings.train(family, percent, "pgd", [0.1, 0.5], [0.1, 0.5], seconds=[1], tests=tests)
    text, found = tables(trainings, reference, "acceleration")
    assert len(found) == 1 and "50.00" in text and "reached" not in text


def test_the_fastest_is_the_one_that_most_seeds_reach(trainings, reference):
    for seed in (0, 1):
        where = {"seed": seed, "seconds": [10]}
        trainings.train("finding", None, "fgsm", [0.1], **where)
        trainings.train("dense", 100, "pgd", [0.1, 0.501], [0.1, 0.501], **where)
        early = [0.1, 0.5 - 0.1 * seed]
        trainings.train("fgsm_ticket", 40, "pgd", early, early, **where)
        where["seconds"] = [20]
        trainings.train("fgsm_ticket", 70, "pgd", [0.1, 0.5], [0.1, 0.5], **where)
    text, _ = tables(trainings, reference, "acceleration")
    assert "first reached by Ours-70: after 30.0±0.0 s" in text.replace("\n", " ")


def test_seconds_have_decimals_only_while_they_are_few(trainings, reference):
    trainings.train("dense", 100, "pgd", [0.1], seconds=[12345.6])
    trainings.train("finding", None, "fgsm", [0.1], seconds=[50.25])
    trainings.train("fgsm_ticket", 40, "pgd", [0.1], seconds=[100])
    _, (table, *_) = tables(trainings, reference, "acceleration")
    rows = {row[0]: row for row in table}
    assert rows["total (s)"][1:4:2] == ["12,346", "150"]


def test_the_reference_repeats_itself_where_the_paper_does(reference):
    numbers = reference.set_index(["source", "method", "metric"])["value"]
    table_3, table_6 = numbers["Table 3"], numbers["Table 6"]
    assert len(table_3) == 26 and len(table_6) == 43
    assert (table_6[table_3.index] == table_3).all()
    assert not reference.duplicated(["source", "model", "method", "epoch", "metric"]).any()


def test_reference_of_table_3(reference):
    numbers = reference.set_index(["source", "method", "metric"])["value"]["Table 3"]
    for method, typed in (
        ("dense_100", (86.21, 50.07, 49.32, None, 134764, 134764, None)),
        ("fgsm_ticket_40", (87.72, 50.37, 49.28, 15462, 54090, 69552, 0.51)),
        ("fgsm_ticket_70", (87.85, 50.48, 49.58, 15462, 94796, 110258, 0.82)),
        ("fgsm_ticket_100", (87.35, 49.92, 49.11, 15462, 137105, 152567, 1.13)),
    ):
        metrics = (
            *(f"test/{attack}/accuracy" for attack in ("natural", "pgd_20", "pgd_100")),
            *(f"time/{part}/seconds" for part in ("pruning", "training", "total")),
            "time/total/ratio",
        )
        stored = numbers[method]
        assert [stored.get(metric) for metric in metrics] == list(typed)
        if method != "dense_100":
            assert typed[3] + typed[4] == typed[5]


def test_reference_of_table_4(reference):
    numbers = reference[reference["source"] == "Table 4"]
    numbers = numbers.pivot(index="model", columns="metric", values="value")
    assert len(numbers) == 10
    assert numbers.loc["vgg_16"].tolist() == [29975444, 114.35]
    assert numbers.loc["wide_resnet_22_10"].tolist() == [26797914, 102.23]
    # Four bytes a parameter; the paper rounds ResNet-18's 42.625 up and WideResNet-34-5's
    # 44.075 up, too.
    megabytes = 4 * numbers["model/parameters"] / 2**20
    assert (abs(megabytes - numbers["model/size"]) < 0.01).all()
