"""What the studies consist of, held against the paper's text."""

import dataclasses

import pytest

from experiments.boosting_tickets import driver as boosting_tickets
from experiments.boosting_tickets import results
from experiments.boosting_tickets.plan import STUDIES, Studies
from experiments.boosting_tickets.settings import BoostingSettings, Surroundings
from tf_tickets.attacks.threat_model import fast, fgsm, pgd, with_margin_attack
from tf_tickets.errors import UserError
from tf_tickets.models.registry import require_image_shape
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import Attack, Data, Fresh, Measurement, Platform, Recipe, in_order

PAPER = BoostingSettings(
    models=(),
    capacity_models=("wide_resnet_34_1", "wide_resnet_10_10"),
    mnist_models=("lenet_conv", "vgg_16"),
    epochs=100,
    finding_epochs=100,
    learning_rate=0.1,
    finding_learning_rate=0.0,
    finding_learning_rates=(0.005, 0.01, 0.05, 0.1),
    finders=("natural", "fgsm", "pgd"),
    warmup_epochs=10,
    sparsity=0.8,
    sparsities=(0.5, 0.9),
    score="magnitude",
    rounds=3,
)
EPS = 8 / 255
PGD_20 = pgd(EPS, EPS / 4, 20, True)
CIFAR10 = Surroundings(
    data=Data("cifar10", "tfds", "0" * 64, seed=0, train=45000, validation=5000),
    image_shape=(32, 32, 3),
    classes=10,
    width_multiplier=1.0,
    recipe=Recipe(128, "sgd", "adversarial"),
    batch_sizes={"vgg_16": 64},
    attacks={"fgsm": fgsm(EPS), "fast": fast(EPS), "pgd": pgd(EPS, EPS / 4, 10, True)},
    evaluation_attack=Attack("pgd_20", PGD_20),
    fast_stop_after_drop=0.2,
    test_examples=10000,
    platform=Platform(1, 1, ()),
)
STUDIES_OF_PAPER = Studies(PAPER, CIFAR10)


def of(study, model=None):
    """Method → training."""
    trainings = STUDIES_OF_PAPER.compared(study)
    return {each.labels["method"]: each for each in trainings if model in (None, each.network.name)}


def epochs(training):
    return training.iterations / training.evaluate_every


def without_ticket(training):
    """The same as if no pruning lay behind it."""
    return dataclasses.replace(training, masks=None, stream=0)


def is_reinitialized(training):
    return training.start != Fresh(training.seed)


def test_a_boosting_ticket_is_found_at_a_small_rate_and_warms_up_from_it():
    for model, rate in (("vgg_16", 0.01), ("resnet_18", 0.05)):
        boosting = of("existence", model)["boosting_100"]
        found_by = boosting.masks.of
        assert (found_by.rates.learning_rate, found_by.rates.warmup_epochs) == (rate, 0)
        assert found_by.masks is None and epochs(found_by) == 100 and not found_by.selections
        assert (boosting.rates.learning_rate, boosting.rates.warmup_start) == (0.1, rate)
        assert boosting.rates.warmup_epochs == 10
        assert (boosting.masks.sparsity, boosting.masks.score) == (0.8, "magnitude")


def test_a_winning_ticket_is_found_at_the_large_rate_with_its_warmup():
    trainings = of("existence", "vgg_16")
    winning, rates = trainings["winning_100"], trainings["winning_100"].masks.of.rates
    assert (rates.learning_rate, rates.warmup_start, rates.warmup_epochs) == (0.1, 0.01, 10)
    assert without_ticket(winning) == without_ticket(trainings["boosting_100"])


def test_random_networks_have_the_boosting_masks_and_other_weights():
    trainings = of("existence", "vgg_16")
    assert trainings["random_100"].masks == trainings["boosting_100"].masks
    assert is_reinitialized(trainings["random_100"])
    assert not is_reinitialized(trainings["boosting_100"])
    assert len({each.start for each in trainings.values()}) == 2


def test_an_iterative_ticket_removes_equal_fractions_a_round():
    repeated = of("existence", "vgg_16")["iterative_100"]
    densities, found_by, masks = [], [], repeated.masks
    while masks:
        densities.append(1 - masks.sparsity)
        found_by.append(without_ticket(masks.of))
        masks = masks.of.masks
    assert densities == pytest.approx([0.2, 0.2 ** (2 / 3), 0.2 ** (1 / 3)])
    assert repeated.stream == 3
    assert set(found_by) == {of("existence", "vgg_16")["boosting_100"].masks.of}


def test_one_round_is_the_boosting_ticket():
    once = Studies(dataclasses.replace(PAPER, rounds=1), CIFAR10).compared("existence")
    by_name = {each.labels["method"]: each for each in once}
    assert by_name["iterative_100"] == by_name["boosting_100"]


