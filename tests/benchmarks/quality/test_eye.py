"""The count of objects, held against pictures that were judged by eye."""

from benchmarks.quality.eye import verdicts


def test_the_count_agrees_with_the_eye_on_separate_objects() -> None:
    every = verdicts()
    assert len(every) == 64
    assert sum(verdict.several for verdict in every) == 9
    # All of them agree; a few may turn with another decoder of the sheet.
    assert sum(verdict.counted == verdict.several for verdict in every) >= 61
    assert not [verdict for verdict in every if verdict.counted and not verdict.repeats]
