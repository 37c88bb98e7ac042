"""`amf advise --features DIR`: which task to demonstrate next, from features of any policy; no run, no simulator.

DIR holds candidates/TASK/*.npy (what a task may look like) and demonstrated/TASK/*.npy (what was demonstrated), arrays
[steps, features], one an episode; or features.npz with entries of the same names. docs/advisor.md has the rest.
"""

import json
from pathlib import Path

from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.configuration import plain, user_path


def main(arguments: list[str]) -> None:
    """Parses the command line and prints the advice, as a table or as JSON."""
    parser = PlainParser(prog="amf advise", description=__doc__, allow_abbrev=False)
    parser.add_argument("--features", required=True, help="folder of features, or an .npz file")
    parser.add_argument("-n", "--count", type=int, default=1, help="demonstrations to ask for (default: 1)")
    parser.add_argument("--pending", nargs="+", default=[], metavar="TASK", help="asked for already, not come yet")
    parser.add_argument("--rho", type=float, default=0.1, help="ridge of the belief (default: 0.1)")
    parser.add_argument("--kappa", type=float, default=0.1, help="kappa of the criterion (default: 0.1)")
    parser.add_argument("--episodes", type=int, default=2, help="latest episodes of a task looked at (default: 2)")
    parser.add_argument("--states", type=int, default=None, help="steps of each looked at (default: 16 to 4)")
    parser.add_argument("--seed", type=int, default=0, help="of draws between equal scores (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    values = parser.parse_args(arguments)
    from amf_lightning.selection.advice import advise  # torch, which `--help` does without
    from amf_lightning.selection.feature_files import read_features

    files = read_features(Path(user_path(values.features, "--features")))
    settings = {
        name: getattr(values, name) for name in ("count", "pending", "rho", "kappa", "episodes", "states", "seed")
    }
    advice = advise(**files.arguments(), **settings)
    print(json.dumps(plain(advice.to_json(), strict=True), indent=2, allow_nan=False) if values.json else advice)