def test_lengths_are_percents_of_the_schedule():
    trainings = of("acceleration")
    assert {name: epochs(each) for name, each in trainings.items()} == {
        "dense_100": 100,
        "fgsm_ticket_40": 40,
        "fgsm_ticket_70": 70,
        "fgsm_ticket_100": 100,
    }
    for each in trainings.values():
        assert (each.network.name, each.against) == ("wide_resnet_34_10", "pgd")
        assert each.rates.epochs == epochs(each)
        assert each.selections == (Selection("validation/pgd_20/accuracy"),)
    assert trainings["dense_100"].masks is None
    assert {each.masks.of.against for each in trainings.values() if each.masks} == {"fgsm"}


def test_the_pruning_ratio_study_stops_after_five_epochs_of_the_whole_schedule():
    trainings = STUDIES_OF_PAPER.compared("pruning_ratio")
    for each in trainings:
        assert (epochs(each), each.rates.epochs) == (5, 100)
    assert len({each.masks.of for each in trainings}) == 2  # One training serves all ratios.


def test_all_adversarial_tickets_are_retrained_alike():
    trainings = of("adversarial")
    assert {name: each.masks.of.against for name, each in trainings.items()} == {
        "natural_ticket_100": "natural",
        "fgsm_ticket_100": "fgsm",
        "pgd_ticket_100": "pgd",
        "fgsm_random_100": "fgsm",
    }
    alike = {
        dataclasses.replace(without_ticket(each), start=Fresh(0), labels={})
        for each in trainings.values()
    }
    assert {(each.against, epochs(each), each.rates.warmup_start) for each in alike} == {
        ("pgd", 100, 0.01)
    }
    assert len(alike) == 1
    random = [name for name, each in trainings.items() if is_reinitialized(each)]
    assert random == ["fgsm_random_100"]


def test_the_adversarial_study_can_include_fast_training_which_stops_early():
    studies = Studies(dataclasses.replace(PAPER, finders=("fast",)), CIFAR10)
    trainings = {each.labels["method"]: each for each in studies.compared("adversarial")}
    assert set(trainings) == {"fast_ticket_100", "fgsm_random_100"}
    found_by = trainings["fast_ticket_100"].masks.of
    assert found_by.selections == (Selection("validation/pgd_20/accuracy", 0.2),)


def test_the_mnist_study_has_no_schedule_anywhere():
    for each in in_order(STUDIES_OF_PAPER.compared("mnist")):
        assert each.rates.milestones == () and each.rates.warmup_epochs == 0


def test_table_5_is_of_early_stopped_networks():
    trainings = STUDIES_OF_PAPER.compared("mnist")
    stopped = {each.labels["method"] for each in trainings if each.against == "natural"}
    assert stopped == {"dense_100", "winning_100", "boosting_100", "random_100"}
    for each in trainings:
        natural = each.against == "natural"
        metric = "natural/loss" if natural else "pgd_20/accuracy"
        assert each.selections == (Selection(f"validation/{metric}", smallest=natural),)
        assert not (each.masks and each.masks.of.selections)


def test_the_original_network_is_trained_as_the_tickets_are():
    trainings = of("existence", "vgg_16")
    boosting = trainings["boosting_100"]
    assert trainings["dense_100"] == without_ticket(boosting)


def test_studies_share_what_is_the_same():
    both = STUDIES_OF_PAPER.trainings_of(["convergence", "adversarial"])
    names = [(each.network.name, each.labels["method"]) for each in both]
    assert len(names) == len(set(names))
    assert names.count(("vgg_16", "fgsm_ticket_100")) == 1
    finders = [name for _, name in names if name.startswith("finding")]
    assert len(finders) == 3  # Natural, FGSM and PGD training find masks.
    assert len(in_order(both)) == len(set(both)) == len(both)


@pytest.mark.parametrize("study", STUDIES)
def test_nothing_comes_before_its_ticket(study):
    for trainings in (
        STUDIES_OF_PAPER.trainings_of([study]),
        in_order(STUDIES_OF_PAPER.compared(study)),
    ):
        seen = set()
        for each in trainings:
            assert each.masks is None or each.masks.of in seen
            seen.add(each)


@pytest.mark.parametrize("study", STUDIES)
def test_every_network_can_take_its_images(study):
    """CIFAR's, and MNIST's padded as the driver pads them."""
    for each in STUDIES_OF_PAPER.trainings_of([study]):
        require_image_shape(each.network.name, (32, 32, 1 if study == "mnist" else 3))


def test_two_trainings_of_one_name_are_refused(monkeypatch):
    one = of("acceleration")["dense_100"]
    twice = [one, dataclasses.replace(one, iterations=2)]
    monkeypatch.setitem(STUDIES, "acceleration", lambda studies, model: twice)
    with pytest.raises(ValueError, match="two different trainings are called"):
        STUDIES_OF_PAPER.trainings_of(["acceleration"])


