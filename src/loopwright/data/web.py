"""One file at an http(s) address, fetched without being led to this machine or a private network."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from pathlib import PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data.part import Unpacked, write_checked
from loopwright.data.place import Located, refused

TIMEOUT_S = 30
MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 20
# letters beyond ASCII and blanks are written as percent signs, all else as it stands
_AS_IT_IS = "%/:=&?~#+!$,;'@()*[]"
_REDIRECTS = (301, 302, 303, 307, 308)
# where clouds hand a machine its credentials: Amazon, Alibaba, Azure, Google; most are link-local
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "fd20:ce::254"),
    )
)


class WebPlace:
    """One file at an http(s) address.

    Every address on the way, that of a redirect too, is resolved once, checked, and connected to
    as checked, so that neither a redirect nor a name that changes its address leads inside.
    `allow_private` opens this machine and private networks for the host that `url` names, not for
    another one that it redirects to; a cloud's metadata service answers only where `url` names its
    address itself.
    """

    def __init__(
        self, url: str, *, unpacked: Unpacked, max_bytes: int, allow_private: bool
    ) -> None:
        try:
            urlsplit(url)
        except ValueError as cause:
            raise refused(
                f"{shown(url)} is no address: {cause}.", "Correct the path.", path=shown(url)
            ) from cause
        self._url = url
        self._unpacked = unpacked
        self._max_bytes = max_bytes
        self._allow_private = allow_private
        self._fetched: dict[str, Located] = {}

    def describe(self) -> str:
        """Return the address without user, password and query."""
        return shown(self._url)

    def fingerprint(self) -> str | None:
        """Return a digest of the entity tag, size and date that the server tells; None if none."""
        connection, response = self._answer("HEAD")
        connection.close()
        facts = [response.headers.get(name) for name in ("ETag", "Last-Modified")]
        if not any(facts):
            return None
        return digest_value([self._url, *facts, response.headers.get("Content-Length")])

    def files(self) -> list[Located]:
        """Return the file, fetched anew unless the server says that it has not changed."""
        state = self.fingerprint()
        if state is None or state not in self._fetched:
            self._fetched = {state or "": self._fetch()}
        return [self._fetched[state or ""]]

    def _fetch(self) -> Located:
        name = PurePosixPath(unquote(urlsplit(self._url).path)).name
        # the name decides the kind, and is no path: it is the last segment, cut to its suffixes
        suffixes = "".join(PurePosixPath(name).suffixes[-2:]).lower()
        path = self._unpacked.new_folder() / f"file{suffixes}"
        connection, response = self._answer("GET")
        try:
            n_bytes = 0
            with path.open("wb") as target:
                while chunk := response.read(_CHUNK_BYTES):
                    n_bytes += len(chunk)
                    if n_bytes > self._max_bytes:
                        raise too_large(self.describe(), self._max_bytes)
                    write_checked(target, chunk, path.parent)
        except (OSError, http.client.HTTPException) as cause:
            raise self._broke_off(cause) from cause
        finally:
            connection.close()
        wanted = response.headers.get("Content-Length")
        if wanted and wanted.isdigit() and n_bytes != int(wanted):
            raise self._broke_off(EOFError(f"{n_bytes:,} of {int(wanted):,} bytes came"))
        return Located(path=path, label=self.describe())

    def _answer(self, method: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Return the connection and the answer at the end of the redirects."""
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            parts = urlsplit(url)
            connection = self._connected(parts)
            try:
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request(method, quote(target, safe=_AS_IT_IS))
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as cause:
                connection.close()
                raise self._broke_off(cause) from cause
            if response.status not in _REDIRECTS:
                return self._accepted(method, connection, response)
            connection.close()
            url = self._redirected(url, response.headers.get("Location"))
        raise refused(
            f"{self.describe()} redirects more than {MAX_REDIRECTS} times.",
            "Name the final address.",
            path=self.describe(),
        )

    def _redirected(self, url: str, location: str | None) -> str:
        try:
            target = urljoin(url, location or "")
            scheme = urlsplit(target).scheme
        except ValueError:
            target, scheme = "nowhere", ""
        if not location or scheme not in ("http", "https"):
            raise refused(
                f"{self.describe()} redirects to {shown(target)!r}, which is not followed.",
                "Name the final address.",
                path=self.describe(),
            )
        if urlsplit(url).scheme == "https" and scheme == "http":
            raise refused(
                f"{self.describe()} redirects from https to plain http.",
                "Name the final address if it is to be trusted.",
                path=self.describe(),
            )
        return target

    def _accepted(
        self,
        method: str,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        status = response.status
        # some servers answer GET alone; without a HEAD there is no fingerprint, and that is allowed
        if status == 200 or (method == "HEAD" and status in (403, 405, 501)):
            return connection, response
        connection.close()
        said = f"{self.describe()} answers {status} {response.reason}".rstrip() + "."
        if status >= 500 or status == 429:
            raise BackendError(said, hint="Try again later.", retryable=True)
        hint = "Correct the address."
        if status in (401, 403):
            hint = "Put an address that carries the right to read it in `path: env:NAME`."
        raise refused(said, hint, path=self.describe())

    def _connected(self, parts: SplitResult) -> http.client.HTTPConnection:
        host = parts.hostname
        if not host:
            raise refused(f"{self.describe()} names no host.", "Correct the address.", path="")
        port = _port(parts, self.describe())
        address = self._checked_address(host, port)
        secure = parts.scheme == "https"
        connection = (
            http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S)
            if secure
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        )
        try:
            wire = socket.create_connection((address, port), timeout=TIMEOUT_S)
            if secure:
                context = ssl.create_default_context()
                wire = context.wrap_socket(wire, server_hostname=host)
        except OSError as cause:
            raise self._broke_off(cause) from cause
        connection.sock = wire
        return connection

    def _checked_address(self, host: str, port: int) -> str:
        """Return the first address of a host, all of them checked."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as cause:
            raise BackendError(
                f"The host {host!r} of {self.describe()} is not known: {cause}.",
                hint="Correct the address, or see to the name service.",
                retryable=True,
                field="data.source.path",
            ) from cause
        addresses = [str(each[4][0]) for each in found]
        named = (urlsplit(self._url).hostname or "").rstrip(".")
        for address in addresses:
            secret = is_metadata(address)
            if secret and address.partition("%")[0] != named.partition("%")[0]:
                hint = "Name that address itself, with allow_private: true, if it is meant."
                raise self._inside(host, address, "where clouds hand out credentials", hint)
            if self._allow_private and host.rstrip(".") == named:
                continue
            if is_public(address) and not secret:
                continue
            hint = "Set allow_private: true in the source if that is meant."
            if self._allow_private:
                hint = (
                    f"allow_private holds for {named} alone: put the final address in the loop "
                    "file if it is meant."
                )
            raise self._inside(host, address, "this machine or a private network", hint)
        return addresses[0]

    def _inside(self, host: str, address: str, what: str, hint: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self.describe()} leads to {host} at {address}, which is {what}.",
            hint=hint,
            field="data.source.allow_private",
            value=address,
        )

    def _broke_off(self, cause: Exception) -> BackendError:
        reason = str(cause).partition("\n")[0].rstrip(".") or type(cause).__name__
        return BackendError(
            f"{self.describe()} cannot be read: {reason}.",
            hint="Check that the server runs, and try again.",
            retryable=True,
            field="data.source.path",
        )


def is_public(address: str) -> bool:
    """Return whether an IP address is neither of this machine nor of a private network.

    Examples
    --------
    >>> is_public("93.184.216.34"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    found = _reached(address)
    return found.is_global and not found.is_multicast


def is_metadata(address: str) -> bool:
    """Return whether an IP address is link-local or one where a cloud hands out credentials.

    Examples
    --------
    >>> is_metadata("169.254.169.254"), is_metadata("fd00:ec2::254"), is_metadata("10.0.0.1")
    (True, True, False)
    """
    found = _reached(address)
    return found.is_link_local or found in _METADATA


def _reached(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that is reached in the end: the IPv4 one that an IPv6 one stands for."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return found
    if found in ipaddress.ip_network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found.ipv4_mapped or found.sixtofour or (found.teredo or (None, found))[1]


def shown(url: str) -> str:
    """Return an address without user, password, query and fragment.

    Examples
    --------
    >>> shown("https://ann:secret@files.example:8443/a.csv?sig=x")
    'https://files.example:8443/a.csv'
    """
    bare = url.partition("?")[0].partition("#")[0]
    scheme, _, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def too_large(place: str, max_bytes: int) -> InvalidInputError:
    """Return the error for an address that holds more than it may."""
    return InvalidInputError(
        f"{place} holds more than {max_bytes / 2**20:,.0f} MiB.",
        hint="Set max_size in the source if it is to be read.",
        field="data.source.max_size",
        value=max_bytes,
    )


def _port(parts: SplitResult, place: str) -> int:
    try:
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as cause:
        raise refused(f"{place} has no valid port.", "Correct the address.", path=place) from cause
