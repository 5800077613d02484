"""The folder of a module of tests on real parts."""

from tests.fleet.conftest import directory

__all__ = ["directory"]