def test_each_network_has_the_batches_and_steps_of_its_own():
    """45,000 images are 703 batches of 64 and 352 of 128, to the nearest."""
    for model, batch, steps in (("vgg_16", 64, 703), ("resnet_18", 128, 352)):
        for each in of("existence", model).values():
            assert (each.recipe.batch_size, each.rates.steps_per_epoch) == (batch, steps)


def test_adversarially_trained_networks_meet_their_own_attack_and_the_margin_loss():
    trainings = [of("existence", "vgg_16")["dense_100"], of("acceleration")["dense_100"]]
    naturally, adversarially = STUDIES_OF_PAPER.measured(trainings)
    assert naturally == Measurement(trainings[0], examples=10000)
    assert [each.name for each in adversarially.attacks] == ["pgd_20", "cw_linf", "pgd"]
    threats = [each.threat for each in adversarially.attacks]
    margin = with_margin_attack({"pgd_20": PGD_20})["cw_linf"]
    assert threats == [PGD_20, margin, CIFAR10.attacks["pgd"]]
    assert adversarially.labels == trainings[1].labels


def test_rates_that_differ_in_late_digits_have_names_of_their_own():
    near = dataclasses.replace(PAPER, finding_learning_rate=0.05000001)
    named = Studies(near, CIFAR10).trainings_of(["learning_rate", "epochs"])
    names = {each.labels["method"] for each in named}
    assert {"finding_natural_0.05", "finding_natural_0.05000001"} <= names


def labels_of(study, *names):
    """Method → its labels of those names, None where it has none."""
    trainings = STUDIES_OF_PAPER.trainings_of([study])
    return {each.labels["method"]: tuple(map(each.labels.get, names)) for each in trainings}


def test_labels_say_what_the_names_say():
    names = ("family", "percent", "finding_rate", "pruned_to")
    existence = labels_of("existence", *names)
    assert existence["boosting_100"] == ("boosting", 100, None, None)
    assert existence["iterative_100"] == ("iterative", 100, None, None)
    finders = {name for name, (family, *_) in existence.items() if family == "finding"}
    assert finders == {
        "finding_natural_0.01",
        "finding_natural_0.05",
        "finding_natural_0.1_warmup",
        *(
            f"iterative_finding_natural_{rate}_{number}"
            for rate in (0.01, 0.05)
            for number in (2, 3)
        ),
    }
    assert {existence[name][1:] for name in finders} == {(None, None, None)}
    varied = labels_of("learning_rate", *names)
    assert varied["found_at_0.005_20"] == ("boosting", 20, 0.005, None)
    assert {labels[2] for name, labels in varied.items() if name[:5] == "found"} == {
        *PAPER.finding_learning_rates
    }
    assert labels_of("pruning_ratio", *names) == {
        "finding_natural_0.01": ("finding", None, None, None),
        "finding_natural_0.05": ("finding", None, None, None),
        "boosting_sparsity_0.5": ("boosting", None, None, 0.5),
        "random_sparsity_0.5": ("random", None, None, 0.5),
        "boosting_sparsity_0.9": ("boosting", None, None, 0.9),
        "random_sparsity_0.9": ("random", None, None, 0.9),
    }
    assert labels_of("acceleration", *names) == {
        "finding_fgsm_0.05": ("finding", None, None, None),
        "dense_100": ("dense", 100, None, None),
        "fgsm_ticket_40": ("fgsm_ticket", 40, None, None),
        "fgsm_ticket_70": ("fgsm_ticket", 70, None, None),
        "fgsm_ticket_100": ("fgsm_ticket", 100, None, None),
    }


@pytest.mark.parametrize("study", STUDIES)
def test_every_training_has_the_columns_of_the_report(study):
    """And no others; a network of a family that the report knows."""
    for each in STUDIES_OF_PAPER.trainings_of([study]):
        columns = {*each.labels} - {"data_set", "model", "regime", "method", "seed", "level"}
        assert "family" in columns and columns <= {*results.LABELS}
        assert each.labels["family"] in results.FAMILY_LABELS
        method, family, percent = (
            each.labels.get(name) for name in ("method", "family", "percent")
        )
        if percent is not None and "finding_rate" not in columns:
            assert method == f"{family}_{percent}"


@pytest.mark.parametrize("study", [study for study in STUDIES if study != "mnist"])
def test_one_fgsm_training_finds_all_fgsm_tickets_of_a_network(study):
    """The report counts its time for each of them."""
    finders = {
        (each.network.name, each.masks.of)
        for each in STUDIES_OF_PAPER.trainings_of([study])
        if each.labels["family"] == "fgsm_ticket"
    }
    assert len(finders) == len({model for model, _ in finders})


