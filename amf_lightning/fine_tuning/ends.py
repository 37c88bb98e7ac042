"""The first and the last evaluation of a run: outside of Lightning's own validation, and maybe of more episodes."""

from collections.abc import Sequence
from contextlib import nullcontext

from amf_lightning.evaluation.evaluators import Evaluator
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.evaluation.simulated import SimulatedEvaluation
from amf_lightning.fine_tuning.judged import journal_of
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.policies.protocol import frozen_copy


def evaluate_end(module: BehaviouralCloning, evaluator: Evaluator) -> Evaluation | None:
    """Evaluates the policy as it is now, on every process; None where nothing is simulated."""
    rounds = module.data.evaluation_episodes
    per_task = evaluator.at_ends(rounds)
    episodes = module.data.episodes(per_task)
    if not len(episodes):
        return None
    running = SimulatedEvaluation(
        module.suite,
        frozen_copy(module.deployed).cpu().controller(),
        per_task,
        journal_of(module),
        device=module.device,
        rounds=rounds if per_task > rounds else None,
    )
    # As Lightning validates, so that the episodes of rounds come out alike.
    context = module.trainer.precision_plugin.val_step_context if module.trained_on else nullcontext
    for jobs in episodes:
        with context():
            running.run(jobs)
    return running.finish(module.trained_on, module.retention.measure(module.policy, module.suite))


def is_short(
    evaluations: Sequence[Evaluation], demonstrations: int, module: BehaviouralCloning, evaluator: Evaluator
) -> bool:
    """Whether the policy after all demonstrations was evaluated, but by fewer episodes than the last one is."""
    wanted = evaluator.at_ends(module.data.evaluation_episodes)
    there = [each for each in evaluations[-1:] if each.demonstrations == demonstrations]
    return any(count < wanted for each in there for count in each.episodes)
