"""Which tests are fast: those that start no process and make no real run."""

import pytest

_STARTERS = {
    "torch.distributed",
    "sharded",
    "amf_process",
    "tiny_runs",
    "ready_runs",
    "stub_amf",
    "subprocess",
    "kill_points",
}
"""Modules of whoever starts processes; importing one makes a test module part of the slow majority."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `fast` what `make test-fast` runs."""
    for item in items:
        names = vars(getattr(item, "module", None) or object).values()
        origins = {getattr(value, "__module__", None) or getattr(value, "__name__", None) for value in list(names)}
        if not _STARTERS & origins and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.fast)
