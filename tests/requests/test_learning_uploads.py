"""The learner reads the images of an upload, in the split of its file."""

import numpy as np

from tests.requests.archives import as_arrays, as_npz, doodles, npz
from tests.requests.reading import read
from worker.learning.datasets import uploaded


def test_the_learner_reads_the_uploaded_images() -> None:
    upload = read(as_npz(doodles(each=10)))
    data = uploaded("doodles", upload.counts, upload.pixels)
    assert (data.labels, data.image_shape) == (("bar", "ring"), (28, 28))
    for label, images in doodles(each=10).items():
        expected = images.reshape(10, 784)
        assert data.test[label].numpy().tolist() == expected[4::5].tolist()
        assert data.train[label].numpy().tolist() == np.delete(expected, [4, 9], axis=0).tolist()


def test_the_learner_keeps_the_split_of_the_uploaded_file() -> None:
    images, labels = as_arrays(doodles(each=9))
    split = {"x_train": images, "y_train": labels, "x_test": images[:3] ^ 1, "y_test": ["bar"] * 3}
    upload = read(npz(**split))
    data = uploaded("doodles", upload.counts, upload.pixels, upload.held_out)
    assert data.train["bar"].numpy().tolist() == images[:9].reshape(9, 784).tolist()
    assert data.test["bar"].numpy().tolist() == (images[:3] ^ 1).reshape(3, 784).tolist()
    assert (len(data.train["ring"]), len(data.test["ring"])) == (8, 1), "it has no test image of its own"
