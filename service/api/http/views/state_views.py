"""What clients get to see of the service itself: whether it is well, and how they stand with it."""

from pydantic import Field

from service.api.http.views.schemas import View


class Health(View):
    """Whether all is well."""

    status: str = Field(examples=["ok"])


class WorkerView(View):
    """A live worker, as its last report has it."""

    name: str
    state: str = Field(description="starting, idle, busy or draining.")
    models: tuple[str, ...] = Field(description="Models it serves.")
    warm_models: tuple[str, ...] = Field(description="Models it has loaded.")
    pipeline_loads: int = Field(description="Models loaded since it began.")
    pipeline_evictions: int = Field(description="Models dropped to make room for others.")
    capacities: dict[str, int] = Field(
        description="Most pixels its device has memory for, by model, where that is known."
    )
    trouble: str = Field(description="Why it is not ready, when it failed to become so.")


class Readiness(Health):
    """That requests can be accepted now, and the workers that live, for operators."""

    workers: tuple[WorkerView, ...]


class SessionView(View):
    """How the page stands with the service; `tenant` is None for who has not signed in."""

    asks_for_key: bool
    tenant: str | None
