"""Weather: what happens to the workers of an app, and to what lies between them and the cluster."""

from __future__ import annotations

from typing import Final, NamedTuple

from streamproc.testing.simulation import faults
from streamproc.testing.simulation.faults import Faults, Range


class Weather(NamedTuple):
    """What goes wrong, drawn by the seed, during the first `trouble_s` seconds of a run; then it is calm.

    faults       of the network and of the broker, for as long
    every_s      between two events: from, to. An event is a worker that crashes, stands still, comes or goes
    at_a_call    chance that a crash or a pause comes at one of the next calls of the process, not at once
    pause_s      how long a process stands still: from, to; beyond its session, too
    lost_writes  of so many of its last writes, at most, a crash may rob a store
    wiped        chance that a crash takes the disk along
    one_disk     all workers are on one machine, and share its disk
    skew_s       the wall clocks of machines are wrong by so much, at most

    >>> ROUGH._replace(trouble_s=60, wiped=1.0).one_disk
    False
    """

    faults: Faults = faults.CALM
    trouble_s: float = 0.0
    every_s: Range = (0.1, 3.0)
    at_a_call: float = 0.7
    pause_s: Range = (0.05, 20.0)
    lost_writes: int = 3
    wiped: float = 0.15
    one_disk: bool = False
    skew_s: float = 0.0


CALM: Final = Weather()
"""Nothing goes wrong; messages take their time."""
ROUGH: Final = Weather(faults=faults.ROUGH, trouble_s=20.0, every_s=(0.02, 1.5))
"""All of it goes wrong, now and then, for twenty seconds."""
