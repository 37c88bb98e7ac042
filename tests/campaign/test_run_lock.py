"""Two processes cannot write into one run folder."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from amf_lightning.campaign.run_lock import sole_writer
from amf_lightning.errors import InputError

HOLD = """
import sys, time
from pathlib import Path
from amf_lightning.campaign.run_lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_refused_while_another_process_holds_it_and_free_once_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="Another process is writing into"), sole_writer(tmp_path):
            raise AssertionError("both hold it")
        other.send_signal(signal.SIGKILL)
        other.wait()
        with sole_writer(tmp_path):
            assert list(tmp_path.iterdir()) == []


def test_it_is_let_go_at_the_end_of_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_writer(tmp_path):
            pass
