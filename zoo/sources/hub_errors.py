"""What may go wrong between here and the hub: what is tried again, and one line for each end."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from zoo.declarations.licence import Licence
from zoo.errors import UsageError, ZooError

T = TypeVar("T")
log = logging.getLogger("zoo")

declared_licence: ContextVar[Licence | None] = ContextVar("declared_licence", default=None)
"""What the declaration of the model in hand says of its licence: it is shown before a download and in refusals."""
TRIES = 4
FIRST_WAIT = 0.5
"""Seconds before the second try; each further wait is twice as long."""
LONGEST_WAIT = 30.0
"""A server that asks for a longer pause gets none: the command ends and says when to come back."""
_HOME = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Place:
    """What was asked of whom, for messages."""

    repository: str
    """A hub id, or an address."""
    revision: str | None = None
    endpoint: str = _HOME
    kind: str = "model"
    licence: Licence | None = None
    token_sent: bool = False

    @property
    def host(self) -> str:
        """The host alone: an address may carry a password."""
        return re.sub(r"^https?://([^@/]*@)?([^/?#]+).*$", r"\2", self.endpoint)

    @property
    def elsewhere(self) -> str:
        """What else to try, where another server may have the same."""
        return "" if self.kind == "address" else ", or set HF_ENDPOINT to a mirror"

    @property
    def page(self) -> str:
        """Where people read and accept the terms."""
        return f"{_HOME}/{'datasets/' if self.kind == 'dataset' else ''}{self.repository}"


def attempt(call: Callable[[], T], place: Place, stop: threading.Event | None = None) -> T:
    """Call until it works, at most ``TRIES`` times; only what may pass by itself is tried again.

    Raises:
        ZooError: why it did not work, and what to do.
    """
    failures = 0
    while True:
        try:
            return call()
        except ZooError:
            raise
        except Exception as error:
            wait = pause(error, failures)
            if wait is None:
                raise explain(error, place) from None
            rest(wait, stop)
            failures += 1


def rest(seconds: float, stop: threading.Event | None) -> None:
    """Wait, unless told to stop; a wait that a user would notice is announced."""
    if seconds > 4 * FIRST_WAIT:
        log.warning("waiting %.0f s, as the server asks", seconds)
    (stop or threading.Event()).wait(seconds)


def pause(error: Exception, failures: int) -> float | None:
    """Say how many seconds to wait before the next try; None where another try is of no use.

    Args:
        error: what happened.
        failures: how many tries failed before this one.
    """
    import httpx2

    if failures + 1 >= TRIES:
        return None
    wait = FIRST_WAIT * 2.0**failures
    status = _status(error)
    if status is not None:
        if status not in (408, 425, 429) and status < 500:
            return None
        asked = _retry_after(error)
        if asked is not None and asked > LONGEST_WAIT:
            return None
        return max(wait, asked or 0.0)
    passing = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
    return wait if isinstance(error, passing) else None


def explain(error: Exception, place: Place) -> ZooError:
    """Say in one line what went wrong and what to do."""
    import httpx2
    from huggingface_hub import errors

    name, host, elsewhere = place.repository, place.host, place.elsewhere
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{name!r} is not a hub id; a hub id is organisation/name")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ZooError(f"{name}: not on this machine, and the network is off (HF_HUB_OFFLINE)")
    status = _status(error)
    if status is not None:
        return _explain_status(error, status, place)
    if isinstance(error, httpx2.TimeoutException):
        return ZooError(f"{name}: {host} did not answer in time; try again{elsewhere}")
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        if place.kind == "address":
            return ZooError(f"{name}: {place.endpoint[:200]!r} is not a web address")
        return UsageError(f"HF_ENDPOINT must be an address such as https://hf-mirror.com, not {host!r}")
    if isinstance(error, httpx2.TransportError):
        return ZooError(
            f"{name}: {host} cannot be reached ({_first_line(error)}); check the network{elsewhere}, or "
            "give --offline to use what is on this machine"
        )
    return ZooError(f"{name}: {host} gave an answer that is not a hub's ({_first_line(error)}); is HF_ENDPOINT right?")


def _explain_status(error: Exception, status: int, place: Place) -> ZooError:
    """Explain an HTTP status that the server answered with."""
    from huggingface_hub import errors

    name, revision = place.repository, place.revision or "main"
    if place.kind == "address" and status in (401, 403, 404, 410):
        return ZooError(f"{name}: {place.host} does not hand it out ({status}); is the declared address still right?")
    declared_gated = place.licence is not None and place.licence.gated
    if isinstance(error, errors.GatedRepoError) or (status in (401, 403) and declared_gated):
        licence = f" under the licence {describe_licence(place.licence)}" if place.licence else ""
        token = (
            "the account of the token in use has no access yet"
            if place.token_sent
            else "then set HF_TOKEN to a token of that account (https://huggingface.co/settings/tokens)"
        )
        return ZooError(f"{name} is gated{licence}: accept the terms at {place.page} with your account; {token}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ZooError(f"{name} has no revision {revision!r}; see {place.page}/commits/main")
    if isinstance(error, errors.EntryNotFoundError):
        return ZooError(f"{name} at {revision} lacks a file that it lists; try again, or another revision")
    if status == 401 and place.token_sent:
        return ZooError(f"{name}: {place.host} refuses the token in use (401); set HF_TOKEN to a valid one")
    if status in (401, 404) or isinstance(error, errors.RepositoryNotFoundError):
        advice = "may the token in use read it?" if place.token_sent else "if it is private, set HF_TOKEN"
        return ZooError(f"{name} does not exist on {place.host}, or is private ({status}); check the name, {advice}")
    if status == 403:
        return ZooError(f"{name}: {place.host} forbids it (403{_server_says(error)}); ask for access at {place.page}")
    if status == 429:
        asked = _retry_after(error)
        when = f"in {asked:.0f} s" if asked else "later"
        more = "" if place.token_sent else "; with HF_TOKEN set more requests are allowed"
        return ZooError(f"{name}: {place.host} says too many requests (429); try again {when}{more}")
    if status >= 500:
        return ZooError(
            f"{name}: {place.host} has a problem of its own ({status}{_server_says(error)}), {TRIES} tries; try again "
            f"later{place.elsewhere}"
        )
    return ZooError(f"{name}: {place.host} answered {status}{_server_says(error)}")


def describe_licence(licence: Licence | None) -> str:
    """Write a licence on one line: its id, its link, and whether commercial use is allowed."""
    if licence is None:
        return "unknown"
    parts = [licence.name or licence.id]
    if licence.name and licence.name != licence.id:
        parts[0] = f"{licence.id} ({licence.name})"
    if licence.url:
        parts.append(licence.url)
    if licence.commercial_use is False:
        parts.append("no commercial use")
    return ", ".join(parts)


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _retry_after(error: Exception) -> float | None:
    """Read how many seconds a server asks to wait (RFC 9110, 10.2.3; seconds only)."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    value = str(headers.get("retry-after", "")).strip()
    if value.isdecimal() and len(value) < 8:
        return float(value)
    limit = re.search(r"\bt\s*=\s*(\d{1,7})", str(headers.get("ratelimit", "")))
    return float(limit[1]) if limit else None


def _server_says(error: Exception) -> str:
    says = getattr(error, "server_message", None)
    return f": {' '.join(str(says).split())[:160]}" if says else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
