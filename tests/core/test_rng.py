from planner.core.rng import stream


def test_a_stream_depends_on_its_names_only() -> None:
    first = stream(7, "churn", "a").random()
    stream(7, "churn", "b").random()
    assert stream(7, "churn", "a").random() == first
    assert stream(8, "churn", "a").random() != first
    assert stream(7, "churn", "b").random() != first


def test_names_do_not_run_together() -> None:
    assert stream(1, "ab", "c").random() != stream(1, "a", "bc").random()


def test_numbers_are_the_same_on_every_machine() -> None:
    assert stream(0, "arrivals").random() == 0.07283649738648268