def test_networks_of_table_6_meet_each_others_examples():
    assessed = STUDIES_OF_PAPER.assessed(Attack("pgd_100", pgd(EPS, EPS / 4, 100, True)))
    assert [each.of for each in assessed] == STUDIES_OF_PAPER.compared("acceleration")
    sources = {
        each.labels["method"]: {source.labels["method"] for source, _ in each.transferred}
        for each in assessed
    }
    everyone = {"dense_100", "fgsm_ticket_40", "fgsm_ticket_70", "fgsm_ticket_100"}
    assert sources == {method: everyone - {method} for method in everyone}
    for each in assessed:
        assert [attack.name for attack in each.attacks] == ["pgd_100"]
        assert {attack.threat for _, attack in each.transferred} == {PGD_20}


def paper_preset(study):
    """The studies of the driver's paper preset, on data of CIFAR's size that are not read."""
    config = boosting_tickets.PAPER | (boosting_tickets.MNIST if study == "mnist" else {})
    shared = dataclasses.replace(
        CIFAR10,
        recipe=boosting_tickets.recipe(config),
        batch_sizes=boosting_tickets.batch_sizes(config),
        attacks=boosting_tickets.training_attacks(config),
        evaluation_attack=boosting_tickets.attack(config, 20),
    )
    return Studies(boosting_tickets.study_settings(config), shared)


def test_the_paper_preset_is_counted_without_data():
    """152 names of 144 trainings; with a measurement each, twice as much work."""
    new_names = {
        # 2 networks: one-shot and winning ticket, their finders, random, iterative with 6 more
        # finders, dense.
        "existence": 2 * (2 + 2 + 1 + 7 + 1),
        "epochs": 2 * 4,  # Two kinds of ticket, 20 to 80%.
        "learning_rate": 2 * (4 * 5 + 3),  # 4 rates of 5 lengths; one finder is there.
        "pruning_ratio": 2 * 2 * 10,
        "capacity": 8 * 2,
        "adversarial": 2 + 4,  # FGSM and PGD finders; three tickets and random.
        "convergence": 1 + 4,  # Dense; 20 to 80% of the FGSM ticket.
        "acceleration": 1 + 1 + 3,
    }
    studies, so_far = paper_preset("existence"), []
    for study, new in new_names.items():
        before = len(studies.trainings_of(so_far))
        so_far.append(study)
        assert len(studies.trainings_of(so_far)) == before + new, study
    trainings = studies.trainings_of(so_far)
    assert len(trainings) == sum(new_names.values()) == 152
    # What Figure 3 calls by the paper's own rates is Figure 1's and 2's: five lengths of VGG-16's
    # boosting ticket and one of ResNet-18's. The winning ticket is found by the dense network.
    assert len({each.identity for each in trainings}) == 152 - 5 - 1 - 2
    assert len(in_order(studies.measured(trainings))) == 2 * 144


def test_no_training_of_the_mnist_study_is_another():
    """Table 5's four and their two finders; two of each of Figure 7's and their finders."""
    studies = paper_preset("mnist")
    trainings = studies.trainings_of(["mnist"])
    assert len(trainings) == len({each.identity for each in trainings}) == 4 + 2 + 2 * (2 + 1)
    assert len(in_order(studies.measured(trainings))) == 2 * 12


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"models": ("alexnet",)}, "--models=alexnet: unknown"),
        ({"capacity_models": ("wide_resnet_11_1",)}, "--models=wide_resnet_11_1"),
        ({"epochs": 0}, "--epochs=0: expected at least 1"),
        ({"warmup_epochs": -1}, "--warmup_epochs=-1: expected at least 0"),
        ({"learning_rate": 0.0}, "--learning_rate=0.0: expected above 0"),
        ({"finding_learning_rates": (0.1, -1.0)}, "--finding_learning_rates=-1.0: expected"),
        ({"sparsity": 1.0}, "--sparsity=1.0: expected in [0, 1)"),
        ({"sparsities": (0.5, 1.5)}, "--sparsities=1.5: expected in [0, 1)"),
        ({"score": "luck"}, "--score=luck: expected one or more of magnitude"),
        ({"sparsities": (0.8, 0.8 + 1e-12)}, "--sparsities=0.8,0.8: expected different numbers"),
        ({"finding_learning_rates": ()}, "--finding_learning_rates=: expected at least one"),
        ({"capacity_models": ("vgg_16",)}, "--capacity_models=vgg_16: expected Wide ResNets"),
        ({"finders": ("dense",)}, "--finders=dense: expected one or more of natural"),
        ({"rounds": 0}, "--rounds=0: expected at least 1"),
    ],
)
def test_refuses_wrong_settings(changes, message):
    with pytest.raises(UserError) as error:
        dataclasses.replace(PAPER, **changes)
    assert message in str(error.value)
