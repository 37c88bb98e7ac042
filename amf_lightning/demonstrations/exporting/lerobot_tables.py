"""Frames as tables of arrow in the types that LeRobot expects, with the notes that its libraries look for."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.demonstrations.importing.encoded_pictures import encode
from amf_lightning.demonstrations.importing.lerobot import ACTION, REWARD, SUCCESS
from amf_lightning.demonstrations.importing.lerobot_meta import LIBRARY
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.trajectory import Trajectory

IMAGE = "image"
_MOST_AXES = 5


def columns_of(episode: Trajectory) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays of T rows by LeRobot's names, and our name of each entry of the observation by LeRobot's.

    Raises:
        InputError: two entries would have one name, or one has more axes than LeRobot has.
    """
    names = {_feature_name(name, spec): name for name, spec in episode.specs.items()}
    if len(names) < len(episode.observations):
        raise InputError(
            f"Entries {', '.join(episode.observations)} would have one name in LeRobot's format, which has dots "
            f"where we "
            "have slashes. Export to another format."
        )
    columns: dict[str, NDArray[Any]] = {}
    for theirs, ours in names.items():
        entry = episode.observations[ours][: episode.length]
        if entry.ndim - 1 > _MOST_AXES:
            raise InputError(f"Entry '{ours}' has {entry.ndim - 1} axes; LeRobot has {_MOST_AXES} at most.")
        columns[theirs] = entry
    columns[ACTION] = episode.actions
    if episode.rewards is not None:
        columns[REWARD] = episode.rewards
    if episode.success is not None:
        columns[SUCCESS] = (np.arange(1, episode.length + 1) == episode.length) & episode.success
    return columns, names


def table_of(columns: Mapping[str, NDArray[Any]], features: Mapping[str, Any]) -> Any:
    """A table whose rows are frames; its columns have the types that `datasets` makes of the features.

    Raises:
        InputError: the columns are not those of the features.
    """
    pyarrow = required("pyarrow", LIBRARY)
    if set(columns) != set(features):
        raise InputError(
            f"Episodes have different columns: {', '.join(sorted(set(columns) ^ set(features)))} only in some "
            f"of them. In "
            "a LeRobot dataset all have rewards or none, and all say whether they are a success or none does."
        )
    arrays = [_array(pyarrow, columns[name], features[name]) for name in features]
    notes = {"info": {"features": {name: _note(feature) for name, feature in features.items()}}}
    schema = pyarrow.schema(
        [pyarrow.field(name, array.type) for name, array in zip(features, arrays, strict=True)],
        metadata={"huggingface": json.dumps(notes)},
    )
    return pyarrow.Table.from_arrays(arrays, schema=schema)


def tasks_table(tasks: Sequence[str]) -> Any:
    """`meta/tasks.parquet`: the names are what pandas calls the index, which its own note says."""
    pyarrow = required("pyarrow", LIBRARY)
    column = {"field_name": "task_index", "name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    index = {"field_name": "task", "name": "task", "pandas_type": "unicode", "numpy_type": "object"}
    notes = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [{**column, "metadata": None}, {**index, "metadata": None}],
        "creator": {"library": "pyarrow", "version": pyarrow.__version__},
        "pandas_version": "2.3.3",
    }
    table = pyarrow.table({"task_index": pyarrow.array(range(len(tasks)), pyarrow.int64()), "task": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(notes)})


def _feature_name(name: str, spec: Spec) -> str:
    """LeRobot's name of an entry: `observation.images.front` for `image/front`."""
    group, _, rest = name.partition("/")
    if spec.is_image and group in ("image", "images") and rest:
        return "observation.images." + rest.replace("/", ".")
    return "observation." + name.replace("/", ".")


def _array(pyarrow: Any, values: NDArray[Any], feature: Mapping[str, Any]) -> Any:
    if feature["dtype"] == IMAGE:
        pictures = [encode(picture) for picture in values]
        paths = [f"frame-{number:06d}.png" for number in range(len(pictures))]
        return pyarrow.StructArray.from_arrays(
            [pyarrow.array(pictures, pyarrow.binary()), pyarrow.array(paths, pyarrow.string())], ["bytes", "path"]
        )
    shape = tuple(feature["shape"])
    array = pyarrow.array(np.ascontiguousarray(values).reshape(-1), pyarrow.from_numpy_dtype(values.dtype))
    if shape == (1,):
        return array
    if len(shape) == 1:
        return pyarrow.FixedSizeListArray.from_arrays(array, shape[0])
    for length in reversed(shape):
        offsets = np.arange(0, len(array) + 1, length, dtype=np.int32)
        array = pyarrow.ListArray.from_arrays(pyarrow.array(offsets), array)
    return array


def _note(feature: Mapping[str, Any]) -> dict[str, Any]:
    """What `datasets` notes of a column."""
    if feature["dtype"] == IMAGE:
        return {"_type": "Image"}
    value = {"dtype": feature["dtype"], "_type": "Value"}
    shape = feature["shape"]
    if shape == [1]:
        return value
    if len(shape) == 1:
        return {"feature": value, "length": shape[0], "_type": "List"}
    return {"shape": shape, "dtype": feature["dtype"], "_type": f"Array{len(shape)}D"}
