"""The rules that the fields of a request may break (422): what each code means, and what to do about it."""

from typing import NamedTuple

from service.requests.invalid_upload import UPLOAD_RULES


class Rule(NamedTuple):
    """What breaks a rule, and what mends it, each in one sentence."""

    cause: str
    cure: str


GENERAL = {
    "validation_failed": Rule(
        "The request breaks several rules, or one of the whole body.",
        "`errors` has each broken rule, with a JSON pointer to its place.",
    ),
    "required": Rule("A field is missing, or an array is empty.", "Send it; /docs has the fields."),
    "unknown_field": Rule(
        "There is no field, or parameter of the URL, of this name.", "Leave it out; /docs has the fields."
    ),
    "wrong_type": Rule(
        "A value has another JSON type than its field.", "Send the type that the message names."
    ),
    "out_of_range": Rule(
        "A number is too small or too large, or a text, an array or an object is too short or too long.",
        "Stay within the bounds that the message names.",
    ),
    "unknown_value": Rule("The field takes none but certain values.", "Choose one that the message names."),
    "duplicate_item": Rule(
        "A parameter of the URL, or an item of an array, is there twice, or two labels would have one name.",
        "Send it once.",
    ),
}
"""Rules that the fields and parameters of every operation have."""

OF_SOME_FIELDS = {
    "invalid_name": Rule(
        "A name has characters that it may not have, or is reserved.", "Choose a name as the message says."
    ),
    "invalid_text": Rule(
        "A text has a character that Unicode does not count as printable, or that the database cannot hold.",
        "Send the text without it.",
    ),
    "invalid_cursor": Rule(
        "`after` or `Last-Event-ID` is not a cursor of this list.",
        "Pass the `next` of the page before, or leave it out for the first page.",
    ),
    "invalid_url": Rule(
        "The URL is malformed, or its host is not on the public internet.",
        "Send the URL of a public host; whoever runs the service can allow private ones.",
    ),
    "unsupported_format": Rule(
        "Images are not available in this format.", "Choose one that the message names."
    ),
    "output_too_large": Rule(
        "The request asks for more images or pixels than one answer may have.",
        "Ask for fewer at a time; the message names the bound.",
    ),
    "contradiction": Rule(
        "Two fields contradict each other.", "Change the one that the message names, or leave it out."
    ),
    "dataset_not_found": Rule(
        "The project has no dataset of this name.", "GET /v1/datasets lists the datasets."
    ),
    "architecture_not_found": Rule(
        "There is no architecture of this name.", "GET /v1/catalog lists the architectures."
    ),
    "strategy_not_found": Rule(
        "There is no such strategy for this operation, retention or policy.",
        "GET /v1/catalog lists the strategies.",
    ),
    "strategy_not_for_architecture": Rule(
        "The strategy does not work on networks of the model's architecture.",
        "Use another strategy, or a model of an architecture that the message names.",
    ),
    "policy_not_found": Rule("There is no such policy of resizing.", "GET /v1/catalog lists the policies."),
    "unknown_label": Rule(
        "The dataset has no such label, or `as` names a label that is not in `labels`.",
        "GET /v1/datasets/{dataset} lists the labels.",
    ),
    "label_not_temporary": Rule(
        "The strategy accepts temporary labels only.", "Leave `strategy` out, or name another one."
    ),
    "label_already_named": Rule(
        "A temporary label that is made permanent keeps its name.", "Leave `as` out."
    ),
}
"""Rules of certain fields. An operation declares which of them it has."""

OF_UPLOADS = {
    code: Rule(
        f"The upload cannot be learned from: {rule}.", "Change it as the message says, and upload it again."
    )
    for code, rule in UPLOAD_RULES.items()
}

RULES = {**OF_UPLOADS, **OF_SOME_FIELDS, **GENERAL}
"""{code: rule}. The code of one broken rule is also that of the whole answer."""
