"""Stream processing for Python programmers: plain functions, decorated, become a dataflow over topics."""

from streamproc import agg
from streamproc.app import App
from streamproc.errors import (
    AppImportError,
    DefinitionError,
    MissingKey,
    PlanChanged,
    RecordError,
    SettingsError,
    StreamprocError,
)
from streamproc.operators.operator import Operator
from streamproc.operators.process import Context, ProcessFunction, process
from streamproc.operators.records import Record
from streamproc.policy import DeadLetter, dead_letter
from streamproc.state.list_state import ListState
from streamproc.state.map_state import MapState
from streamproc.stream import Stream, Table, Windowed
from streamproc.topic import Topic
from streamproc.windows.kinds import counting, hopping, session, tumbling
from streamproc.windows.results import Item, Previous, Top, WindowResult

__version__ = "0.1.0"

__all__ = [
    "App",
    "AppImportError",
    "Context",
    "DeadLetter",
    "DefinitionError",
    "Item",
    "ListState",
    "MapState",
    "MissingKey",
    "Operator",
    "PlanChanged",
    "Previous",
    "ProcessFunction",
    "Record",
    "RecordError",
    "SettingsError",
    "Stream",
    "StreamprocError",
    "Table",
    "Top",
    "Topic",
    "WindowResult",
    "Windowed",
    "agg",
    "counting",
    "dead_letter",
    "hopping",
    "process",
    "session",
    "tumbling",
]
