"""Rules that reject a sample before launch, each with a name, a reason and the excess over its limit.

A rule is a pure function of one configuration. One rejects combinations that the model cannot follow. Two use
predicted memory, which they receive as a function. The others are limits that users of these models set by hand, per
size class or per family.
"""

from search_spaces.rules.combination import CombinationRule
from search_spaces.rules.families import NAMED_FAMILY_LIMITS, FamilyLimits, FamilyRule
from search_spaces.rules.predicted import AccumulationRule, MemoryRule
from search_spaces.rules.registry import Facts, Predict, PredictedFit, RuleEntry, RuleEntryError, rule_entry, rule_names
from search_spaces.rules.rule import Rule, Sample, Violation, read_by, remedy_of, violations
from search_spaces.rules.sizes import NAMED_LIMITS, LimitSet, SizeClass, SizeClassRule, SizeLimits, size_class

__all__ = [
    "NAMED_FAMILY_LIMITS",
    "NAMED_LIMITS",
    "AccumulationRule",
    "CombinationRule",
    "Facts",
    "FamilyLimits",
    "FamilyRule",
    "LimitSet",
    "MemoryRule",
    "Predict",
    "PredictedFit",
    "Rule",
    "RuleEntry",
    "RuleEntryError",
    "Sample",
    "SizeClass",
    "SizeClassRule",
    "SizeLimits",
    "Violation",
    "read_by",
    "remedy_of",
    "rule_entry",
    "rule_names",
    "size_class",
    "violations",
]
