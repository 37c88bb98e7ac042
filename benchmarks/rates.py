"""Whether belief and gap shrink with the number of demonstrations as the theory of linear policies says (γ_n/√n).

    OMP_NUM_THREADS=1 python benchmarks/rates.py --output docs/results/rates

AMF's guarantee (arXiv 2410.05026) is for policies that are linear in known features: the posterior variance, and with
it the gap to the expert, shrinks like γ_n/√n, where γ_n is the information about the expert that n demonstrations give.
Here policies of no to three hidden layers learn the integrator's twelve goals. π0 knows three of them from a
demonstration each. After n demonstrations, of all goals in turn, π0 is trained on all there are, anew for each n. Then
are measured, over all goals: the mean variance of the belief (features of π0, as in a run) and the squared error of the
policy's actions, both on states of the policy's own episodes, its gap (one minus the score), and γ_n = ½ log det(P_n) −
½ log det(P_0) of the same belief. A rate is the slope of a line through the logarithms, for n ≥ 1.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from amf_lightning.durable import write_durably
from amf_lightning.evaluation.scores import evaluate_returns
from amf_lightning.evaluation.statistics import bootstrap_interval
from amf_lightning.experts.scripted import IntegratorExpert
from amf_lightning.policies.capabilities import embedded
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.reports.figures import png
from amf_lightning.seeding import Purpose, keyed_generator, keyed_seed
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.integrator import Integrator, expert_actions
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior

SUITE, EXPERT = Integrator(), IntegratorExpert(noise=0.1)
KNOWN = (0, 4, 8)
"""Goals that π0 was shown."""
COUNTS = (0, 1, 2, 4, 8, 16, 32, 64)
WIDTH, BATCH, RIDGE = 128, 64, 0.1
LAYERS = {"linear": 0, "one layer": 1, "two layers": 2, "three layers": 3}
MEASURES = {
    "variance": "variance of the belief",
    "error": "squared error of the actions",
    "gap": "gap of the score",
    "bound": "γ_n/√n",
}


def steps_of(trajectories: Sequence[Trajectory]) -> Steps:
    """All states in which an action was taken, [N]."""
    contexts = [torch.tensor([SUITE.task(each.task).context]).expand(each.length, -1) for each in trajectories]
    return Steps.of_state(
        torch.cat([torch.from_numpy(each.state[: each.length]) for each in trajectories]),
        torch.cat(contexts),
        torch.cat([torch.from_numpy(each.actions) for each in trajectories]),
    )


def train(policy: MLPPolicy, steps: Steps, updates: int, seed: int) -> None:
    """Behavioural cloning with Adam, the rate falling to zero."""
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, updates)
    generator = keyed_generator(seed, Purpose.TRAIN)
    for _ in range(updates):
        rows = steps[torch.randint(len(steps), (BATCH,), generator=generator)]
        optimizer.zero_grad()
        torch.autograd.backward((policy.act(rows) - _actions(rows)).square().mean())
        optimizer.step()
        schedule.step()


def measured(layers: int, seed: int, updates: int, episodes: int) -> list[dict[str, float]]:
    """One row for each of `COUNTS`."""
    torch.manual_seed(seed)
    start = MLPPolicy(SUITE.observation, SUITE.context_dim, SUITE.action_dim, hidden=(WIDTH,) * layers)
    before = steps_of(EXPERT.demonstrate(SUITE, [_episode(seed, Purpose.PRETRAIN, task) for task in KNOWN]))
    start.fit_normaliser(before)
    train(start, before, updates, seed)
    start.requires_grad_(False)
    features = embedded(start, before)
    scale = float(features.square().sum(1).mean().sqrt())
    order = [*np.random.default_rng(seed).permutation(len(SUITE.tasks))] * math.ceil(COUNTS[-1] / len(SUITE.tasks))
    shown = EXPERT.demonstrate(
        SUITE, [_episode(seed, Purpose.DEMONSTRATE, int(task), number) for number, task in enumerate(order)]
    )
    judged = [
        _episode(seed, Purpose.EVALUATE, task.index, number) for task in SUITE.tasks for number in range(episodes)
    ]
    prior = FeatureSpacePosterior.prior(features.shape[1], RIDGE, features.T @ features / scale**2)
    rows = []
    for count in COUNTS:
        known, policy = before, start
        belief = prior
        if count:
            known = steps_of(shown[:count])
            belief = prior.condition(embedded(start, known) / scale)
            policy = MLPPolicy(SUITE.observation, SUITE.context_dim, SUITE.action_dim, hidden=(WIDTH,) * layers)
            policy.load_state_dict(start.state_dict())
            train(policy, _joined(before, known), updates, seed)
        seen = rollout(policy, SUITE, judged)
        visited = steps_of(seen)
        with torch.no_grad():
            points = embedded(start, visited) / scale
            wanted = torch.from_numpy(expert_actions(visited.state.double().numpy(), visited.contexts.double().numpy()))
            error = float((policy.act(visited) - wanted).square().mean())
        returns = torch.tensor([_return(each) for each in seen], dtype=torch.float64).reshape(-1, episodes).mean(1)
        gained = float((_log_det(belief) - _log_det(prior)) / 2)
        rows.append(
            {
                "n": float(count),
                "variance": float(belief.variance(belief.prepare(points)).mean()),
                "error": error,
                "gap": 1 - evaluate_returns(count, returns, torch.zeros(len(returns)), SUITE).mean_score,
                "bound": gained / math.sqrt(count) if count else math.nan,
            }
        )
    return rows


def _episode(seed: int, purpose: Purpose, task: int, number: int = 0) -> Episode:
    return Episode(SUITE.tasks[task], keyed_seed(seed, purpose, task, number))


def _joined(a: Steps, b: Steps) -> Steps:
    both = (torch.cat([a.state, b.state]), torch.cat([a.contexts, b.contexts]), torch.cat([_actions(a), _actions(b)]))
    return Steps.of_state(*both)


def _actions(steps: Steps) -> Tensor:
    assert steps.actions is not None
    return steps.actions


def _return(trajectory: Trajectory) -> float:
    assert trajectory.rewards is not None
    return float(trajectory.rewards.sum())


def _log_det(belief: FeatureSpacePosterior) -> Tensor:
    return 2 * belief.factor.diagonal().log().sum()


def rate(rows: Sequence[Mapping[str, float]], measure: str) -> float:
    """Slope of log(measure) over log(n), n ≥ 1, where the measure is positive; NaN with fewer than three such n."""
    points = np.array([(math.log(row["n"]), math.log(row[measure])) for row in rows if row["n"] and row[measure] > 0])
    return float(np.polyfit(points[:, 0], points[:, 1], 1)[0]) if len(points) > 2 else math.nan


def table(results: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> str:
    """Rates of every policy with their intervals over seeds."""
    lines = [f"| policy | {' | '.join(MEASURES.values())} |", f"|:--|{'--:|' * len(MEASURES)}"]
    for name, runs in results.items():
        cells = []
        for measure in MEASURES:
            interval = bootstrap_interval([rate(rows, measure) for rows in runs])
            cells.append(f"{interval.value:.2f} [{interval.lo:.2f}, {interval.hi:.2f}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(results: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> Figure:
    """The geometric means over seeds against n, a panel for each measure."""
    drawn = Figure(figsize=(12, 3), layout="constrained")
    for axes, (measure, title) in zip(drawn.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        for name, runs in results.items():
            values = np.array([[row[measure] for row in rows if row["n"]] for rows in runs])
            mean = np.exp(np.log(np.maximum(values, 1e-6)).mean(0))
            axes.loglog([count for count in COUNTS if count], mean, marker="o", markersize=3, label=name)
        axes.set(title=title, xlabel="demonstrations")
    drawn.axes[0].legend(frameon=False, fontsize="small")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the rows, the table and the picture")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--updates", type=int, default=2000, help="steps of the optimiser for each n")
    parser.add_argument("--episodes", type=int, default=5, help="of each goal, for what is measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        name: [measured(layers, seed, options.updates, options.episodes) for seed in range(options.seeds)]
        for name, layers in LAYERS.items()
    }
    write_durably(options.output / "rows.json", json.dumps(results, indent=0) + "\n")
    write_durably(options.output / "rates.md", "Slopes of log(measure) over log(demonstrations).\n\n" + table(results))
    write_durably(options.output / "rates.png", png(figure(results)))
    print(table(results))


if __name__ == "__main__":
    main()
