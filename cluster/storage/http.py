"""Downloads from untrusted URLs, which must not reach into this network (no SSRF).

Each hop's host is resolved once, every address it has must be public, and the connection goes to an
address that was checked: a name that answers differently the second time (DNS rebinding) gains
nothing. Redirects are followed by hand and checked like the first URL. Size and time are bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import tenacity

from actors.errors import MediaError
from cluster.storage.config import FetchConfig
from cluster.storage.urls import one_line, shown

CHUNK_BYTES = 1 << 20
MAX_PORT = 65535
NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 addresses embedded in IPv6 (RFC 6052): the last 32 bits are the real target."""

REFUSED_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            "64:ff9b:1::/48",  # local-use translation to IPv4, RFC 8215
            "fec0::/10",  # site-local, deprecated
            "192.0.0.0/24",  # IETF protocol assignments; one is the metadata of Oracle's cloud
            "168.63.129.16/32",  # services of Azure's hosts
            "100.100.100.200/32",  # metadata of Alibaba's cloud
        ),
    )
)
"""Addresses that ``ipaddress`` calls global, and which lead into the network of a host."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class _Transient(Exception):  # noqa: N818  # raised for tenacity, never to a caller
    """A failure that another attempt may not have."""


async def fetch(url: str, to: Path, config: FetchConfig) -> None:
    """Download ``url`` to the file ``to``. Raises MediaError, and then leaves no file."""
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(_Transient),
        stop=tenacity.stop_after_attempt(config.attempts),
        wait=tenacity.wait_exponential_jitter(multiplier=0.2, max=5),
        reraise=True,
    )
    try:
        with _removed_on_failure(to):
            async with asyncio.timeout(config.timeout_s):
                await retrying(_fetch, url, to, config)
    except TimeoutError as error:
        raise MediaError(
            f"{shown(url)} must be fetched within {config.timeout_s:g} s (fetch.timeout_s); it took longer"
        ) from error
    except _Transient as error:
        raise MediaError(
            f"{shown(url)} must be reachable; {error}, after {config.attempts} attempts; try again later"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file's size and identity, as its server states them."""

    num_bytes: int | None
    identity: str | None
    """Changes when the file does: its strong ETag, or size and time of change. None if the server states neither."""


async def describe(url: str, config: FetchConfig) -> RemoteFile:
    """Ask a server about a file, by a GET of one byte: not every server answers HEAD. Raises MediaError."""
    try:
        async with asyncio.timeout(config.silence_s):
            return await _describe(url, config)
    except (TimeoutError, _Transient) as error:
        raise MediaError(f"{shown(url)} must be reachable; {one_line(error)}; try again later") from error


async def post(url: str, body: bytes, headers: Mapping[str, str], config: FetchConfig) -> int:
    """Send ``body`` to ``url`` and return the status it is answered with; redirects are not followed.

    Raises MediaError if there is no answer.
    """
    try:
        async with (
            asyncio.timeout(config.timeout_s),
            httpx.AsyncClient(timeout=config.silence_s, follow_redirects=False, trust_env=False) as client,
        ):
            response = await _open(client, _parsed(url), config, "POST", headers, body)
            await response.aclose()
            return response.status_code
    except (TimeoutError, _Transient) as error:
        raise MediaError(f"{shown(url)} must answer within {config.timeout_s:g} s; {one_line(error)}") from error


