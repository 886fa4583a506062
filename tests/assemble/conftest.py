"""The images of detection tests."""

from tests.detect.conftest import shapes as shapes
