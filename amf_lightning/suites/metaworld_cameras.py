"""What cameras see of Metaworld's tasks, drawn by MuJoCo without a screen."""

import atexit
import os
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.simulation.render import choose_backend
from amf_lightning.tasks.spec import STATE

CAMERAS = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")
"""Of Metaworld's scenes."""
ROBOT, GOAL = 4, 3
"""The first numbers of Metaworld's 39, hand and gripper, and the last, the goal."""
_PIXELS = 8, 1024

# Preparing a scene for drawing is slow, so the environments of a task share what was prepared.
_VIEWERS: dict[tuple[int, str, int], Any] = {}


def checked_cameras(cameras: Sequence[str], pixels: int) -> tuple[str, ...]:
    """The names of the cameras.

    Raises:
        InputError: there is none, an unknown one or one twice, or the pictures are too small or too large.
    """
    if unknown := [name for name in cameras if name not in CAMERAS]:
        raise InputError(f"Metaworld: there is no camera '{unknown[0]}'; the cameras are {', '.join(CAMERAS)}.")
    if not cameras or len(set(cameras)) < len(cameras):
        raise InputError(f"Metaworld: cameras is {list(cameras)}; name at least one, each once, or leave it out.")
    if not _PIXELS[0] <= pixels <= _PIXELS[1]:
        raise InputError(f"Metaworld: pixels is {pixels}; it must be between {_PIXELS[0]} and {_PIXELS[1]}.")
    return tuple(cameras)


def without_objects(vector: NDArray[Any]) -> NDArray[Any]:
    """Goal and robot of Metaworld's 39 numbers, [7]: what a policy with cameras is told in numbers.

    In some tasks the goal lies at a fixed distance from an object, whose place it so tells: both of the faucet and
    coffee-push among `four`.
    """
    return np.concatenate([vector[-GOAL:], vector[:ROBOT]])


class Pictured(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows pictures instead of where the objects are.

    Args:
        env: of Metaworld, observed as 39 numbers.
        cameras: their names.
        pixels: height and width of the pictures.
    """

    def __init__(self, env: Any, cameras: Sequence[str], pixels: int) -> None:
        super().__init__(env)
        self._scene = env.unwrapped
        self._cameras, self._pixels = cameras, pixels
        # Without a GPU shadows and smoothed edges would take most of the time.
        visual = self._scene.model.vis
        visual.quality.shadowsize = visual.quality.offsamples = 0
        visual.global_.offwidth = visual.global_.offheight = pixels
        told = ROBOT + GOAL
        self.observation_space = Dict(
            {STATE: Box(-np.inf, np.inf, (told,), np.float64)}
            | {name: Box(0, 255, (pixels, pixels, 3), np.uint8) for name in cameras}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Starts an episode."""
        vector, info = self.env.reset(seed=seed)
        place_bodies(self._scene)
        return self._seen(vector), info

    def step(self, action: NDArray[Any]) -> tuple[dict[str, NDArray[Any]], SupportsFloat, bool, bool, dict[str, Any]]:
        """A step of the environment."""
        vector, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(vector), reward, terminated, truncated, info

    def _seen(self, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
        pictures = _pictures(self._scene, self._cameras, self._pixels)
        return {STATE: without_objects(vector), **pictures}


def place_bodies(scene: Any) -> None:
    """Puts what is drawn where the model says: a reset moves bodies of the model last, and pictures would show those of
    the initial state that Metaworld draws before, and throws away. No number of the episode depends on it."""
    from mujoco import mj_camlight, mj_kinematics

    mj_kinematics(scene.model, scene.data)
    mj_camlight(scene.model, scene.data)


def _pictures(scene: Any, cameras: Sequence[str], pixels: int) -> Mapping[str, NDArray[np.uint8]]:
    """[pixels, pixels, 3] each.

    Raises:
        InputError: nothing on this machine can draw.
    """
    try:
        viewer = _viewer(scene, pixels)
        viewer.make_context_current()
        # Those of this environment, as tasks move bodies of the model; what was prepared is the same for all.
        viewer.model, viewer.data = scene.model, scene.data
        return {name: np.ascontiguousarray(viewer.render("rgb_array", scene.model.camera(name).id)) for name in cameras}
    except MemoryError:
        raise
    except Exception as error:  # every graphics library fails in its own way
        raise InputError(
            f"Metaworld cannot draw pictures on this machine ({type(error).__name__}: {error}). MuJoCo needs EGL "
            "(Debian: apt install libegl1 libgl1-mesa-dri), or set MUJOCO_GL=osmesa; or leave out the suite's cameras."
        ) from error


def _viewer(scene: Any, pixels: int) -> Any:
    """One of this process that draws scenes like this one."""
    # Both are slow to import, and who sees numbers draws nothing.
    from gymnasium.envs.mujoco.mujoco_rendering import OffScreenViewer
    from mujoco import mjtRndFlag

    key = os.getpid(), scene.model_name, pixels
    if key not in _VIEWERS:
        choose_backend()
        viewer = _VIEWERS[key] = OffScreenViewer(scene.model, scene.data, pixels, pixels)
        # Else it is freed with the modules, when EGL is gone; MuJoCo, which has just begun EGL, ends it after this.
        atexit.register(viewer.free)
        for costly in (mjtRndFlag.mjRND_SHADOW, mjtRndFlag.mjRND_REFLECTION, mjtRndFlag.mjRND_SKYBOX):
            viewer.scn.flags[costly] = 0
    return _VIEWERS[key]
