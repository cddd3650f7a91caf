"""What work is known by: all that decides it, and nothing else."""

import dataclasses
import hashlib
import json
import pickle

import pytest

from tests.work.plans import DENSE, EVALUATION, FINDING, RANDOM, RETRAINED, TRAININGS, measured
from tests.work.structure_plans import CUT_TRAININGS, ELEMENTS, PRUNED, TICKET, TWICE, WHOLE, meets
from tests.work.text_plans import ATTACKED, ENCODER, FREE_LB, ROBUST, TEXT_NODES
from tests.work.transfer_plans import AT_RANDOM, FIRST, PRETRAINED, TRANSFERRED, attacked
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import (
    Attack,
    FoundTicket,
    Imported,
    Inherited,
    Masks,
    Measurement,
    RandomMasks,
    described,
    in_order,
    subject,
)


def changed(value):
    """Every value that differs from this one in a single field, with that field's name."""
    for field in dataclasses.fields(value):
        if not field.compare:
            continue
        for name, other in other_values(getattr(value, field.name)):
            try:
                yield f"{field.name}{name}", dataclasses.replace(value, **{field.name: other})
            except Exception as error:  # A value that cannot be: its class refuses it.
                assert "expected" in str(error), error


def other_values(value):
    if dataclasses.is_dataclass(value):
        yield from ((f".{name}", other) for name, other in changed(value))
    elif isinstance(value, bool):
        yield "", not value
    elif isinstance(value, int):
        yield "", value + 1
    elif isinstance(value, float):
        yield "", value / 2 + 0.013
    elif isinstance(value, str):
        yield "", f"{value}_2"
        yield "", {"true": "predicted", "cross_entropy": "margin"}.get(value, "other")
    elif isinstance(value, tuple):
        yield "[+]", (*value, *value[-1:], "more")
        for place, each in enumerate(value):
            for name, other in other_values(each):
                yield f"[{place}]{name}", (*value[:place], other, *value[place + 1 :])


CUT_NODES = (*CUT_TRAININGS, PRUNED.network, *meets(PRUNED), ELEMENTS)
IMPORTED = Imported(
    FINDING.network, FINDING.data, "0" * 64, 5, FINDING.platform, "convolutions", "weights.pt"
)
TRANSFER_NODES = (TRANSFERRED, attacked(TRANSFERRED), FIRST, AT_RANDOM, IMPORTED)
NODES = (*TRAININGS, measured(RETRAINED), *CUT_NODES, *TRANSFER_NODES, *TEXT_NODES)


@pytest.mark.parametrize("node", NODES)
def test_every_field_is_part_of_the_identity(node):
    identities = {node.identity: "itself"}
    for name, other in changed(node):
        assert other.identity not in identities, (name, identities[other.identity])
        identities[other.identity] = name
    assert len(identities) > (10 if isinstance(node, FoundTicket) else 30)


def test_what_may_be_missing_is_part_of_the_identity():
    for name, value in {
        "masks": Masks(FINDING, 0.5, "magnitude"),
        "selections": (Selection("validation/natural/loss", smallest=True),),
        "start": Inherited(DENSE),
    }.items():
        assert dataclasses.replace(FINDING, **{name: value}).identity != FINDING.identity
    source = Attack("transfer", EVALUATION.threat)
    plain = measured(DENSE)
    transferred = dataclasses.replace(plain, transferred=((FINDING, source),))
    other = dataclasses.replace(plain, transferred=((RETRAINED, source),))
    assert len({each.identity for each in (plain, transferred, other)}) == 3


def test_text_work_of_every_kind_is_work_of_its_own():
    assert len({node.identity for node in TEXT_NODES}) == len(TEXT_NODES)
    bound = dataclasses.replace(FREE_LB.attack, bound=1.0)
    for node, name, value in [
        (FREE_LB, "attack", bound),
        (FREE_LB, "attack", None),
        (FREE_LB, "selections", ()),
        (ATTACKED, "at", None),
        (ATTACKED, "at", 5),
    ]:
        assert dataclasses.replace(node, **{name: value}).identity != node.identity, name


def test_where_encoders_and_resources_lie_decides_nothing():
    moved = dataclasses.replace(ENCODER, place=dataclasses.replace(ENCODER.place, bert_dir="b"))
    network = dataclasses.replace(ROBUST.network, encoder=moved)
    assert dataclasses.replace(ROBUST, network=network).identity == ROBUST.identity
    places = TextResources(nltk_data="elsewhere")
    assert dataclasses.replace(ATTACKED, places=places).identity == ATTACKED.identity


def test_a_training_keeps_the_weights_that_are_attacked():
    assert ATTACKED.of.keeps == (4,) and ATTACKED.of.identity == ROBUST.identity
    later = dataclasses.replace(ATTACKED, at=8)
    kept = {node.identity: getattr(node, "keeps", ()) for node in in_order([ATTACKED, later])}
    assert kept[ROBUST.identity] == (4, 8)


def test_labels_decide_nothing():
    other = dataclasses.replace(FINDING, labels={"method": "another"})
    assert other == FINDING and other.identity == FINDING.identity
    under_another = dataclasses.replace(
        RETRAINED, masks=dataclasses.replace(RETRAINED.masks, of=other)
    )
    assert under_another.identity == RETRAINED.identity


