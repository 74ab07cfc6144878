"""What scenarios share with the tests of single parts."""

from tests.unit.daemon.conftest import home as home
from tests.unit.pipeline.conftest import deleting as deleting
from tests.unit.pipeline.test_pipeline import once as once
from tests.unit.pipeline.test_pipeline import works as works
from tests.unit.pipeline.test_workers import crew as crew
