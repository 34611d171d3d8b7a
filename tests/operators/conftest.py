"""What the harness asserts is told as in a test: both sides of it."""

import pytest

pytest.register_assert_rewrite("tests.operators.harness")