def test_one_and_one_point_zero_are_the_same_rate():
    rates = dataclasses.replace(FINDING.rates, learning_rate=1)
    as_float = dataclasses.replace(FINDING.rates, learning_rate=1.0)
    one, other = (dataclasses.replace(FINDING, rates=each) for each in (rates, as_float))
    assert one.identity == other.identity


def test_the_identity_is_a_hash_of_the_description():
    text = json.dumps([2, described(FINDING)], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest().startswith(FINDING.identity)
    assert len(FINDING.identity) == 20
    description = described(RETRAINED)
    assert description["masks"]["of"] == {"node": FINDING.identity}
    assert description["start"] == {"kind": "Fresh", "seed": 0}
    assert json.loads(json.dumps(description)) == description


def test_an_identity_is_the_same_in_every_process():
    """Written down: were it to change, all finished work would be lost."""
    assert FINDING.identity == "61736685ef82ffc1e8fa"


def test_nothing_comes_before_what_it_needs():
    wanted = [measured(RANDOM), measured(RETRAINED), measured(DENSE)]
    order = in_order(wanted)
    assert len(order) == 7 and order[0] is FINDING
    for place, node in enumerate(order):
        for need in node.needs:
            assert need.identity in {each.identity for each in order[:place]}
    assert in_order([*wanted, *wanted]) == order


def test_a_measurement_needs_the_networks_that_attack_it():
    node = Measurement(DENSE, transferred=((RETRAINED, EVALUATION),))
    assert [each.identity for each in node.needs] == [DENSE.identity, RETRAINED.identity]


def test_a_training_keeps_what_others_inherit():
    """What it keeps decides nothing, but those who ask for more get it from the same training."""
    late = dataclasses.replace(RETRAINED, start=Inherited(FINDING, 4))
    later = dataclasses.replace(RETRAINED, start=Inherited(FINDING, 5))
    last = dataclasses.replace(RETRAINED, start=Inherited(FINDING))
    assert len({each.identity for each in (late, later, last, RETRAINED)}) == 4
    assert late.start.of.keeps == (4,) and late.start.of.identity == FINDING.identity
    (found_by, *_) = in_order([RETRAINED, later, late, last])
    assert found_by.identity == FINDING.identity and found_by.keeps == (4, 5)


def test_a_cut_needs_the_network_that_it_is_of():
    assert PRUNED.network.needs == [WHOLE]
    assert [node.identity for node in TWICE.needs] == [TWICE.network.identity, PRUNED.identity]
    order = in_order([TWICE])
    assert order == [WHOLE, PRUNED.network, PRUNED, TWICE.network, TWICE]
    assert TWICE.whole_network == PRUNED.whole_network == WHOLE.whole_network == WHOLE.network


def test_what_is_cut_keeps_what_others_inherit():
    (whole, *_) = in_order([PRUNED, TICKET])
    assert whole == WHOLE and whole.keeps == (2,)


@pytest.mark.parametrize("node", [*TRAININGS, measured(RETRAINED), *CUT_NODES])
def test_work_can_be_sent_to_another_process(node):
    sent = pickle.loads(pickle.dumps(node))
    assert sent == node and sent.identity == node.identity and hash(sent) == hash(node)


def test_where_weights_from_outside_lie_decides_nothing():
    elsewhere = dataclasses.replace(IMPORTED, source="/elsewhere/weights.pt", labels={"level": 0})
    assert elsewhere == IMPORTED and elsewhere.identity == IMPORTED.identity


def test_a_ticket_needs_the_network_that_it_is_of_and_a_training_its_ticket():
    assert [each.identity for each in FIRST.needs] == [PRETRAINED.identity]
    needs = [each.identity for each in TRANSFERRED.needs]
    assert needs == [PRETRAINED.identity, TRANSFERRED.masks.identity]
    at_random = dataclasses.replace(FIRST, masks=RandomMasks(PRETRAINED, 0.2, 0))
    assert at_random.identity != FIRST.identity
    for node in (FIRST, PRETRAINED, measured(PRETRAINED), at_random):
        assert subject(node) == PRETRAINED


def test_a_long_chain_of_prunings_is_known_and_sent():
    """As many rounds as a run may have; Python calls do not go as deep."""
    ticket = FIRST
    for level in range(2, 100):
        retrained = dataclasses.replace(PRETRAINED, masks=ticket, stream=level - 1)
        ticket = FoundTicket(Masks(retrained, 0.2, "magnitude"), level)
    assert len(in_order([ticket])) == 1 + 98 + 99
    sent = pickle.loads(pickle.dumps(ticket))
    assert sent == ticket and sent.identity == ticket.identity


def test_nodes_are_equal_if_their_identities_are():
    again = dataclasses.replace(DENSE, labels={**DENSE.labels, "method": "another name"})
    assert again == DENSE and hash(again) == hash(DENSE) and {DENSE, again} == {DENSE}
    longer = dataclasses.replace(DENSE, iterations=DENSE.iterations + 1)
    assert longer != DENSE and len({longer, DENSE, measured(DENSE)}) == 3
    assert DENSE != DENSE.identity
