"""The jobs as apps, on the topics of the run that the environment tells: `streamproc run FILE:count`."""

from streamproc import App
from tests.benchmarks.jobs import APPS
from tests.benchmarks.kafka.names import Names


def app_of(names: Names) -> App:
    """The app of a run's job."""
    made = APPS[names.job.removesuffix("-eos")]
    return made(name=names.group, source=names.source, results=names.results)


pass_ = app_of(Names.told("pass"))
count = app_of(Names.told("count"))
tumble = app_of(Names.told("tumble"))
hop = app_of(Names.told("hop"))
trend = app_of(Names.told("trend"))
trend_eos = app_of(Names.told("trend-eos"))  # as trend: every app is exactly once
