"""Where the policy goes instead of where the expert goes, beside the formula written out with loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from amf_lightning.errors import InputError
from amf_lightning.selection.occupancy_gap import EpisodeSummaries, Summaries, occupancy_gaps
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

CONTEXTS = torch.tensor([[-1.0], [-0.5], [0.5], [1.0]], dtype=torch.float64)


def summaries(tasks: list[int], seed: int, spread: float = 0.2, length: float = 1.0) -> EpisodeSummaries:
    """Episodes whose summaries follow the context, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    of = torch.tensor(tasks)
    noise = spread * torch.randn(len(tasks), 6, generator=generator, dtype=torch.float64)
    lengths = torch.full((len(tasks),), length, dtype=torch.float64)
    return EpisodeSummaries(CONTEXTS[of] * torch.arange(1.0, 7.0, dtype=torch.float64) + noise, lengths, of)


def written_out(shown: EpisodeSummaries, rolled: EpisodeSummaries, share: float = 1.0) -> list[float]:
    """The definition in `occupancy_gaps`, with loops and numpy."""
    psi, length, of = shown.entries.numpy(), shown.lengths.numpy(), shown.tasks.tolist()
    known = sorted(set(of))
    means = {c: np.mean([psi[i] for i in range(len(of)) if of[i] == c], axis=0) for c in known}
    n = {c: of.count(c) for c in known}
    within = np.array([psi[i] - means[of[i]] for i in range(len(of))])
    w = (within**2).sum(0) / (len(of) - len(known)) if len(of) > len(known) else np.full(psi.shape[1], 0.05**2)
    a = np.maximum(np.var([means[c] for c in known], axis=0), 0.01)
    q = a / (a + w)
    values = np.array([[*means[c], np.mean([length[i] for i in range(len(of)) if of[i] == c])] for c in known])
    weights = np.array([n[c] for c in known], float)
    centre = (values * weights[:, None]).sum(0) / weights.sum()
    size = np.sqrt(np.maximum(((values - centre) ** 2).mean(0), 1e-12))
    x = CONTEXTS[:, 0].numpy() / CONTEXTS[:, 0].numpy().std()
    best = (-math.inf, np.zeros(0), np.zeros(0))
    for scale in (0.25, 0.5, 1.0, 2.0, 4.0):
        kernel = np.exp(-0.5 * (x[:, None] - x) ** 2 / scale**2)
        gram = kernel[np.ix_(known, known)] + np.diag((w / a).mean() / weights + 1e-6)
        y = (values - centre) / size
        inverse = np.linalg.inv(gram)
        fit = -0.5 * np.mean([y[:, j] @ inverse @ y[:, j] for j in range(y.shape[1])])
        likelihood = fit - 0.5 * float(np.linalg.slogdet(gram)[1])
        if likelihood > best[0]:
            cross = kernel[:, known]
            left = np.array([1 - row @ inverse @ row for row in cross])
            best = (likelihood, centre + cross @ inverse @ y * size, np.maximum(left, 0))
    _, m, unknown = best

    def distance(entries: np.ndarray, expectation: np.ndarray) -> float:
        return float((q * np.maximum((entries - expectation) ** 2 - w, 0) / a).sum() / q.sum())

    own = [
        distance(psi[i], np.mean([psi[j] for j in range(len(of)) if of[j] == of[i] and j != i], axis=0))
        for i in range(len(of))
        if n[of[i]] > 1
    ]
    ground = float(np.mean(own)) if own else 0.0
    gaps: dict[int, list[float]] = {}
    for entries, steps, c in zip(rolled.entries.numpy(), rolled.lengths.tolist(), rolled.tasks.tolist(), strict=True):
        d = max(distance(entries, m[c, :-1]) - ground, 0.0) + share * unknown[c]
        h = min(abs(steps - m[c, -1]) / max(m[c, -1], 0.05), 1.0)
        gaps.setdefault(c, []).append(1 - (1 - d / (d + 3)) * (1 - h))
    return [float(np.mean(gaps[c])) for c in sorted(gaps)]


@pytest.mark.parametrize("shown", [[0], [0, 1], [0, 0, 1, 1, 3], [0, 1, 2, 3, 3, 3]], ids=str)
def test_it_is_what_is_written(shown: list[int]) -> None:
    there, rolled = summaries(shown, 0), summaries([0, 0, 1, 1, 2, 2, 3, 3], 1, length=0.8)
    assert occupancy_gaps(there, rolled, CONTEXTS).tolist() == pytest.approx(written_out(there, rolled))
    inferred = occupancy_gaps(there, rolled, CONTEXTS, unknown=False)
    assert inferred.tolist() == pytest.approx(written_out(there, rolled, 0.0))


def test_whoever_goes_where_the_expert_goes_has_hardly_a_gap_and_whoever_falls_has_one() -> None:
    tasks = [c for c in range(4) for _ in range(6)]
    shown, rolled = summaries(tasks, 0), summaries(tasks, 1)
    like_the_expert = occupancy_gaps(shown, rolled, CONTEXTS)
    assert float(like_the_expert.max()) < 0.15
    fallen = replace(rolled, lengths=torch.where(rolled.tasks == 2, 0.4, rolled.lengths))
    gaps = occupancy_gaps(shown, fallen, CONTEXTS)
    assert float(gaps[2]) == pytest.approx(0.6, abs=0.1)
    assert torch.equal(gaps[[0, 1, 3]], like_the_expert[[0, 1, 3]])
    elsewhere = replace(rolled, entries=torch.where(rolled.tasks[:, None] == 1, -rolled.entries, rolled.entries))
    gaps = occupancy_gaps(shown, elsewhere, CONTEXTS)
    assert int(gaps.argmax()) == 1 and float(gaps[1]) > 3 * float(like_the_expert[1])


def test_a_task_that_nobody_has_shown_is_not_done() -> None:
    rolled = summaries([0, 1, 2, 3], 1)
    gaps = occupancy_gaps(summaries([0, 0, 0], 0, spread=0.01), rolled, CONTEXTS)
    assert gaps.argsort().tolist()[0] == 0 and float(gaps[1:].min()) > 0.15


def test_episodes_are_summarised_in_units_of_what_was_shown() -> None:
    suite = TinySuite()
    task = suite.tasks[0]
    states = np.random.default_rng(0).normal(size=(task.horizon + 1, 2)).astype(np.float32)
    episode = Trajectory({"state": states}, np.zeros((task.horizon, 1), np.float32), None, task.name)
    half = replace(episode, observations={"state": states[:7]}, actions=episode.actions[:6])
    found = Summaries([episode], suite)([episode, half])
    scaled = states[:-1].astype(float) / states[:-1].astype(float).std(0, ddof=1)
    expected = np.concatenate([scaled.mean(0), scaled.std(0)])
    assert found.entries[0].tolist() == pytest.approx(expected.tolist())
    assert found.lengths.tolist() == [1.0, 6 / task.horizon] and found.tasks.tolist() == [0, 0]
    picture = replace(episode, observations={"image": np.zeros((task.horizon, 4, 4, 3), np.uint8)})
    with pytest.raises(InputError, match=r"compares vectors.*has none.*evidence: null"):
        Summaries([picture], suite)
