"""How S3 servers phrase refusals; `syncd.storage.http.errors` says what they mean. Pure.

Answers to HEAD have no body and so no code; a proxy's answers have a body that is not the store's.
"""

from __future__ import annotations

from syncd.core.errors import StoreUnavailable
from syncd.storage.http.errors import NOT_THE_STORES, Facts, Refusal, place
from syncd.storage.http.messages import Response
from syncd.storage.s3.xml import parse


def facts(response: Response) -> Facts:
    """Return what the answer says about itself, in its XML, if any, and its headers."""
    headers = response.headers
    request_id = headers.get("x-amz-request-id", "")
    region = headers.get("x-amz-bucket-region", "")
    root = parse(response.body) if response.body else None
    if root is None or root.name != "Error":
        return Facts(request_id=request_id, region=region)
    return Facts(
        code=root.get("Code").strip(),
        message=" ".join(root.get("Message").split())[:300],
        request_id=request_id or root.get("RequestId").strip(),
        region=region or root.get("Region").strip(),
    )


def redirect(response: Response) -> Refusal | None:
    """Return what an answer means that only redirects: the store itself would give a code."""
    target = "".join(char for char in response.headers.get("location", "") if char.isprintable())[:300]
    if not 300 <= response.status < 400 or not target:
        return None
    hint = "set endpoint to the address that it leads to, if that is the store; a portal may want a login"
    return place(f"the answer is a redirect to {target}", hint)


_SPEAKS_BOS = "the server speaks BOS's own interface: set `type: bos`, or its S3 endpoint"


def is_foreign(response: Response) -> bool:
    """Return whether the answer has a body that no store sends: HTML, or no XML at all.

    Headers alone prove nothing: some servers label even their empty answers as HTML.
    """
    if not response.body.strip():
        return False
    root = parse(response.body)
    return root is None or root.name.lower() == "html"


def unclear(response: Response, text: str = NOT_THE_STORES) -> StoreUnavailable:
    """Return the error for an answer that the store would not give."""
    return StoreUnavailable(
        text,
        status=response.status,
        request_id=response.headers.get("x-amz-request-id", ""),
        hint=_SPEAKS_BOS if "x-bce-request-id" in response.headers else "check proxy and endpoint",
        outcome_unknown=True,
    )
