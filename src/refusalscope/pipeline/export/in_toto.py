"""An audit as an in-toto statement: what was found, bound to the digests of the weight files.

https://github.com/in-toto/attestation, Statement v1. It is not signed; a tool that signs
statements (cosign, in-toto) takes it as it is.
"""

import json
from pathlib import Path

from refusalscope.errors import InputError
from refusalscope.models.digests import digest_of, weight_file_digests
from refusalscope.results.audit_records import Audit

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:refusalscope:audit:1"
_PART_OF_PREDICATE = {"findings", "advice", "rungs", "rank_area", "over_refusal", "dose", "decoys"}
_PART_OF_PREDICATE |= {"scan", "not_tested", "versions", "model"}


def in_toto_statement(audit: Audit, folder: Path) -> str:
    """The statement of an audit about the weight files in `folder`.

    Raises:
        InputError: the audit says of which weights it is, and those in `folder` are others; or it
            does not say.
    """
    digests = weight_file_digests(folder)
    audited, there = audit.model.weights_sha256, digest_of(digests)
    if audited != there:
        raise InputError(
            f"the audit is of weights of sha256 {audited or 'not recorded'}, and those in {folder} "
            f"have {there}; name the folder that was audited with --checkpoint"
        )
    statement = {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()
        ],
        "predicateType": PREDICATE,
        "predicate": audit.model_dump(mode="json", by_alias=True, include=_PART_OF_PREDICATE),
    }
    return json.dumps(statement, ensure_ascii=False, indent=2) + "\n"
