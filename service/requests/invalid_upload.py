"""Why an upload cannot be learned from, and the size that its images must have."""

SIDE = 28
PIXELS = SIDE * SIDE


UPLOAD_RULES = {
    "empty_file": "the body is empty",
    "invalid_archive": "it is neither an npz nor a zip with deflated files",
    "corrupt_archive": "it is damaged",
    "encrypted_archive": "it needs a password",
    "nested_archive": "it has an archive in it",
    "duplicate_entry": "it has a file twice",
    "invalid_path": "it has a link, or a file that is neither LABEL/NAME.png nor train/LABEL/NAME.png",
    "archive_bomb": "it unpacks to far more bytes than it has",
    "archive_too_many_entries": "it has too many files",
    "invalid_array": "an array is not as numpy saves it, or has another shape",
    "array_too_large": "an array claims more bytes than it has",
    "wrong_type": "an array is neither numbers nor text",
    "wrong_range": "the images have values whose range is unclear, such as 0 and 1 as whole numbers",
    "nothing_to_learn": "every image is the same brightness everywhere",
    "non_finite_values": "`images` has values that are no numbers",
    "length_mismatch": "`labels` has not one label for each image",
    "invalid_image": "a picture is neither PNG nor JPEG, or not 28x28 and `fit=28` is not requested",
    "corrupt_image": "a picture is damaged",
    "image_too_large": "a picture is too large, or has a long text or colour profile",
    "unsupported_image_mode": "a picture is animated, or in colours such as CMYK",
    "invalid_name": "the name of the dataset or of a label is not allowed",
    "too_few_images": "a label has too few images",
    "too_many_labels": "it has too many labels",
    "checksum_mismatch": "the body is not the one whose digest was sent",
}
"""{code: rule} of why an upload is refused with 422. /openapi.json lists them."""


class InvalidUpload(Exception):
    """The upload cannot be learned from. `code` is stable; the message says what to change."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def shorten(name: str) -> str:
    """Return the name in quotes, without its end if it is long."""
    return repr(name if len(name) <= 80 else name[:79] + "…")
