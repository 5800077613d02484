"""Which offsets may be committed: nothing before its alert is out."""

from sinks.decision_source import Progress


def test_an_offset_waits_for_all_that_was_given_before_it() -> None:
    progress = Progress()
    progress.note(0, 3, 10)
    progress.note(1, 3, 11)
    progress.note(1, 5, 70)  # nothing to tell, but read after the first decision
    progress.note(2, 3, 12)
    assert progress.reached(0) == {3: 10}
    assert progress.reached(0) == {}
    assert progress.reached(1) == {3: 11, 5: 70}
    assert progress.reached(2) == {3: 12}


def test_a_commit_that_failed_is_made_again_and_sets_nothing_back() -> None:
    progress = Progress()
    progress.note(1, 3, 10)
    assert progress.reached(1) == {3: 10}
    progress.note(2, 3, 20)
    progress.note(1, 3, 10)  # it failed
    assert progress.reached(2) == {3: 20}


def test_what_was_read_before_a_change_of_the_assignment_is_forgotten() -> None:
    progress = Progress()
    progress.note(1, 3, 10)
    progress.forget()
    assert progress.reached(1) == {}
