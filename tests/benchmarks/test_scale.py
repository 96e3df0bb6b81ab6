"""The cluster that the costs of periodic tasks are measured on is one that they understand."""

from benchmarks.service.scale import Size, rows


def test_every_task_is_measured_with_tenants_queues_and_results() -> None:
    (found,) = rows([Size(workers=2, tenants=3, waiting=4, results=5)], repeats=1)

    assert all(each["commands"] > 0 for each in found["tasks"].values())
    assert found["tasks"]["choosing a job"]["commands"] >= 3, "it sees none that waits"
