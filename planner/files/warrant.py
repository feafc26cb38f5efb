"""The file beside a manifest that says that its deployment's operator wants it carried out."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from planner.core.errors import FileProblem, InvalidFileError, StaleManifestError
from planner.core.plan import Plan
from planner.files.atomic import write_text
from planner.files.manifest import file_digest
from planner.run.blobs import Pieces
from planner.run.identity import Authority
from planner.run.warrant import Signed, Warrant, assignments_of, sign

SUFFIX = ".warrant.json"
_EPOCH = "epoch"
_LIMIT_BYTES = 16 * 2**20
_HINT = "planner node sign MANIFEST writes one"


@dataclass(frozen=True, slots=True)
class SignedPlan:
    """A warrant with the list of the weights' pieces that it speaks of."""

    signed: Signed
    pieces: Pieces


def warrant_for(
    manifest: Path, plan: Plan, pieces: Pieces, deployment: str, epoch: int, expires: int
) -> Warrant:
    """What a plan lets each node do."""
    return Warrant(
        deployment=deployment,
        manifest=file_digest(manifest),
        weights=pieces.digest,
        epoch=epoch,
        expires=expires,
        assignments=assignments_of(plan),
    )


def sign_manifest(
    manifest: Path, plan: Plan, pieces: Pieces, authority: Authority, days: float
) -> tuple[Path, Warrant]:
    """Signs a manifest with the next epoch of a deployment; the file written and what it says."""
    counter = authority.directory / _EPOCH
    epoch = 1 + (int(counter.read_text()) if counter.exists() else 0)
    expires = int(time.time() + days * 86400)
    warrant = warrant_for(manifest, plan, pieces, authority.deployment, epoch, expires)
    signed = sign(warrant, authority)
    write_text(counter, f"{epoch}\n")
    path = warrant_path(manifest)
    kept = {
        "warrant": signed.text,
        "signature": signed.signature,
        "pieces": pieces.model_dump(mode="json"),
    }
    write_text(path, json.dumps(kept, indent=1) + "\n")
    return path, warrant


def warrant_path(manifest: Path) -> Path:
    """Where the warrant of a manifest lies."""
    return manifest.with_name(manifest.name + SUFFIX)


def read_signed(manifest: Path) -> SignedPlan:
    """The warrant of a manifest and its list of pieces.

    Raises InvalidFileError where there is none, StaleManifestError where it is of another state
    of the manifest. Whether the signature is good is for the nodes to say.
    """
    path = warrant_path(manifest)
    signed, pieces = parse_signed(path)
    warrant = Warrant.model_validate_json(signed.text)
    if warrant.manifest != file_digest(manifest):
        raise StaleManifestError(f"{manifest} was changed after it was signed", _HINT)
    if warrant.weights != pieces.digest:
        problem = FileProblem(str(path), "the list of pieces is not the one that was signed")
        raise InvalidFileError([problem], _HINT)
    return SignedPlan(signed, pieces)


def parse_signed(path: Path) -> tuple[Signed, Pieces]:
    """What a warrant file holds; raises InvalidFileError."""
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise ValueError(f"is larger than {_LIMIT_BYTES} bytes")
        kept = json.loads(path.read_bytes())
        signed = Signed(str(kept["warrant"]), str(kept["signature"]))
        Warrant.model_validate_json(signed.text)
        return signed, Pieces.model_validate_json(json.dumps(kept["pieces"]))
    except FileNotFoundError:
        problem = FileProblem(str(path), "does not exist: the manifest is not signed")
    except (OSError, KeyError, TypeError, RecursionError) as error:
        problem = FileProblem(str(path), f"is no warrant: {type(error).__name__}")
    except ValidationError as error:
        problem = FileProblem(str(path), f"is no warrant: {error.errors()[0]['msg']}")
    except ValueError as error:
        problem = FileProblem(str(path), f"is no warrant: {error}")
    raise InvalidFileError([problem], _HINT)
