"""Losses against their definitions, negatives against their chances, the loop against a problem with a known answer."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from sensorium.train.loop import Descent, reproducible, weights_of
from sensorium.train.losses import info_nce, softmax_loss
from sensorium.train.negatives import drawn, everything


def world(items=40, positions=6, size=5):
    torch.manual_seed(1)
    return torch.randn(positions, size), torch.randn(items, size)


def test_exact_softmax_is_cross_entropy():
    hidden, table = world()
    target = torch.tensor([0, 3, 3, 39, 7, 1])
    loss = softmax_loss(
        hidden, table, table[target][:, None], target[:, None], torch.ones(6, 1), torch.arange(40), None
    )
    assert torch.allclose(loss, functional.cross_entropy(hidden @ table.T, target))


def test_several_answers_are_a_soft_label():
    hidden, table = world()
    targets = torch.tensor([[0, 3], [3, 4], [3, 9], [39, 2], [7, 1], [1, 0]])
    shares = torch.tensor([[0.75, 0.25]] * 6)
    soft = torch.zeros(6, 40).scatter_(1, targets, shares)
    loss = softmax_loss(hidden, table, table[targets], targets, shares, torch.arange(40), None)
    assert torch.allclose(loss, functional.cross_entropy(hidden @ table.T, soft))


def test_a_sample_of_everything_is_the_exact_softmax():
    hidden, table = world()
    target = torch.tensor([0, 3, 3, 39, 7, 1])
    arguments = (hidden, table, table[target][:, None], target[:, None], torch.ones(6, 1), torch.arange(40))
    assert torch.allclose(softmax_loss(*arguments, None), softmax_loss(*arguments, torch.zeros(40)), atol=1e-6)


def test_the_correction_makes_the_sampled_sum_unbiased():
    rng = np.random.default_rng(0)
    known = np.arange(100)
    chance = np.arange(1, 101) / 5050
    batch = rng.choice(known, 300, p=chance)
    weight = np.exp(rng.normal(size=100))
    sums = []
    for _ in range(3000):
        batch = rng.choice(known, 300, p=chance)
        negatives = drawn(batch, known, chance.astype(np.float32), 40, rng)
        assert (np.diff(negatives.rows) > 0).all()
        sums.append((weight[negatives.rows] / np.exp(negatives.log_chance)).sum())
    assert abs(np.mean(sums) / weight.sum() - 1) < 0.02
    assert everything(known).all
    assert not negatives.all


def test_info_nce_is_lowest_for_true_pairs():
    left = functional.normalize(torch.randn(8, 4), dim=1)
    assert info_nce(left, left, 20.0) < info_nce(left, left.roll(1, 0), 20.0)
    twice = left.clone()
    twice[1] = twice[0]
    same = torch.zeros(8, 8, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    assert info_nce(twice, twice, 20.0, same) < info_nce(twice, twice, 20.0)


def test_descent_finds_the_least_squares_answer_and_repeats_itself():
    def fitted():
        with reproducible(np.random.default_rng(3)):
            module = torch.nn.Linear(2, 1)
            descent = Descent(module, learning_rate=0.05, warmup=5, average=0.98)
            x = torch.randn(64, 2)
            y = x @ torch.tensor([[2.0], [-1.0]]) + 0.5
            for _ in range(600):
                descent.step(((module(x) - y) ** 2).mean())
            with descent.averaged():
                return weights_of(module)

    first, second = fitted(), fitted()
    np.testing.assert_allclose(first["weight"], [[2, -1]], atol=0.01)
    np.testing.assert_allclose(first["bias"], [0.5], atol=0.01)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_the_world_outside_is_left_as_it_was():
    torch.manual_seed(7)
    before, width = torch.random.get_rng_state(), torch.get_num_threads()
    with pytest.raises(RuntimeError), reproducible(np.random.default_rng(0)):
        torch.randn(3) @ torch.randn(4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == width
    assert not torch.are_deterministic_algorithms_enabled()
