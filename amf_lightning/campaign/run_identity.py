"""Whether the run in a folder is that of a configuration, so that going on there is going on with it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.configuration import differences, identity
from amf_lightning.errors import InputError

if TYPE_CHECKING:
    from amf_lightning.campaign.run_folder import RunFolder

_ANSWERERS = "expert"
"""Key of a configuration that may change as long as nothing is answered: what was asked may be answered by another."""


def check_identity(folder: "RunFolder", config: Mapping[str, Any]) -> None:
    """See `RunFolder.check_identity`."""
    if not folder.config.exists():
        if foreign := folder.taken():
            raise InputError(
                f"{folder.path} has no config.yaml but {', '.join(path.name for path in foreign)}, which a run would "
                "overwrite. Choose another folder with --trainer.default_root_dir, or move these files away."
            )
        return
    there, here = identity(folder.read_config()), identity(config)
    keys = [key for key, _, _ in differences(there, here)]
    if not keys or (all(_who_answers(key) for key in keys) and not _answered(folder)):
        return
    values = "; ".join(f"{key} is {_show(there, key)} there and {_show(here, key)} here" for key in keys[:3])
    more = f"; and {len(keys) - 3} more keys differ" if len(keys) > 3 else ""
    raise InputError(
        f"{folder.path} holds a run of another configuration: {values}{more}. "
        "Choose another folder with --trainer.default_root_dir, or give the configuration that began the run."
    )


def _who_answers(key: str) -> bool:
    return key == _ANSWERERS or key.startswith(f"{_ANSWERERS}.")


def _answered(folder: "RunFolder") -> bool:
    """Whether a demonstration of the run is there, or was once."""
    ledger = Ledger(folder.ledger, read_only=True)
    try:
        return bool(ledger.recorded()) or any(folder.demonstrations.glob("*.safetensors"))
    finally:
        ledger.close()


def _show(leaves: Mapping[str, Any], key: str) -> str:
    return repr(leaves[key]) if key in leaves else "not set"
