"""Examples are tests: the docstrings of the package and the Python blocks of the Markdown pages."""

from typing import Any

import hypothesis
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

# The same examples in every run, and no test fails for being slow. Search further with --hypothesis-profile=explore.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1_000)
hypothesis.settings.load_profile("fixed")


def _as_module(namespace: dict[str, Any]) -> None:
    namespace["__name__"] = "example"  # not "__main__": a page's `if __name__ == "__main__":` must not run


pages = Sybil([PythonCodeBlockParser()], patterns=["*.md"], setup=_as_module)

# Only by the import name streamproc: under the top-level folders' own paths every example would run a second time,
# in a second copy of its module.
docstrings = Sybil([DocTestParser()], patterns=["streamproc/*.py", "streamproc/*/*.py", "streamproc/*/*/*.py"])

pytest_collect_file = (pages + docstrings).pytest()
