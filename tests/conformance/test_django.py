"""The tests of conformance for Django, under each of its servers."""

from tests.conformance.answers import *  # noqa: F403 - the tests
from tests.conformance.reading import *  # noqa: F403
from tests.conformance.viewers import *  # noqa: F403

FRAMEWORK = "django"
