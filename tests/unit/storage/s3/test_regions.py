"""The hosts of AWS and of BOS's S3 endpoint, and the regions in them."""

from __future__ import annotations

import pytest

from syncd.storage.s3 import regions


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "s3.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "s3.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "s3.cn-north-1.amazonaws.com.cn"),
        ("us-iso-east-1", "s3.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "s3.us-isob-east-1.sc2s.sgov.gov"),
        ("eusc-de-east-1", "s3.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_every_partition_has_its_domain(region: str, host: str) -> None:
    """And each of these hosts is known as Amazon's own."""
    assert regions.host(region) == host
    assert regions.is_aws(host)
    assert regions.aws_region(host) == regions.aws_region(f"photos.{host}") == region


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("photos.s3.amazonaws.com", "photos"),
        ("my.photos.s3.eu-west-1.amazonaws.com", "my.photos"),
        ("photos.s3-eu-west-1.amazonaws.com", "photos"),
        ("photos.s3.dualstack.eu-west-1.amazonaws.com", "photos"),
        ("s3.eu-west-1.amazonaws.com", ""),
        ("bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com", ""),
        ("photos.bj.bcebos.com", "photos"),
        ("photos.s3.bj.bcebos.com", "photos"),
        ("bj.bcebos.com", ""),
        ("s3.bj.bcebos.com", ""),
        ("photos.cdn.bcebos.com", ""),
        ("photos.s3.example.org", ""),
        ("127.0.0.1", ""),
    ],
)
def test_a_bucket_in_the_host_is_known(host: str, bucket: str) -> None:
    """Of the services whose addresses are known."""
    assert regions.bucket_in(host) == bucket


@pytest.mark.parametrize("host", ["notamazonaws.com", "amazonaws.com.example.org", "minio.lan", ""])
def test_a_host_that_only_looks_like_amazons_is_not(host: str) -> None:
    """A domain counts from a dot on."""
    assert not regions.is_aws(host)


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3.amazonaws.com", ""),
        ("my-bucket-1.s3.amazonaws.com", ""),
        ("bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com", ""),
        ("s3.eu-west-1.example.org", ""),
        ("amazonaws.com", ""),
    ],
)
def test_aws_names_the_region_in_most_hosts(host: str, region: str) -> None:
    """Where it does not, the first answer names it."""
    assert regions.aws_region(host) == region


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("s3.bj.bcebos.com", "bj"),
        ("photos.s3.gz.bcebos.com", "gz"),
        ("bj.bcebos.com", ""),
        ("s3.bcebos.com", ""),
        ("s3.bj.example.org", ""),
        ("127.0.0.1", ""),
    ],
)
def test_bos_names_the_region_in_the_host(host: str, region: str) -> None:
    """Only its S3 endpoint; the native one has no use for it."""
    assert regions.bos_region(host) == region