@contextmanager
def _removed_on_failure(file: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.unlink(missing_ok=True)
        raise


async def _fetch(url: str, to: Path, config: FetchConfig) -> None:
    """Download once, without retries."""
    timeout = httpx.Timeout(config.silence_s)
    # No proxy and no credentials from the environment: the checked address is the one connected to.
    async with httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as client:
        target = _parsed(url)
        for _ in range(config.max_redirects + 1):
            response = await _open(client, target, config)
            try:
                if not response.has_redirect_location:
                    return await _save(response, target, to, config)
                target = _redirected(target, response)
            finally:
                await response.aclose()
    raise MediaError(
        f"{shown(url)} must lead to a file within {config.max_redirects} redirects (fetch.max_redirects); "
        f"it goes on to {shown(str(target))}"
    )


async def _describe(url: str, config: FetchConfig) -> RemoteFile:
    async with httpx.AsyncClient(timeout=config.silence_s, follow_redirects=False, trust_env=False) as client:
        target = _parsed(url)
        for _ in range(config.max_redirects + 1):
            response = await _open(client, target, config, headers={"Range": "bytes=0-0"})
            await response.aclose()
            if not response.has_redirect_location:
                if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                    raise MediaError(f"{shown(url)} must be there to read; it answers {response.status_code}")
                return _remote_file(response)
            target = _redirected(target, response)
    raise MediaError(f"{shown(url)} must lead to a file within {config.max_redirects} redirects (fetch.max_redirects)")


def _remote_file(response: httpx.Response) -> RemoteFile:
    headers = response.headers
    size = headers.get("content-length", "")
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        size = headers.get("content-range", "").rpartition("/")[2]
    num_bytes = int(size) if size.isascii() and size.isdigit() else None
    tag, changed = headers.get("etag", ""), headers.get("last-modified", "")
    if tag.startswith('"'):
        return RemoteFile(num_bytes=num_bytes, identity=f"{num_bytes}:{tag}")
    return RemoteFile(num_bytes=num_bytes, identity=f"{num_bytes}:{changed}" if changed and num_bytes else None)


def check_url(url: str, config: FetchConfig) -> None:
    """Raise MediaError if the URL can never be fetched. Does no DNS lookup."""
    _check_scheme(_parsed(url), config)


def _parsed(url: str) -> httpx.URL:
    try:
        target = httpx.URL(url)
        has_host = bool(target.host)
    except (httpx.InvalidURL, TypeError, ValueError) as error:  # of idna and UTF-8 too
        raise MediaError(f"a URL must be well formed, such as https://host/talk.mp4; {error}") from error
    if not has_host:
        raise MediaError(f"a URL must name a host, such as https://host/talk.mp4; {shown(url)} names none")
    return _with_port(target)


def _with_port(target: httpx.URL) -> httpx.URL:
    """The URL itself. Raises MediaError if its port is out of range."""
    if target.port is not None and not 1 <= target.port <= MAX_PORT:
        raise MediaError(f"a URL's port must be between 1 and {MAX_PORT}; that of {shown(str(target))} is not")
    return target


def _redirected(target: httpx.URL, response: httpx.Response) -> httpx.URL:
    try:
        to = target.copy_with(userinfo=b"").join(response.headers["location"])
        _ = to.host  # decoded on access
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        raise _no_redirect(target) from error
    return _with_port(to)


def _no_redirect(target: httpx.URL) -> MediaError:
    return MediaError(f"{shown(str(target))} redirects to what is no URL; use the file's own URL")


async def _open(
    client: httpx.AsyncClient,
    target: httpx.URL,
    config: FetchConfig,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> httpx.Response:
    """Send a request to the first of the host's addresses that accepts a connection; returns its answer."""
    _check_scheme(target, config)
    failure: Exception = OSError("no address")
    for address in await _checked_addresses(target, config):
        request = client.build_request(
            method,
            target.copy_with(host=str(address)),
            # Content-Length must be the size of the file: no compression.
            headers={**(headers or {}), "Host": target.netloc.decode("ascii"), "Accept-Encoding": "identity"},
            content=body,
            extensions={"sni_hostname": target.host},  # the name that the certificate must have
        )
        try:
            # httpx's own time limit is for each read, so headers could come letter by letter.
            async with asyncio.timeout(config.silence_s):
                return await client.send(request, stream=True)
        except TimeoutError as error:
            raise _Transient(f"its answer must begin within {config.silence_s:g} s (fetch.silence_s)") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
        except httpx.TransportError as error:
            raise _Transient(one_line(error)) from error
        except (httpx.InvalidURL, TypeError, ValueError) as error:  # httpx looks where a redirect leads
            raise _no_redirect(target) from error
    raise _Transient(one_line(failure)) from failure


def _check_scheme(target: httpx.URL, config: FetchConfig) -> None:
    if target.scheme not in config.schemes:
        raise MediaError(
            f"a URL must begin with {' or '.join(f'{scheme}://' for scheme in config.schemes)} (fetch.schemes); "
            f"found {shown(str(target))}"
        )


async def _checked_addresses(target: httpx.URL, config: FetchConfig) -> Sequence[Address]:
    port = target.port or {"http": 80, "https": 443}[target.scheme]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise MediaError(f"{shown(str(target))} must name a host that exists; {error}; check the URL") from error
    # An IPv6 address may carry a scope: fe80::1%eth0.
    addresses = list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
    if not (config.allow_private or target.host in config.allow_hosts) and not all(map(is_public, addresses)):
        raise MediaError(
            f"a URL must lead to a public address; the host of {shown(str(target))} has one of a private network; "
            f"put it on fetch.allow_hosts if it may be read"
        )
    return addresses


def is_public(address: Address) -> bool:
    """True for an address of the public internet; an address that embeds another counts as that one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    if any(address in network for network in REFUSED_NETWORKS):
        return False
    return address.is_global and not address.is_multicast


async def _save(response: httpx.Response, target: httpx.URL, to: Path, config: FetchConfig) -> None:
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        raise _Transient(f"it answers {response.status_code}")
    if response.status_code != httpx.codes.OK:
        raise MediaError(f"{shown(str(target))} must be there to read; it answers {response.status_code}")
    _check_size(int(response.headers.get("content-length", 0)), target, config)
    # httpx would expand what is packed, however large that is, before its size can be checked.
    encoding = response.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise MediaError(
            f"a file must be sent as it is; that of {shown(str(target))} comes with the content encoding "
            f"{encoding[:40]!r} though none was asked for; give a URL without it"
        )
    with to.open("wb") as file:
        try:
            async for part in _parts(response, target, config):
                await asyncio.to_thread(file.write, part)
        except httpx.TransportError as error:  # broken off, or short of its content-length
            raise _Transient(one_line(error)) from error


async def _parts(response: httpx.Response, target: httpx.URL, config: FetchConfig) -> AsyncIterator[bytes]:
    """The body in parts of about ``CHUNK_BYTES``. Raises MediaError if it is too large or comes too slowly."""
    clock = asyncio.get_running_loop().time
    started_s, num_bytes, part = clock(), 0, bytearray()
    async for data in response.aiter_raw():
        num_bytes += len(data)
        _check_size(num_bytes, target, config)
        elapsed_s = clock() - started_s
        if elapsed_s > config.silence_s and num_bytes < config.min_bytes_per_s * elapsed_s:
            raise MediaError(
                f"a file must come with at least {config.min_bytes_per_s} bytes/s (fetch.min_bytes_per_s); "
                f"{shown(str(target))} sent {num_bytes} bytes in {elapsed_s:.0f} s; copy it to a faster server"
            )
        part += data
        if len(part) >= CHUNK_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part)


def _check_size(num_bytes: int, target: httpx.URL, config: FetchConfig) -> None:
    if num_bytes > config.max_bytes:
        raise MediaError(
            f"a file must have at most {config.max_bytes} bytes (fetch.max_bytes); {shown(str(target))} has more"
        )
