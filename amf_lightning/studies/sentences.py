"""What a summary says in sentences: setbacks, success rates, who may be best, what is noise."""

from amf_lightning.reports.tables import markdown_table, number, plural
from amf_lightning.studies.best import METHOD, BestSet
from amf_lightning.studies.summary import Summary


def told_of_runs(summary: Summary) -> list[str]:
    """The worst setback of each strategy; its success rate at the end where rows say how many episodes they have."""
    has_rates = any(summary.success.values())
    rows = []
    for label, demonstrations in summary.setbacks.items():
        falls = summary.strategies[label]["setback"].per_seed
        worst = max(range(len(falls)), key=falls.__getitem__)
        cells = [label, number(falls[worst], 3), *map(str, (demonstrations[worst] or "–", summary.seeds[label][worst]))]
        if has_rates and (rate := summary.success[label]):
            share = f"{100 * rate.successes / rate.trials:.0f} % [{100 * rate.lo:.0f}, {100 * rate.hi:.0f}]"
            cells += [share, f"{rate.successes} of {rate.trials}"]
        rows.append(cells + ["–"] * (2 * has_rates + 4 - len(cells)))
    header = ["strategy", "worst setback", "at demonstration", "seed"]
    header += ["success at the end", "episodes"] if has_rates else []
    lines = [markdown_table(header, rows)]
    if has_rates:
        lines.append(
            f"Success at the end: of all tasks and seeds together, with the exact {100 * summary.level:.0f} % interval "
            "(Clopper and Pearson, 1934). It is about the policies of these runs: it knows nothing of other seeds."
        )
    return lines


def told_of_best(summary: Summary) -> list[str]:
    """Who cannot be told apart from the best in area under the curve; nothing if there is nobody to compare."""
    if summary.best is None:
        return []
    lines = [_best(summary.best, "")]
    if summary.best_unprivileged is not None:
        lines.append(_best(summary.best_unprivileged, " of those that use nothing privileged"))
    return [
        "## Who may be best",
        *lines,
        f"In area under the curve, at {100 * summary.level:.0f} % ({summary.resamples:,} resamples). {METHOD}",
    ]


def _best(best: BestSet, which: str) -> str:
    others = [label for label in best.with_best if label != best.best]
    seeds = plural(len(best.seeds), "seed")
    if not others:
        rest = [label for label in best.compared if label != best.best]
        named = f"from all {len(rest)} others" if len(rest) > 1 else f"from {rest[0]}"
        return f"**{best.best}** is the best{which}, told apart {named} ({seeds})."
    return (
        f"**{best.best}** has the largest mean{which}; of {plural(len(best.compared) - 1, 'other')} "
        f"**{len(others)} cannot be told apart from it** ({seeds}): {', '.join(others)}."
    )


def told_of_noise(summary: Summary) -> list[str]:
    """The noise floor; nothing if it was not measured."""
    if (noise := summary.noise) is None:
        return []
    names = {"auc": "AUC", "final": "final score", "setback": "setback"}
    rows = [
        [name, number(noise.deviations[metric], 4), f"±{number(noise.differences[metric], 4)}"]
        for metric, name in names.items()
    ]
    return [
        "## Noise floor",
        f"{plural(noise.runs, 'run')} of {noise.strategy} over {plural(len(noise.seeds), 'seed')}: those of one seed "
        "have the same π0, the same episodes of demonstrations and evaluations, and differ in the training seed alone. "
        "The table has the standard deviation between them, and how far from 0 this noise alone takes the mean of a "
        f"difference that is paired over as many seeds, with {100 * summary.level:.0f} % probability.",
        markdown_table(["", "deviation", "difference"], rows),
    ]
