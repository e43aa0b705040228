from collections import Counter

from bitnet.tasks import FOLDER, copying, local_tasks, stdlib_facts


def test_each_task_is_a_file():
    assert local_tasks() == ("bitnet_copy", "bitnet_stdlib_facts")
    for name in local_tasks():
        assert f"task: {name}\n" in (FOLDER / f"{name}.yaml").read_text()


def test_facts_are_the_same_each_time_and_do_not_give_their_answer_away():
    facts = list(stdlib_facts.documents())
    assert facts == list(stdlib_facts.documents())
    known = {fact["choices"][fact["answer"]]: fact["question"] for fact in facts}
    assert "Heap queue algorithm" in known["heapq"]
    assert "Return the number of items in a container" in known["len"]
    for name, question in known.items():
        assert name.lower() not in question.lower()
    assert all(len(set(fact["choices"])) == stdlib_facts.CHOICES for fact in facts)


def test_copying_is_decided_by_the_order_of_the_list_alone():
    documents = list(copying.documents())
    assert len(documents) == copying.DOCUMENTS
    assert documents == list(copying.documents())
    for document in documents:
        words = document["text"].split()
        listed, choices = words[: copying.NAMES], document["choices"]
        assert len(set(listed)) == copying.NAMES
        assert words[copying.NAMES : 2 * copying.NAMES] == listed
        assert listed[listed.index(words[-1]) + 1] == choices[document["answer"]]
        assert {Counter(words)[choice] for choice in choices} == {2}
