"""The margin loss beside PGD: same ball, same step, same number of steps."""

from tf_tickets.attacks.threat_model import (
    MARGIN_ATTACK,
    ThreatModel,
    carlini_wagner,
    fgsm,
    pgd,
    with_margin_attack,
)


def test_the_margin_attack_costs_what_the_longest_costs():
    attacks = {"fgsm": fgsm(0.3), "pgd": pgd(0.3, 0.05, 10, labels="predicted")}
    measured = with_margin_attack(attacks)
    assert list(measured) == ["fgsm", "pgd", MARGIN_ATTACK]
    assert {name: measured[name] for name in attacks} == attacks
    # With true labels, whatever the others take, and from a random start.
    assert measured[MARGIN_ATTACK] == ThreatModel(0.3, 0.05, 10, random_start=True, loss="margin")
    assert measured[MARGIN_ATTACK] == carlini_wagner(0.3, 0.05, 10)


def test_without_attacks_there_is_none():
    assert with_margin_attack({}) == {}
