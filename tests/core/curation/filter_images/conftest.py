"""A tiny random encoder, images it can tell apart, and a filter trained on them, once a session."""

from pathlib import Path

import pytest
from figures import trained_filter, write_images

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.encoder import ImageEncoder


@pytest.fixture(scope="session")
def encoder(checkpoint: Path) -> ImageEncoder:
    return ImageEncoder.load(checkpoint)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def image_filter(images: Path, encoder: ImageEncoder) -> ImageFilter:
    return trained_filter(images, encoder)
