"""List the models on offer."""

from fastapi import APIRouter

from service.api.http.dependencies import UseCasesDep
from service.api.http.openapi import problem_responses
from service.api.http.schemas import ModelList

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", responses=problem_responses(503))
def list_models(use_cases: UseCasesDep) -> ModelList:
    """List every model with its limits, defaults, warm workers and queue length."""
    return ModelList.of(use_cases.query.models())
