"""A signing key that was lost is noticed, and replaced only if the operator says so."""

from pathlib import Path

import pytest

from migrations import upgrade
from service.receipts.signing import RETIRED, list_public_keys, replace_lost, rotate
from service.receipts.signing_keys import describe_loss, find_key, find_unpublished
from service.receipts.statement import encode_receipt
from service.registry import deletions, models
from service.registry.database import Database
from service.registry.deletions import DeletionRequest
from service.registry.errors import SigningKeyUnusable
from service.registry.tables import ModelDeletionRow


def test_a_lost_key_is_not_replaced_until_the_operator_says_so(tmp_path: Path) -> None:
    database, keys = Database(f"sqlite:///{tmp_path / 'palimpsest.db'}"), tmp_path / "keys"
    upgrade(database)
    with pytest.raises(SigningKeyUnusable):
        list_public_keys(keys)
    assert not keys.exists(), "to look makes no key"
    lost = find_key(database, keys)
    with database.transaction() as session:
        model = models.create(session, name="pages", dataset="digits", network={}, seed=1)
        deletions.delete_model(session, model, purge=DeletionRequest())
        row = session.get_one(ModelDeletionRow, model.id)
        row.envelope = encode_receipt(lost.sign(b"{}", "text")).decode()
    (keys / "signing.pem").unlink()
    with pytest.raises(SigningKeyUnusable, match="--without-old"):
        find_key(database, keys)
    assert describe_loss(database, keys)
    assert not (keys / "signing.pem").exists()
    new = replace_lost(keys)
    assert find_key(database, keys).keyid == new.keyid != lost.keyid
    rotate(keys)
    with database.reading() as session:
        assert find_unpublished(session, keys) == set()
        (keys / RETIRED).unlink()
        assert find_unpublished(session, keys) == {lost.keyid}
    database.dispose()
