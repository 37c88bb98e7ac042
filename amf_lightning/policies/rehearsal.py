"""Tries a policy on made-up rows before anything is demonstrated: that it acts, repeats itself, and can learn.

What is found here would otherwise be found nowhere: a policy that remembers, draws by itself or passes no gradient on
runs to the end, and its curve is another one each time, or flat.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amf_lightning.errors import UserCodeError
from amf_lightning.policies.protocol import Policy, RefittedPolicy, frozen_copy
from amf_lightning.seeding import Purpose, RowGenerators, drawn_by, keyed_generator, lent_global_generators
from amf_lightning.tasks.spec import Dimensions, Spec
from amf_lightning.tasks.steps import Steps, cat
from amf_lightning.tasks.task import TaskSuite

_ROWS = 8
_NEAR = 1e-5
"""How far the same rows may be from themselves: sums of other alignment have other last bits."""
_AS_NEAR = 1e-3
"""How far a row may be from itself beside other rows: a matrix product of other shape adds in another order."""
_MOST = 4
"""Weights that a message names."""


def rehearse(policy: Policy, suite: TaskSuite) -> None:
    """Tries a copy of the policy; warns if part of it cannot learn.

    Raises:
        UserCodeError: its actions have the wrong shape, differ from call to call or with the rows beside them, or come
            from a generator that nobody has set; its file does not make it again; or its loss has the wrong shape,
            remembers, reaches no weight, or is the same whatever the weights are.
    """
    acting = frozen_copy(policy).cpu()
    with lent_global_generators() as set_to:
        set_to(0)
        steps, others = bearable_steps(acting, suite)
        check_acting(acting, steps, others, suite.action_dim)
        for part in acting.parts:
            check_remade(part, steps, suite.dimensions, set_to)
        if not isinstance(policy, RefittedPolicy):
            check_learning(learning := deepcopy(policy).cpu().train(), steps, set_to)
            check_moved(learning, steps, suite.dimensions, set_to)


def made_up_steps(policy: Policy, suite: TaskSuite, draw: int, rows: int = _ROWS) -> Steps:
    """Rows of all tasks in turn, as the policy sees them in training; those of another draw are others.

    Floating-point entries are standard normal and pictures of any bytes; other integers are zeros, as their numbers
    may stand for something that there are only so many of.
    """
    generator = keyed_generator(0, Purpose.REHEARSE, draw)
    window, tasks = policy.window, torch.arange(rows) % len(suite.tasks)
    history = (window.history,) if window.history > 1 else ()

    def entry(spec: Spec) -> Tensor:
        kind = torch.from_numpy(np.zeros(0, spec.dtype)).dtype
        shape = (rows, *history, *spec.shape)
        if spec.is_floating:
            return torch.randn(shape, generator=generator).to(kind)
        return torch.randint(0, 256 if spec.is_image else 1, shape, generator=generator).to(kind)

    observations = {name: entry(spec) for name, spec in suite.observation.items()}
    chunk = (window.horizon,) if window.horizon > 1 else ()
    actions = 2 * torch.rand((rows, *chunk, suite.action_dim), generator=generator) - 1
    if suite.discrete:
        actions = F.one_hot(actions.argmax(dim=-1), suite.action_dim).to(actions)
    # The last rows stand at the end of an episode, where fewer actions count than are predicted.
    mask = torch.arange(window.horizon) < torch.arange(rows, 0, -1)[:, None] if chunk else None
    return Steps(observations, tasks, suite.contexts[tasks], actions, mask)


@torch.no_grad()
def check_acting(policy: Policy, steps: Steps, others: Steps, action_dim: int) -> None:
    """Raises UserCodeError unless the actions of each row are a function of the row.

    Args:
        policy: in evaluation mode.
        steps: [N], N even.
        others: as many other rows.
        action_dim: A.
    """
    shape = (len(steps), policy.window.horizon, action_dim)
    _check_function(policy, "act", policy.act, steps, others, (shape[0], shape[2]))
    _check_function(policy, "predict", policy.predict, steps, others, shape)
    if policy.samples:

        def sampled(rows: Steps) -> Tensor:
            return policy.predict(rows, RowGenerators(list(range(len(rows))), 0))

        _check_function(policy, "predict", sampled, steps, others, shape)


def _check_function(
    policy: Policy, method: str, call: Callable[[Steps], Tensor], steps: Steps, others: Steps, shape: tuple[int, ...]
) -> None:
    first: list[Tensor] = []
    generators = drawn_by(lambda: first.append(call(steps)))
    _check_shape(policy, method, first[0], shape)
    if generators:
        raise UserCodeError(
            f"{_named(policy)}: {method} draws from {generators[0]}, so no episode could be repeated. Let it draw in "
            "predict(steps, generator) from the generator that it is given (samples = True), or not at all; dropout "
            "belongs to training: F.dropout(x, training=self.training)."
        )
    call(others)
    if not _near(call(steps), first[0], _NEAR):
        raise UserCodeError(
            f"{_named(policy)}: {method} gives other actions when it is called again with the same rows. It must "
            "remember nothing: training shows it single rows in any order, and episodes run side by side. Declare a "
            "window = Window(history=k) to see the observations before, or keep the memory in a controller "
            "(model.controller)."
        )
    half = len(steps) // 2
    elsewhere = call(cat([others[:half], steps[half:]]))
    if not _near(elsewhere[half:], first[0][half:], _AS_NEAR):
        raise UserCodeError(
            f"{_named(policy)}: what {method} gives for a row depends on the rows beside it. Take no mean over rows "
            "(dimension 0), and no batch statistics in evaluation mode: episodes run side by side by chance."
        )


def _check_shape(policy: Policy, method: str, actions: object, shape: tuple[int, ...]) -> None:
    """Raises UserCodeError, with what to do, unless it is a tensor of the shape."""
    rows, *_, width = shape
    if not isinstance(actions, Tensor):
        raise UserCodeError(f"{_named(policy)}: {method} gave a {type(actions).__name__}, not a tensor {list(shape)}.")
    if actions.shape == shape:
        return
    gave = f"{_named(policy)}: {method} gave {list(actions.shape)} for {rows} rows, not {list(shape)}"
    if method == "act" and actions.ndim == 3 and actions.shape[::2] == (rows, width):
        raise UserCodeError(
            f"{gave}. A policy that gives {actions.shape[1]} actions at a time declares window = "
            f"Window(horizon={actions.shape[1]}) and gives them in predict(steps, generator) in place of act; its loss "
            "then sees as many (docs/your-own-policy.md)."
        )
    horizon = policy.window.horizon
    raise UserCodeError(f"{gave}: an action has {width} entries, and the policy's window has horizon {horizon}.")


@torch.no_grad()
def check_remade(policy: Policy, steps: Steps, dimensions: Dimensions, set_to: Callable[[int], None]) -> None:
    """Raises UserCodeError unless its class, its options and the tensors of its file make the same policy again.

    Args:
        policy: in evaluation mode.
        steps: [N].
        dimensions: that it was made for.
        set_to: sets the global generators.
    """
    set_to(2)  # what its constructor drew then, it does not draw again
    made = type(policy)(dimensions.observation, dimensions.context, dimensions.action, **policy.options).eval()
    made.load_state_dict(policy.state_dict())
    if not _near(made.act(steps), policy.act(steps), _NEAR):
        raise UserCodeError(
            f"{_named(policy)}: made again from its options and the tensors of its file it acts otherwise, so no run "
            "could start from its file. Register every tensor that its constructor draws or changes as a parameter or "
            "a buffer (register_buffer)."
        )


def check_learning(policy: Policy, steps: Steps, set_to: Callable[[int], None]) -> None:
    """Raises UserCodeError unless the loss is a number for each row that reaches weights; warns if it misses some.

    Args:
        policy: in training mode; its buffers may change.
        steps: [N], with actions.
        set_to: sets the global generators.
    """
    learning = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
    if not learning:
        raise UserCodeError(
            f"{_named(policy)}: it has no weight that could be trained. Assign modules (torch.nn.Linear, …) and "
            "torch.nn.Parameter to attributes of the policy, lists of modules as a ModuleList, with requires_grad."
        )
    before = deepcopy(policy.state_dict())
    set_to(1)
    loss = policy.loss(steps)
    if (shape := getattr(loss, "shape", None)) != (len(steps),):
        gave = f"a {type(loss).__name__}" if shape is None else list(shape)
        raise UserCodeError(
            f"{_named(policy)}: loss gave {gave} for {len(steps)} rows; it must give a loss for each row, "
            f"[{len(steps)}], e.g. by .mean(dim=1)."
        )
    missed = _unreached(loss, learning)
    if len(missed) == len(learning):
        raise UserCodeError(
            f"{_named(policy)}: no gradient of its loss reaches a weight, so nothing would be trained. Look for "
            "detach(), torch.no_grad(), .item() or numpy between the weights and the loss."
        )
    policy.load_state_dict(before)
    set_to(1)
    if not _near(policy.loss(steps), loss, _NEAR):
        raise UserCodeError(
            f"{_named(policy)}: in training its loss changes when it is called again with the same rows. What it "
            "remembers is lost when a run goes on after it was stopped: keep it in a buffer (register_buffer), or "
            "remember nothing."
        )
    if missed:
        more = f" and {len(missed) - _MOST} more" if len(missed) > _MOST else ""
        warnings.warn(
            f"{type(policy).__name__}: no gradient of its loss reaches {', '.join(missed[:_MOST])}{more} of "
            f"{len(learning)} weights: they stay as they are. Let the loss use them, or do without them.",
            stacklevel=2,
        )


def check_moved(policy: Policy, steps: Steps, dimensions: Dimensions, set_to: Callable[[int], None]) -> None:
    """Raises UserCodeError if the gradient of its loss is zero in every entry, whatever the rows and the weights.

    A policy that saturates at made-up rows has no gradient there and may well have one elsewhere: it is asked for small
    numbers too, and with its initial weights.

    Args:
        policy: in training mode; its buffers may change.
        steps: [N], with actions.
        dimensions: that it was made for.
        set_to: sets the global generators.
    """

    tried = policy
    for weights in ("present", "initial"):
        set_to(1)
        if weights == "initial":
            tried = type(policy)(dimensions.observation, dimensions.context, dimensions.action, **policy.options)
        if any(_has_gradient(tried, rows) for rows in (steps, _scaled(steps, 1e-3), _scaled(steps, 0))):
            return
    raise UserCodeError(
        f"{_named(policy)}: the gradient of its loss is zero in every entry of every weight, so nothing would be "
        "trained. Let the loss depend on the weights: look for a factor of zero, rounding, sign() or argmax() between "
        "them and the loss."
    )


def _has_gradient(policy: Policy, steps: Steps) -> bool:
    weights = [weight for weight in policy.parameters() if weight.requires_grad]
    gradients: Sequence[Tensor | None] = torch.autograd.grad(policy.loss(steps).mean(), weights, allow_unused=True)
    return any(bool(gradient.count_nonzero()) for gradient in gradients if gradient is not None)


def unreached_weights(policy: Policy, suite: TaskSuite) -> list[str]:
    """Names of the weights that are to be trained and that no gradient of the loss reaches."""
    copy = deepcopy(policy).cpu().train()
    with lent_global_generators() as set_to, torch.enable_grad():
        set_to(1)
        steps, _ = bearable_steps(copy, suite)
        return _unreached(copy.loss(steps), {n: p for n, p in copy.named_parameters() if p.requires_grad})


def _unreached(loss: Tensor, weights: Mapping[str, Tensor]) -> list[str]:
    gradients: Sequence[Tensor | None] = [None] * len(weights)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss.mean(), list(weights.values()), allow_unused=True)
    return [name for name, gradient in zip(weights, gradients, strict=True) if gradient is None]


def bearable_steps(policy: Policy, suite: TaskSuite) -> tuple[Steps, Steps]:
    """Made-up rows and other ones; of zeros, which rollouts pad with, for a policy that takes not all numbers."""
    steps, others = (made_up_steps(policy, suite, draw) for draw in range(2))
    try:
        with torch.no_grad():
            policy.predict(steps)
            policy.predict(others)
    except Exception:
        return _scaled(steps, 0), _scaled(others, 0)
    return steps, others


def _scaled(steps: Steps, factor: float) -> Steps:
    """The rows with entries of the observation times a factor, each of its own type."""
    entries = {name: (entry * factor).to(entry.dtype) for name, entry in steps.observations.items()}
    return replace(steps, observations=entries)


def _near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _named(policy: Policy) -> str:
    """The class and the file that it is in."""
    try:
        return f"{type(policy).__name__} ({inspect.getsourcefile(type(policy))})"
    except (TypeError, OSError):
        return type(policy).__name__
