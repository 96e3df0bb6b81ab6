"""For operators: is the process alive, and can it serve?"""

from dataclasses import asdict

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from service.api.http.dependencies import AllTenantsDep, LeavingDep, MetricsDep, OperatorDep
from service.api.http.edge.access import require_operator
from service.api.http.openapi import problem_responses
from service.api.http.views.state_views import Health, Readiness, WorkerView
from service.domain.errors import Unavailable

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> Health:
    """Answer while the process lives, whatever else is wrong."""
    return Health(status="ok")


@router.get(
    "/metrics",
    include_in_schema=False,
    response_class=Response,
    dependencies=[Depends(require_operator)],
)
def get_metrics(metrics: MetricsDep) -> Response:
    """Tell the figures of this process, for Prometheus."""
    return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get("/readyz", responses=problem_responses(503))
def readyz(use_cases: AllTenantsDep, operator: OperatorDep, leaving: LeavingDep) -> Readiness:
    """Answer when requests can be accepted: Redis and the store take writes.

    What is accepted waits for a worker; operators see those that live in `workers`. A process that
    was told to go says no, and accepts requests all the same until nobody sends any.
    """
    if leaving.is_set():
        raise Unavailable("server", "it is shutting down", retry_after=1)
    use_cases.query.check_ready()
    seen = use_cases.query.workers() if operator else ()
    workers = [WorkerView(**asdict(worker)) for worker in seen]
    return Readiness(status="ready", workers=tuple(workers))
