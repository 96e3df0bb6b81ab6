"""Which environment variables with the service's prefix there may be, and what a wrong one is told.

A variable that nothing reads is a mistake that would otherwise show as a setting without effect.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping

PREFIX = "HIDIFFUSION_"

#: Read elsewhere: by the client and the command's options, by `service.health`, by the web page's
#: code snippets, and by Docker Compose for the files in this repository.
_READ_ELSEWHERE = frozenset(
    PREFIX + name
    for name in (
        "BIND",
        "CA_CERTIFICATE",
        "CLIENT_CERTIFICATE",
        "CLIENT_KEY",
        "HEALTH_FOLDER",
        "KEY",
        "SERVER",
    )
)

#: The tests' own, so that whoever runs them may set them for everything.
_TESTS = PREFIX + "TEST_"

#: What Kubernetes puts into every container for a Service called hidiffusion or hidiffusion-...
#: (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_SERVICE_LINK = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
_SERVICE_LINK_URL = re.compile(r"(tcp|udp|sctp)://")


def check_variables(environment: Mapping[str, str], known: Iterable[str]) -> None:
    """Return when every variable with the prefix is one that something reads.

    Args:
        environment: names, in any case, and values.
        known: the names of all settings.

    Raises:
        ValueError: some are unknown; it names each with the known name nearest to it.
    """
    names = {*known, *_READ_ELSEWHERE}
    unknown = [
        name
        for name, value in environment.items()
        if name.upper().startswith(PREFIX) and not _is_known(name.upper(), value, names)
    ]
    if unknown:
        raise ValueError("\n".join(_told(name, names) for name in sorted(unknown)))


def check_lists(environment: Mapping[str, str], lists: Iterable[str]) -> None:
    """Return when every one of the variables that hold lists holds one, in JSON.

    Raises:
        ValueError: one does not; it names the variable and its value.
    """
    for name, value in environment.items():
        if name.upper() in lists and not _is_list(value):
            raise ValueError(
                f'{name} is {value!r}, and has to be a list in JSON, such as \'["a", "b"]\''
            )


def _is_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


def _is_known(name: str, value: str, names: set[str]) -> bool:
    return name in names or name.startswith(_TESTS) or _is_service_link(name, value)


def _is_service_link(name: str, value: str) -> bool:
    if name.endswith("_PORT") and _SERVICE_LINK_URL.match(value):
        return True
    return "__" not in name and _SERVICE_LINK.search(name) is not None


def _told(name: str, names: set[str]) -> str:
    near = difflib.get_close_matches(name.upper(), sorted(names), n=1)
    remedy = f"did you mean {near[0]}?" if near else "`hidiffusion settings` lists all there are"
    return f"{name} is no setting; {remedy}"
