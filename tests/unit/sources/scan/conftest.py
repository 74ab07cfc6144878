"""What the tests of the scan share."""

from tests.unit.sources.scan.test_compare import tree  # noqa: F401  # the fixture
