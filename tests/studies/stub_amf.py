"""Stands in for `python -m amf_lightning` where processes are what is tested. Imports nothing of ours: starts at once.

A strategy decides by the setting `selector`: `Fails` exits with 3, `Stops` exits with 0 before it is finished; of any
other, the run that lies ready in $STUB_RUNS/<selector>/<seed> is copied.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    command, *options = arguments
    assert command == "fit"
    given = dict(option.removeprefix("--").split("=", 1) for option in options)
    folder, selector = Path(given["trainer.default_root_dir"]), given.get("selector", "FromBase")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.calls").open("a") as calls:
        record = {"options": given, "threads": os.environ.get("OMP_NUM_THREADS"), "pid": os.getpid()}
        calls.write(json.dumps(record) + "\n")
    time.sleep(float(given.get("model.delay", 0.0)))
    if selector == "Fails":
        print("the first line of a long story")
        print("no expert anywhere", file=sys.stderr)
        return 3
    if selector == "Stops":
        return 0
    if (pretrained := given.get("model.pretrained")) is not None and not Path(pretrained).is_file():
        print(f"there is no {pretrained}")
        return 4
    shutil.copytree(
        Path(os.environ["STUB_RUNS"]) / selector / given["seed_everything"], folder, copy_function=shutil.copyfile
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
