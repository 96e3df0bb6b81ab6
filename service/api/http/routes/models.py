"""List the models on offer."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.exceptions import HTTPException

from service.api.http.dependencies import UseCasesDep
from service.api.http.openapi import problem_responses
from service.api.http.views.schemas import ModelList, OpenAiModel

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", responses=problem_responses(503))
def list_models(use_cases: UseCasesDep) -> ModelList:
    """List every model with its limits, defaults, warm workers and queue length."""
    return ModelList.of(use_cases.query.models())


@router.get("/{model}", responses=problem_responses(404, 503))
def get_model(
    model: Annotated[str, Path(description="A name or alias.")],
    use_cases: UseCasesDep,
) -> OpenAiModel:
    """Say that there is such a model, as OpenAI's clients ask."""
    found = use_cases.query.model(model)
    if found is None:
        raise HTTPException(404, f"no model is called {model[:200]!r}; GET /v1/models lists them")
    return OpenAiModel(id=found.name)
