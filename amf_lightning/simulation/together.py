"""A simulation that steps all its episodes at once does not learn that one of them broke off."""

import numpy as np
from numpy.typing import NDArray

from amf_lightning.simulation.simulation import Observations, Simulation


class Together:
    """Steps episodes that broke off on, by actions of zero, as long as others run: many simulators know all or none.

    Args:
        simulation: of the episodes.
        count: n, of them.
    """

    def __init__(self, simulation: Simulation, count: int) -> None:
        self._simulation = simulation
        self._inside = np.arange(count)
        """Episodes that have not ended in the simulation."""

    def step(self, running: NDArray[np.intp], actions: NDArray[np.float32]) -> tuple[Observations, NDArray[np.bool_]]:
        """See `Simulation.step`; `running` may lack episodes that the simulation has not ended."""
        inside = self._inside
        if whole := len(running) == len(inside):
            observations, ended = self._simulation.step(running, actions)
        else:
            rows = np.searchsorted(inside, running)
            everything = np.zeros((len(inside), actions.shape[1]), actions.dtype)
            everything[rows] = actions
            observations, ended = self._simulation.step(inside, everything)
        if ended.any():
            self._inside = inside[~ended]
        if whole:
            return observations, ended
        return {name: entry[rows] for name, entry in observations.items()}, ended[rows]
