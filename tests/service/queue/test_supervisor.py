import os, signal
from tests.service.queue.conftest import make_generation, wait_until, now


def test_paints(records, start_worker):
    w = start_worker()
    g = make_generation()
    records.accept(g, None)
    wait_until(lambda: records.get(g.id).status.final, "end")
    assert records.get(g.id).status == "succeeded"
    print(records.workers())
    g2 = make_generation("stumble")
    records.accept(g2, None)
    wait_until(lambda: records.get(g2.id).status.final, "end")
    print(records.get(g2.id))
    w.signal(signal.SIGTERM)
    assert w.wait() == 0
