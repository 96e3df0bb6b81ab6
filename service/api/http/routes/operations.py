"""For operators: is the process alive, and can it serve?"""

from dataclasses import asdict

from fastapi import APIRouter

from service.api.http.dependencies import UseCasesDep
from service.api.http.openapi import problem_responses
from service.api.http.schemas import Health, Readiness, WorkerView

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> Health:
    """Answer while the process lives, whatever else is wrong."""
    return Health(status="ok")


@router.get("/readyz", responses=problem_responses(503))
def readyz(use_cases: UseCasesDep) -> Readiness:
    """Answer when Redis, the store and at least one worker are there."""
    use_cases.query.check_ready()
    workers = [WorkerView(**asdict(worker)) for worker in use_cases.query.workers()]
    return Readiness(status="ready", workers=tuple(workers))
