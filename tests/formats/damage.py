"""Ways in which somebody's files are damaged or foreign: each makes one out of a sound export or sample."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from recordings import SAMPLES

Damage = Callable[[Path], Path]
"""Given an empty folder, makes the damaged source there and returns what is to be imported."""

FRAMES, META = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
DAMAGED: dict[str, tuple[Damage, str]] = {}
"""The way, and a phrase of the refusal."""


class Bomb:
    """What a pickle can do: it leaves a file where it was read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("code-was-run", "w"))


def damage(name: str, phrase: str) -> Callable[[Damage], Damage]:
    def enter(make: Damage) -> Damage:
        DAMAGED[name] = make, phrase
        return make

    return enter


def sample(place: str) -> Callable[[Path], Path]:
    def copy(folder: Path) -> Path:
        source = SAMPLES / place
        target = folder / source.name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
        return target

    return copy


LEROBOT, MINARI, PARQUET = sample("lerobot-image"), sample("minari/pictures-v0"), sample("minari/state-parquet-v0")
ROBOMIMIC = sample("robomimic.hdf5")


def enter(name: str, phrase: str, make: Callable[[Path], Path], change: Callable[[Path], object]) -> None:
    """A copy of a sample with a change."""

    def changed(folder: Path) -> Path:
        source = make(folder)
        change(source)
        return source

    DAMAGED[name] = changed, phrase


