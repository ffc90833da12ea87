"""Rules of other distributions: they are chosen, counted and refused like ours."""

from collections.abc import Callable
from typing import Any

import pytest

from search_spaces.rules import RuleEntry, RuleEntryError, rule_entry, rule_names

RULES = """
from collections.abc import Sequence

from search_spaces.rules import Facts, Rule, RuleEntry, Sample, Violation


class ShortTexts:
    name = "short_texts"
    reads = frozenset({"optim.lr"})
    remedy = "add shorter lengths to the space"

    def __init__(self, facts: Facts) -> None:
        self._largest = facts.parameters

    def check(self, sample: Sample) -> Violation | None:
        if sample.length <= 128:
            return None
        return Violation(self.name, f"{sample}: length {sample.length} > 128", sample.length / 128 - 1)


SHORT_TEXTS = RuleEntry(lambda facts: [ShortTexts(facts)])
NOTHING = 7
"""


@pytest.fixture
def installed(install_plugin: Any) -> Callable[[str], None]:
    """Return a function that installs a distribution with one rule, the object at the given address."""
    return lambda address: install_plugin({"short_texts.py": RULES}, {"headroom.rules": {"short_texts": address}})


def test_our_rules_are_the_entries_of_their_modules() -> None:
    assert rule_names()[:2] == ("predicted", "users_families")
    for name in rule_names():
        assert isinstance(rule_entry(name), RuleEntry)
    with pytest.raises(KeyError):
        rule_entry("short_texts")


def test_a_rule_of_another_distribution_is_chosen_by_name(installed: Any) -> None:
    installed("short_texts:SHORT_TEXTS")
    assert "short_texts" in rule_names()
    assert isinstance(rule_entry("short_texts"), RuleEntry)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (
            "short_texts:NOTHING",
            r"\(headroom-plugin: short_texts:NOTHING\) is no RuleEntry but int; mend or uninstall it$",
        ),
        ("short_texts:ABSENT", r"cannot be imported: AttributeError: .*; mend or uninstall it$"),
        ("absent_module:RULE", r"cannot be imported: ModuleNotFoundError: .*; mend or uninstall it$"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_with_its_distribution(
    address: str, expected: str, installed: Any
) -> None:
    installed(address)
    assert "short_texts" in rule_names(), "it is not imported before it is needed"
    with pytest.raises(RuleEntryError, match=rf"^the entry 'short_texts' of headroom\.rules .*{expected}"):
        rule_entry("short_texts")


def test_an_entry_with_the_name_of_one_of_ours_is_refused(install_plugin: Any) -> None:
    install_plugin({"short_texts.py": RULES}, {"headroom.rules": {"predicted": "short_texts:SHORT_TEXTS"}})
    with pytest.raises(RuleEntryError, match=r"^the entry 'predicted' of headroom\.rules \(headroom-plugin: .*own"):
        rule_names()
