"""What routes ask for by name."""

import asyncio
from typing import Annotated, cast

from fastapi import Depends, Path, Request

from service.api.http.edge.access import is_operator, use_cases_of
from service.api.metrics import ApiMetrics
from service.api.picture_work import PictureWork
from service.application.use_cases import UseCases
from service.settings import ApiSettings


async def _all_tenants(request: Request) -> UseCases:
    return cast("UseCases", request.app.state.use_cases)


async def _metrics(request: Request) -> ApiMetrics:
    return cast("ApiMetrics", request.app.state.metrics)


async def _settings(request: Request) -> ApiSettings:
    return cast("ApiSettings", request.app.state.settings)


async def _pictures(request: Request) -> PictureWork:
    return cast("PictureWork", request.app.state.pictures)


async def _stopping(request: Request) -> asyncio.Event:
    return cast("asyncio.Event", request.app.state.stopping)


async def _leaving(request: Request) -> asyncio.Event:
    return cast("asyncio.Event", request.app.state.leaving)


#: What the caller gets to work with; a route that takes it is closed to strangers.
UseCasesDep = Annotated[UseCases, Depends(use_cases_of)]

#: Every tenant's; for what tells nothing of anybody's work.
AllTenantsDep = Annotated[UseCases, Depends(_all_tenants)]

#: Whether the caller may see how the service is run.
OperatorDep = Annotated[bool, Depends(is_operator)]

MetricsDep = Annotated[ApiMetrics, Depends(_metrics)]
SettingsDep = Annotated[ApiSettings, Depends(_settings)]
PicturesDep = Annotated[PictureWork, Depends(_pictures)]
StoppingDep = Annotated[asyncio.Event, Depends(_stopping)]
LeavingDep = Annotated[asyncio.Event, Depends(_leaving)]
GenerationId = Annotated[
    str, Path(description="Identifier of the generation.", examples=["01K9RZ5T3W8Y7V6X2QJ4N1M0BD"])
]