def cut(path: Path, share: float = 0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def folder_with_a_damaged_file(folder: Path) -> Path:
    """A file that can be read beside one, later by name, that was cut off."""
    whole = ROBOMIMIC(folder)
    shutil.copy(whole, whole.with_name("zzz.hdf5"))
    cut(whole.with_name("zzz.hdf5"))
    return whole.parent


def bare(path: Path, is_folder: bool) -> Path:
    """A file or folder with nothing in it."""
    if is_folder:
        path.mkdir()
    else:
        path.touch()
    return path


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_table(path: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    table = pq.read_table(path)
    place = table.column_names.index(column)
    values = pa.array(change(table.column(column).to_pylist()), table.schema.field(column).type)
    pq.write_table(table.set_column(place, table.schema.field(column), values), path)


def replaced(number: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value if place == number else each for place, each in enumerate(values)]


def edit_hdf5(path: Path, change: Callable[[Any], object]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def overwrite(file: Any, name: str, **options: Any) -> object:
    if name in file:
        del file[name]
    return file.create_dataset(name, **options)


def archive(folder: Path, **arrays: Any) -> Path:
    path = folder / "episode.npz"
    sound = {"state": np.zeros((3, 3), np.float32), "action": np.zeros((3, 2), np.float32), "task": np.array("reach")}
    kept = {name: array for name, array in {**sound, **arrays}.items() if array is not None}
    np.savez(path, allow_pickle=True, **kept)
    return path


def archive_of(folder: Path, name: str, content: bytes) -> Path:
    path = archive(folder)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return path


def header(descr: str, shape: str) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def png(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def table(folder: Path, text: str = "state/0,action/0\n1,0.5\n2,0.5\n", about: Any = None) -> Path:
    """A folder of one episode."""
    episode = folder / "recordings" / "one"
    episode.mkdir(parents=True)
    (episode / "steps.csv").write_text(text)
    (episode / "episode.json").write_text(json.dumps({"task": "reach"} if about is None else about))
    return episode.parent


def pictures(folder: Path, *sizes: tuple[int, int]) -> Path:
    source = table(folder)
    (source / "one" / "front").mkdir()
    for number, size in enumerate(sizes):
        (source / "one" / "front" / f"{number}.png").write_bytes(png(*size))
    return source


def edit_feature(path: Path, name: str, **changes: Any) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    info["features"][name] |= changes
    (path / "meta/info.json").write_text(json.dumps(info))


def info(**changes: Any) -> Callable[[Path], None]:
    return lambda path: edit_json(path / "meta/info.json", **changes)


# -- LeRobot -----------------------------------------------------------------------------------------------------------

enter("lerobot: truncated frames", "file-000.parquet", LEROBOT, lambda path: cut(path / FRAMES))
enter("lerobot: frames of no bytes", "file-000.parquet", LEROBOT, lambda path: (path / FRAMES).write_bytes(b""))
enter("lerobot: frames without a footer, as a crash leaves them", "damaged", LEROBOT, lambda p: cut(p / FRAMES, 0.9))
enter("lerobot: frames missing", "is missing", LEROBOT, lambda path: (path / FRAMES).unlink())
enter("lerobot: descriptions truncated", "truncated or damaged", LEROBOT, lambda path: cut(path / META))
enter("lerobot: descriptions missing", "describes 0 episodes", LEROBOT, lambda path: (path / META).unlink())
enter(
    "lerobot: tasks missing", "tasks.parquet is missing", LEROBOT, lambda path: (path / "meta/tasks.parquet").unlink()
)
enter("lerobot: version 2.1", "Convert it first", LEROBOT, info(codebase_version="v2.1"))
enter("lerobot: version 4", "v3.0 is read", LEROBOT, info(codebase_version="v4.0"))
enter("lerobot: info is no JSON", "not valid JSON", LEROBOT, lambda path: (path / "meta/info.json").write_text("{"))
enter("lerobot: info is a list", "holds a list", LEROBOT, lambda path: (path / "meta/info.json").write_text("[]"))
enter(
    "lerobot: info nested deeply",
    "not valid JSON",
    LEROBOT,
    lambda path: (path / "meta/info.json").write_text('{"a":' + "[" * 200_000 + "]" * 200_000 + "}"),
)
enter("lerobot: fps of zero", "'fps' is 0", LEROBOT, info(fps=0))
enter("lerobot: fps that is no number", "'fps' is 'fast'", LEROBOT, info(fps="fast"))
enter("lerobot: another fps than the frames", "frames a second put it", LEROBOT, info(fps=30))
enter("lerobot: more episodes than there are", "describes 3 episodes", LEROBOT, info(total_episodes=4))
enter("lerobot: no episodes", "nothing to read", LEROBOT, info(total_episodes=0))
enter("lerobot: a path that climbs", "leads out", LEROBOT, info(data_path="../../{chunk_index}/{file_index}.parquet"))
enter("lerobot: an absolute path", "leads out of the dataset", LEROBOT, info(data_path="/etc/passwd"))
enter("lerobot: a path that looks into objects", "leads out", LEROBOT, info(data_path="{chunk_index.__class__}"))
enter("lerobot: features missing", "describes no features", LEROBOT, info(features={}))
enter(
    "lerobot: a feature of an unknown type",
    "not known here",
    LEROBOT,
    lambda path: edit_feature(path, "observation.state", dtype="object"),
)
enter(
    "lerobot: a shape that is not that of the numbers",
    "numbers a row",
    LEROBOT,
    lambda path: edit_feature(path, "observation.state", shape=[4]),
)
enter(
    "lerobot: a shape that is too large",
    "an episode may have",
    LEROBOT,
    lambda path: edit_feature(path, "observation.state", shape=[2**30, 64]),
)
enter(
    "lerobot: a negative shape",
    "which is none",
    LEROBOT,
    lambda path: edit_feature(path, "observation.state", shape=[-3]),
)
enter(
    "lerobot: a camera of another size",
    "is a picture of 32×32",
    LEROBOT,
    lambda path: edit_feature(path, "observation.images.front", shape=[480, 640, 3]),
)
enter(
    "lerobot: another type than is described",
    "holds float32, but info.json says float64",
    LEROBOT,
    lambda path: edit_feature(path, "action", dtype="float64"),
)
enter(
    "lerobot: NaN in a state",
    "not finite",
    LEROBOT,
    lambda path: edit_table(path / FRAMES, "observation.state", replaced(2, [1.0, float("nan"), 0.0])),
)
enter(
    "lerobot: an infinite action",
    "must lie in [-1, 1]",
    LEROBOT,
    lambda path: edit_table(path / FRAMES, "action", replaced(2, [float("inf"), 0.0])),
)
enter(
    "lerobot: actions in degrees",
    "action_low",
    LEROBOT,
    lambda path: edit_table(path / FRAMES, "action", replaced(1, [90.0, 0.0])),
)
enter(
    "lerobot: a frame without a state",
    "without a value",
    LEROBOT,
    lambda path: edit_table(path / FRAMES, "observation.state", replaced(2, None)),
)
enter(
    "lerobot: frames out of order",
    "does not count",
    LEROBOT,
    lambda path: edit_table(path / FRAMES, "frame_index", lambda values: values[::-1]),
)
enter(
    "lerobot: an episode that shows two tasks",
    "shows 2 tasks",
    LEROBOT,
    lambda path: edit_table(path / FRAMES, "task_index", replaced(1, 1)),
)
enter(
    "lerobot: a task without a name",
    "does not name",
    LEROBOT,
    lambda path: edit_table(path / FRAMES, "task_index", lambda values: [7] * len(values)),
)
enter(
    "lerobot: a picture that is text",
    "no picture",
    LEROBOT,
    lambda path: edit_table(
        path / FRAMES, "observation.images.front", replaced(0, {"bytes": b"hello", "path": "x.png"})
    ),
)
enter(
    "lerobot: a picture of too many pixels",
    "is a picture of 6000×6000",
    LEROBOT,
    lambda path: edit_table(
        path / FRAMES, "observation.images.front", replaced(0, {"bytes": png(6000, 6000), "path": "x.png"})
    ),
)
enter(
    "lerobot: a picture that was not embedded",
    "without a picture",
    LEROBOT,
    lambda path: edit_table(
        path / FRAMES, "observation.images.front", replaced(0, {"bytes": None, "path": "/etc/passwd"})
    ),
)
enter(
    "lerobot: an episode longer than its frames",
    "does not count",
    LEROBOT,
    lambda path: edit_table(path / META, "length", replaced(0, 5)),
)
enter(
    "lerobot: an episode of no length",
    "has the length 0",
    LEROBOT,
    lambda path: edit_table(path / META, "length", replaced(0, 0)),
)
enter(
    "lerobot: an episode described twice",
    "stands where episode 1 belongs",
    LEROBOT,
    lambda path: edit_table(path / META, "episode_index", replaced(1, 0)),
)
enter(
    "lerobot: a negative number of a file",
    "no number",
    LEROBOT,
    lambda path: edit_table(path / META, "data/file_index", replaced(0, -1)),
)

# -- Minari ------------------------------------------------------------------------------------------------------------

MAIN, ABOUT = "data/main_data.hdf5", "data/metadata.json"
enter("minari: truncated", "truncated or damaged", MINARI, lambda path: cut(path / MAIN))
enter("minari: data missing", "does not exist", MINARI, lambda path: (path / MAIN).unlink())
enter(
    "minari: no description of the observations",
    "is not said",
    MINARI,
    lambda p: edit_json(p / ABOUT, observation_space=None),
)
enter(
    "minari: another number of episodes",
    "holds 3 episodes",
    MINARI,
    lambda path: edit_json(path / ABOUT, total_episodes=2),
)
enter(
    "minari: no episodes", "not a number of episodes", MINARI, lambda path: edit_json(path / ABOUT, total_episodes=-1)
)
enter("minari: an unknown format", "is not read", MINARI, lambda path: edit_json(path / ABOUT, data_format="pickle"))
enter(
    "minari: words for observations",
    "is a space 'Text'",
    MINARI,
    lambda path: edit_json(path / ABOUT, observation_space='{"type": "Text"}'),
)
enter(
    "minari: an entry that is missing",
    "'state' is missing",
    MINARI,
    lambda path: edit_hdf5(path / MAIN, lambda file: file.pop("episode_1/observations/state")),
)
enter(
    "minari: an observation of another shape",
    "observation space says [3]",
    MINARI,
    lambda path: edit_hdf5(
        path / MAIN, lambda file: overwrite(file, "episode_1/observations/state", data=np.zeros((7, 4), np.float32))
    ),
)
enter(
    "minari: observations for other actions",
    "different numbers of observations",
    MINARI,
    lambda path: edit_hdf5(
        path / MAIN, lambda file: overwrite(file, "episode_1/observations/state", data=np.zeros((3, 3), np.float32))
    ),
)
enter(
    "minari: too few rewards",
    "rewards for 6 actions",
    MINARI,
    lambda path: edit_hdf5(path / MAIN, lambda file: overwrite(file, "episode_1/rewards", data=np.zeros(2))),
)
enter("minari: parquet truncated", "truncated or damaged", PARQUET, lambda path: cut(path / "data/1/part-0.parquet"))
enter("minari: parquet missing", "has 0 files", PARQUET, lambda path: (path / "data/1/part-0.parquet").unlink())

# -- robomimic ---------------------------------------------------------------------------------------------------------


def robomimic(name: str, phrase: str, change: Callable[[Any], object]) -> None:
    enter(f"robomimic: {name}", phrase, ROBOMIMIC, lambda path: edit_hdf5(path, change))


enter("robomimic: truncated", "truncated or damaged", ROBOMIMIC, cut)
enter("robomimic: only the signature", "truncated or damaged", ROBOMIMIC, lambda path: cut(path, 0.0002))
robomimic("no data", "not data/demo_0", lambda file: file.pop("data"))
robomimic("no demonstrations", "holds no demonstration", lambda file: [file["data"].pop(f"demo_{n}") for n in range(3)])
robomimic("no actions", "'actions' is missing", lambda file: file.pop("data/demo_1/actions"))
robomimic("no observations", "'obs' is missing", lambda file: file.pop("data/demo_1/obs"))
robomimic(
    "actions of words",
    "no numbers",
    lambda file: overwrite(file, "data/demo_1/actions", data=np.array([b"left"] * 6)),
)
robomimic("one action for all steps", "one number", lambda f: overwrite(f, "data/demo_1/actions", data=np.float32(0.0)))
robomimic(
    "pictures for other actions",
    "next_obs",
    lambda file: overwrite(file, "data/demo_1/obs/state", data=np.zeros((2, 3), np.float32)),
)
robomimic(
    "another shape after a step",
    "another shape in next_obs",
    lambda file: overwrite(file, "data/demo_1/next_obs/state", data=np.zeros((6, 4), np.float32)),
)
robomimic(
    "NaN in an action",
    "not finite",
    lambda file: overwrite(file, "data/demo_1/actions", data=np.full((6, 2), np.nan, np.float32)),
)
robomimic(
    "an array of terabytes",
    "an episode may have",
    lambda file: overwrite(file, "data/demo_1/actions", shape=(2**34, 2**8), dtype="f4", chunks=(1024, 16)),
)
robomimic(
    "another camera in one episode",
    "episode 1 has",
    lambda file: (
        file["data/demo_1"].move("obs/front_image", "obs/side_image")
        or file["data/demo_1"].move("next_obs/front_image", "next_obs/side_image")
    ),
)
robomimic(
    "another picture in one episode",
    "episode 1 has",
    lambda file: [
        overwrite(file, f"data/demo_1/{kind}/front_image", data=np.zeros((6, 16, 16, 3), np.uint8))
        for kind in ("obs", "next_obs")
    ],
)


@damage("robomimic: a link to another file", "a link")
def _(folder: Path) -> Path:
    source = ROBOMIMIC(folder)
    other = folder / "other.hdf5"
    shutil.copy(source, other)

    def link(file: Any) -> None:
        del file["data/demo_1/actions"]
        file["data/demo_1/actions"] = h5py.ExternalLink(str(other), "data/demo_1/actions")

    edit_hdf5(source, link)
    return source


@damage("robomimic: an array in another file", "lies in other files")
def _(folder: Path) -> Path:
    source = ROBOMIMIC(folder)
    (folder / "secret").write_bytes(bytes(48))

    def outside(file: Any) -> None:
        del file["data/demo_1/actions"]
        file.create_dataset("data/demo_1/actions", (6, 2), "f4", external=[(str(folder / "secret"), 0, 48)])

    edit_hdf5(source, outside)
    return source


# -- npz ---------------------------------------------------------------------------------------------------------------

DAMAGED |= {
    "npz: truncated": (lambda folder: cut(archive(folder)), "truncated"),
    "npz: a pickle": (lambda folder: archive(folder, state=np.array([Bomb()] * 3, object)), "is a Python pickle"),
    "npz: a pickle nobody asked for": (
        lambda folder: archive(folder, more=np.array([Bomb()], object)),
        "a Python pickle",
    ),
    "npz: no actions": (lambda folder: archive(folder, action=None), "has no actions"),
    "npz: no observations": (lambda folder: archive(folder, state=None), "has no observations"),
    "npz: no task": (lambda folder: archive(folder, task=None), "--tasks"),
    "npz: a task that is a number": (lambda folder: archive(folder, task=np.array(3)), "not one text"),
    "npz: NaN": (lambda folder: archive(folder, state=np.full((3, 3), np.nan, np.float32)), "not finite"),
    "npz: other lengths": (lambda folder: archive(folder, state=np.zeros((9, 3), np.float32)), "9 observations for 3"),
    "npz: no steps": (
        lambda folder: archive(folder, state=np.zeros((0, 3), np.float32), action=np.zeros((0, 2), np.float32)),
        "no step was taken",
    ),
    "npz: complex numbers": (lambda folder: archive(folder, state=np.zeros((3, 3), np.complex64)), "no numbers"),
    "npz: words": (lambda folder: archive(folder, state=np.array(["a", "b", "c"])), "no numbers"),
    "npz: success of two": (lambda folder: archive(folder, success=np.array(2)), "no flag"),
    "npz: a seed with a fraction": (lambda folder: archive(folder, seed=np.array(1.5)), "no seed"),
    "npz: a zip bomb": (
        lambda folder: archive_of(folder, "b.npy", header("'|u1'", "(200000000,)") + bytes(10**6)),
        "bytes, but",
    ),
    "npz: an array of terabytes": (
        lambda folder: archive_of(folder, "b.npy", header("'<f8'", f"({2**40},)")),
        "an episode may",
    ),
    "npz: a negative length": (
        lambda folder: archive_of(folder, "b.npy", header("'<f8'", "(-1,)")),
        "impossible shape",
    ),
    "npz: a header that is code": (
        lambda folder: archive_of(folder, "b.npy", header("__import__('os').system('touch code-was-run')", "(1,)")),
        "no array of numpy",
    ),
    "npz: a name that climbs": (
        lambda folder: archive_of(folder, "observation/../../x.npy", header("'<f4'", "(3,)") + bytes(12)),
        "no name for an entry",
    ),
    "npz: a program in the archive": (lambda folder: archive_of(folder, "run.py", b"print()"), "which is no array"),
    "npz: a broken sum of its bytes": (
        lambda folder: (path := archive(folder), path.write_bytes(path.read_bytes().replace(b"NUMPY", b"NUMPX", 1)))[0],
        "truncated",
    ),
    "npz: one of two is another kind": (
        lambda folder: (
            archive(folder).rename(folder / "a.npz"),
            archive(folder, action=np.zeros((3, 5), np.float32)),
            folder,
        )[-1],
        "5 numbers an action",
    ),
    # -- folders of pictures -------------------------------------------------------------------------------------------
    "pictures: an empty table": (lambda folder: table(folder, ""), "no table"),
    "pictures: only a header": (lambda folder: table(folder, "state/0,action/0\n"), "no row follows"),
    "pictures: a row too short": (lambda folder: table(folder, "state/0,action/0\n1,0.5\n2\n"), "line 3"),
    "pictures: words for numbers": (lambda folder: table(folder, "state/0,action/0\nup,0.5\n"), "no number"),
    "pictures: NaN": (lambda folder: table(folder, "state/0,action/0\nnan,0.5\n"), "not finite"),
    "pictures: no actions": (lambda folder: table(folder, "state/0,reward\n1,0.5\n"), "no columns 'action/0'"),
    "pictures: a column is missing": (
        lambda folder: table(folder, "state/0,state/2,action/0\n1,1,1\n"),
        "does not count",
    ),
    "pictures: a column twice": (lambda folder: table(folder, "state/0,action/0,action/0\n1,1,1\n"), "stands twice"),
    "pictures: binary": (
        lambda folder: (path := table(folder), (path / "one/steps.csv").write_bytes(b"\xff\xfe\x00\x01"))[0],
        "no table",
    ),
    "pictures: two tables": (
        lambda folder: (path := table(folder), (path / "one/more.csv").write_text("a\n1\n"))[0],
        "has 2 tables",
    ),
    "pictures: no task": (lambda folder: table(folder, about={}), "--tasks"),
    "pictures: a rate of nothing": (lambda folder: table(folder, about={"task": "reach", "fps": -1}), "'fps' is -1"),
    "pictures: another rate than the table": (
        lambda folder: table(folder, "timestamp,state/0,action/0\n0,1,1\n1,1,1\n", {"task": "reach", "fps": 10}),
        "steps a second put it",
    ),
    "pictures: facts that are damaged": (lambda folder: table(folder, about={"amf_facts": "{}"}), "are damaged"),
    "pictures: too few pictures": (lambda folder: pictures(folder, (4, 4)), "1 pictures for 2 rows"),
    "pictures: pictures of two sizes": (lambda folder: pictures(folder, (4, 4), (4, 5)), "is a picture of 4×5"),
    "pictures: a picture that is none": (
        lambda folder: (path := pictures(folder, (4, 4), (4, 4)), (path / "one/front/1.png").write_bytes(b"P6 1 1"))[0],
        "no picture",
    ),
    "pictures: a picture cut off": (
        lambda folder: (path := pictures(folder, (40, 40), (40, 40)), cut(path / "one/front/1.png"))[0],
        "no picture",
    ),
    # -- nothing of these ----------------------------------------------------------------------------------------------
    "a pickle": (lambda folder: (p := folder / "d.pkl", p.write_bytes(pickle.dumps(Bomb())))[0], "is a Python pickle"),
    "a text": (lambda folder: (p := folder / "d.txt", p.write_text("hello"))[0], "holds no demonstrations"),
    "a file of no bytes": (lambda folder: bare(folder / "d", False), "holds no demonstrations"),
    "an empty folder": (lambda folder: bare(folder / "d", True), "holds no demonstrations"),
    "nothing": (lambda folder: folder / "nowhere", "does not exist"),
    "a table of a dataset": (lambda folder: LEROBOT(folder) / FRAMES, "Give the folder of the dataset"),
    "a part of a dataset": (lambda folder: MINARI(folder) / MAIN, "Give its folder"),
    "a folder of HDF5 files, one of them damaged": (folder_with_a_damaged_file, "is truncated or damaged"),
}
