"""Testing an app without a broker: the real plan and serdes over a log in memory."""

from streamproc.clock import ManualClock
from streamproc.memory_log import MemoryLog
from streamproc.state.memory import MemoryDisk
from streamproc.testing.given import Record
from streamproc.testing.replay import Output, replay

__all__ = ["ManualClock", "MemoryDisk", "MemoryLog", "Output", "Record", "replay"]
