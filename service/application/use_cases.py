"""All that the service can do, in one value: what a front end is built from."""

from dataclasses import dataclass

from service.application.generations.cancel import CancelGeneration, PurgeGeneration
from service.application.generations.query import Query
from service.application.generations.watch import WatchGeneration
from service.application.requests.submit import SubmitGeneration
from service.application.sources.uploads import Uploads


@dataclass(frozen=True)
class UseCases:
    """One of each use case; HTTP and gRPC are given the same.

    `tenant` is whose they are; empty where they are everybody's.
    """

    submit: SubmitGeneration
    cancel: CancelGeneration
    purge: PurgeGeneration
    query: Query
    watch: WatchGeneration
    uploads: Uploads
    tenant: str = ""
