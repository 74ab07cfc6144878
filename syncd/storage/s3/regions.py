"""The hosts of AWS: which region belongs to which partition, and what its domain is. Pure.

Source: https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json
"""

from __future__ import annotations

import re

_PARTITIONS = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
}
"""By the start of the regions' names; all other regions are below `_AWS`."""
_AWS = "amazonaws.com"
_BEFORE_S3 = re.compile(r"(.+)\.s3(?:[.-].+)?")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
DOMAINS = (_AWS, *_PARTITIONS.values())


def host(region: str) -> str:
    """Return the host of S3 in a region."""
    domain = next((domain for start, domain in _PARTITIONS.items() if region.startswith(start)), _AWS)
    return f"s3.{region}.{domain}"


def is_aws(host: str) -> bool:
    """Return whether a host, without its port, belongs to Amazon's service."""
    return under(host, DOMAINS)


def bos_region(host: str) -> str:
    """Return the region in a host of BOS's S3 endpoint (``s3.bj.bcebos.com``); empty for others."""
    labels = host.split(".")
    at = labels.index("s3") if "s3" in labels else -1
    return labels[at + 1] if at >= 0 and labels[at + 2 :] == ["bcebos", "com"] else ""


def aws_region(host: str) -> str:
    """Return the region in a host of AWS (``s3.eu-west-1.amazonaws.com``); empty: none."""
    domain = next((domain for domain in DOMAINS if under(host, (domain,))), "")
    label = host.removesuffix(f".{domain}").rpartition(".")[2].removeprefix("s3-")
    return label if domain and _REGION.fullmatch(label) else ""


def bucket_in(host: str) -> str:
    """Return the bucket in front of an address of AWS or BOS; empty: none, or another service."""
    if is_aws(host) and ".vpce" not in host:
        domain = next(domain for domain in DOMAINS if under(host, (domain,)))
        found = _BEFORE_S3.fullmatch(host.removesuffix(f".{domain}"))
        return found[1] if found else ""
    labels = host.split(".")
    if labels[-2:] != ["bcebos", "com"] or labels[-3:-2] == ["cdn"]:
        return ""
    return ".".join(labels[: -4 if labels[-4:-3] == ["s3"] else -3])


def under(host: str, domains: tuple[str, ...]) -> bool:
    """Return whether a host is one of the domains, or below one."""
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
