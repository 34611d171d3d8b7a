from tests.simulation.conftest import runs

__all__ = ["runs"]
