"""The topics: what must hold for all readers and writers."""

import pytest

from weir import subjects, topics
from weir.topics import ALL, Topic

BY_NAME = {topic.name: topic for topic in ALL}


@pytest.mark.parametrize("name", [topics.TALLIES, topics.WINDOWS, topics.DECISIONS])
def test_a_subjects_records_lie_in_partitions_of_one_number(name: str) -> None:
    assert BY_NAME[name].partitions == subjects.PARTITIONS


@pytest.mark.parametrize("name", [topics.OPERATORS, topics.ECHO])
def test_times_that_count_are_the_brokers(name: str) -> None:
    assert BY_NAME[name].config["message.timestamp.type"] == "LogAppendTime"
    assert BY_NAME[name].partitions == 1


@pytest.mark.parametrize("name", [topics.WINDOWS, topics.OPERATORS])
def test_what_must_never_be_lost_is_never_deleted(name: str) -> None:
    assert BY_NAME[name].config["cleanup.policy"] == "compact"


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_a_topic_is_named_told_and_kept_for_a_time(topic: Topic) -> None:
    assert topic.name.startswith("weir.")
    assert topic.about
    assert topic.config.get("cleanup.policy") == "compact" or int(topic.config["retention.ms"]) > 0
