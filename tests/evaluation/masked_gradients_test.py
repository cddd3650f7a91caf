"""The checks pass on a plain network and fail on those that hide their gradients."""

import pytest
import tensorflow as tf

from tests import trained
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.evaluation import masked_gradients
from tf_tickets.evaluation.masked_gradients import (
    FAIL,
    NOT_CHECKED,
    PASS,
    check_passes,
    gradient_masking_checks,
)
from tf_tickets.evaluation.robustness import RobustnessEvaluator

THREAT_MODEL = pgd(16 / 255, 4 / 255, 8, random_start=True)
MORE_STEPS, LARGER_EPS, UNBOUNDED, SINGLE_STEP, MARGIN, BLACK_BOX = range(6)


def plain(seed=0):
    model = trained.lenet(seed)
    return lambda images: model(images, training=False)


def saturated(images):
    """The same answers, but the softmax has no gradient left."""
    return 1e6 * plain()(images)


def quantized(images):
    """Rounding has no gradient almost everywhere."""
    rounded = tf.stop_gradient(tf.round(images * 15) / 15)
    return plain()(rounded + 0.0 * images)


def probabilities(images):
    """The same answers from a sigmoid, which is taken for logits."""
    return tf.sigmoid(plain()(images))


def verdicts(logits_fn, source=None):
    judge = RobustnessEvaluator(trained.victim_of(logits_fn), trained.images_of_test(200), 200)
    checks = gradient_masking_checks(judge, THREAT_MODEL, source)
    return [check.verdict for check in checks], checks


def test_a_plain_network_passes():
    found, checks = verdicts(plain(), trained.victim_of(plain(1)))
    assert found == [PASS] * 6
    assert list(checks[MORE_STEPS].measured) == ["1 steps", "2 steps", "8 steps", "40 steps"]
    assert list(checks[LARGER_EPS].measured) == [
        "eps 0.03137",
        "eps 0.06275",
        "eps 0.1255",
        "eps 1",
    ]
    assert not any(check.failed for check in checks)


def test_without_a_source_transfer_is_not_checked():
    found, checks = verdicts(plain())
    assert found == [PASS] * 5 + [NOT_CHECKED]
    assert checks[BLACK_BOX].reason == "no --source"


@pytest.mark.parametrize("logits_fn", [saturated, quantized])
def test_hidden_gradients_fail(logits_fn):
    found, checks = verdicts(logits_fn, trained.victim_of(plain()))
    assert found[UNBOUNDED] == FAIL and found[BLACK_BOX] == FAIL
    assert checks[BLACK_BOX].measured["transfer"] < checks[BLACK_BOX].measured["white-box"]


def test_outputs_that_are_no_logits_fail():
    natural, checks = verdicts(plain())
    hidden, of_hidden = verdicts(probabilities)
    # The attack on logits is the oracle: the answers of both networks are the same.
    robust = checks[MARGIN].measured["margin loss"]
    assert of_hidden[MARGIN].measured["PGD"] > robust + 0.02
    assert natural[MARGIN] == PASS and hidden[MARGIN] == FAIL


def test_announces_the_work_that_it_does():
    done = []
    judge = RobustnessEvaluator(
        trained.victim_of(plain()),
        trained.images_of_test(20),
        20,
        progress=lambda passes, _: done.append(passes),
    )
    source = trained.victim_of(plain(1))
    gradient_masking_checks(judge, THREAT_MODEL, source)
    assert sum(done) == 20 * check_passes(THREAT_MODEL, source)


@pytest.mark.parametrize(
    ("images", "more", "verdict"),
    [(100, 2, PASS), (100, 3, FAIL), (1000, 5, PASS), (1000, 6, FAIL)],
)
def test_random_starts_may_cost_a_stronger_attack_two_images(images, more, verdict):
    accuracies = {"1 step": 10 / images, "8 steps": (10 + more) / images}
    assert masked_gradients._does_not_rise("", accuracies, images).verdict == verdict
