"""The data set, the recipe and the finished run of the tests of commands."""

from tests.cli.conftest import digits as digits
from tests.cli.conftest import few_images_for_lidar as few_images_for_lidar
from tests.cli.conftest import recipe as recipe
from tests.cli.conftest import trained as trained
