"""The roles of a file's columns, guessed from names, types and content, each with the reason for it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainables import cells
from trainables.data.table import listed
from tune_app.drafting.names import CRITERIA, EVIDENCE, GROUPS, TEXTS, label_rank, plain
from tune_app.drafting.profiles import Profile
from tune_app.errors import UserError, nearest

OPTIONS = {"text": "--text", "criterion": "--criterion", "label": "--label", "group_id": "--group"}
"""Role of a column → the option that names it."""

_MOST_CLASSES = 50  # More need a name that says they are classes.
_MOST_NUMBERED = 50  # More different numbers are amounts, not classes.
_MOST_NAMED = 1000
_LONGEST_NAME = 100
# Fewest groups of a column that is named like groups, and of one that only ends in "id".
_FEWEST_GROUPS, _FEWEST_IDS = 5, 10
_LONGER = 3.0  # How many times longer than all others a column of texts must be to be the text.

Profiles = Mapping[str, Profile]


@dataclass(frozen=True)
class Role:
    """The column of a role and why it is that one; ``column`` is None if no column has the role."""

    column: str | None
    why: str


Roles = Mapping[str, Role]
"""The fields of ``data.columns``; the two of evidence only if there is evidence."""


def assign(profiles: Profiles, given: Mapping[str, str]) -> Roles:
    """Assign roles to columns.

    Args:
        profiles: the columns that are not empty.
        given: the columns that a person named, by role.

    Raises:
        UserError: the text or the label cannot be told, or a named column cannot have its role; the message names the
            option to use.
    """
    roles: dict[str, Role] = {}
    for role, name in given.items():
        _check_given(profiles, role, name)
        roles[role] = Role(name, f"Named with {OPTIONS[role]}.")
    if len(set(given.values())) < len(given):
        raise UserError(f"{', '.join(OPTIONS[role] for role in given)}: name a column of its own for each")

    def free() -> list[Profile]:
        taken = {role.column for role in roles.values()}
        return [profile for profile in profiles.values() if profile.name not in taken]

    def settle(role: str, guess: Callable[[Sequence[Profile]], Role]) -> None:
        if role not in roles:
            roles[role] = guess(free())

    settle("label", _label)
    if "text" not in roles:
        # A pair's second text is not the text, unless there is no other.
        roles["text"] = _text(free())
    settle("criterion", _criterion)
    settle("group_id", _group)
    text, label = (profiles[roles[role].column or ""] for role in ("text", "label"))
    if "label" not in given:
        _require_header(label)
    for profile, role in ((text, "text"), (label, "label")):
        _require_filled(profile, role)
    return {**{role: roles[role] for role in OPTIONS}, **_evidence(free(), text)}


def _require_header(label: Profile) -> None:
    if label_rank(label.name) is None and label.name in label.values:
        raise UserError(
            f"its first line looks like a row, not like the columns' names ({label.name!r} is one of the values below"
            " it); add a line with names, such as text and label"
        )


def _require_filled(profile: Profile, role: str) -> None:
    empty = profile.rows - profile.filled
    if empty:
        first = 1 + next(row for row, cell in enumerate(profile.cells()) if cell is None or not str(cell).strip())
        raise UserError(
            f"column {profile.name!r} is empty in {empty:,} of {profile.rows:,} rows, first in row {first}; give these"
            f" rows a {role}, or remove them"
        )


def _check_given(profiles: Profiles, role: str, name: str) -> None:
    option = OPTIONS[role]
    if name not in profiles:
        raise UserError(
            f"{option}: {name!r} is no column with values{nearest(name, profiles)}; its columns are"
            f" {listed(list(profiles))}"
        )
    profile = profiles[name]
    if profile.is_nested:
        raise UserError(f"{option}: {name!r} holds lists or objects; name a column of texts or numbers")
    if role == "label" and (problem := _no_classes(profile)) is not None:
        raise UserError(f"{option}: {name!r} {problem}; name the column of the classes")


def _no_classes(profile: Profile) -> str | None:
    """Return why a column cannot hold classes; None if it can."""
    if profile.is_nested:
        return "holds lists or objects"
    if profile.fraction is not None:
        return f"holds numbers such as {profile.fraction}, and predicting a number (regression) is not supported"
    if profile.distinct < 2:
        return f"holds the single value {profile.values[0]!r}, so there is nothing to learn"
    if profile.distinct > _MOST_NAMED:
        return f"holds {profile.distinct:,} different values, and at most {_MOST_NAMED:,} classes are possible"
    if max(map(len, profile.values)) > _LONGEST_NAME:
        return "holds texts"
    return None


def _may_be_label(profile: Profile) -> bool:
    """Return whether a column named like a label holds classes: few enough, each of several rows."""
    if _no_classes(profile) is not None or profile.distinct > profile.filled / 2:
        return False
    return not (profile.is_whole and profile.distinct > _MOST_NUMBERED)


def _looks_like_label(profile: Profile) -> bool:
    """Return whether a column without a telling name holds classes."""
    if not _may_be_label(profile) or profile.holds_texts:
        return False
    return profile.distinct <= min(_MOST_CLASSES, max(2, profile.filled / 5)) and plain(profile.name) not in GROUPS


def _label(free: Sequence[Profile]) -> Role:
    ranked = [(label_rank(profile.name), profile) for profile in free]
    for rank in sorted({rank for rank, _ in ranked if rank is not None}):
        named = [profile for other, profile in ranked if other == rank and _may_be_label(profile)]
        if named:
            chosen = _only(named)
            return Role(chosen.name, f"By its name: it holds {_classes(chosen)}.")
    regression = next((p for rank, p in ranked if rank is not None and p.fraction is not None), None)
    if regression is not None:
        raise UserError(f"column {regression.name!r} {_no_classes(regression)}; name a column of classes with --label")
    alike = [profile for profile in free if _looks_like_label(profile)]
    if not alike:
        single = next((p for rank, p in ranked if rank is not None and p.distinct == 1), None)
        why = "" if single is None else f" ({single.name!r} {_no_classes(single)})"
        raise UserError(
            f"cannot tell which column holds the label{why}; name it with --label COLUMN (columns:"
            f" {listed([profile.name for profile in free])})"
        )
    chosen = _only(alike)
    return Role(chosen.name, f"The only column that looks like classes: it holds {_classes(chosen)}.")


def _classes(profile: Profile) -> str:
    kind = "whole numbers" if profile.is_whole else "names"
    return f"{profile.distinct:,} different {kind} in {profile.filled:,} rows"


def _only(candidates: Sequence[Profile]) -> Profile:
    """Return the label among candidates, of which several may say the same: then the one with names.

    Raises:
        UserError: they say different things.
    """
    first, *others = sorted(candidates, key=lambda profile: profile.is_whole)
    different = [other for other in others if not _says_the_same(first, other)]
    if different:
        may = " and ".join(repr(profile.name) for profile in (first, *different[:5]))
        raise UserError(f"cannot tell which column holds the label: {may} may; name it with --label COLUMN")
    return first


def _says_the_same(one: Profile, other: Profile) -> bool:
    pairs = set(zip(one.cells(), other.cells(), strict=True))
    return len(pairs) == one.distinct == other.distinct


def _text(free: Sequence[Profile]) -> Role:
    words = [profile for profile in free if profile.sample and not profile.numbers and profile.distinct > 1]
    named = _named(words, TEXTS)
    if named is not None:
        return Role(named.name, f"By its name: {_length(named)}.")
    texts = sorted((p for p in words if p.holds_texts), key=lambda p: -p.mean_characters) or words
    if not texts:
        raise UserError(
            "cannot tell which column holds the text: none holds words; name it with --text COLUMN (columns:"
            f" {listed([profile.name for profile in free])})"
        )
    first, *others = texts
    if others and first.mean_characters < _LONGER * others[0].mean_characters:
        may = " and ".join(repr(profile.name) for profile in texts[:6])
        raise UserError(
            f"cannot tell which column holds the text: {may} may; name it with --text COLUMN, and the second of a pair"
            " with --criterion COLUMN"
        )
    what = "The longest texts" if others else "The only column of texts"
    return Role(first.name, f"{what}: {_length(first)}.")


def _length(profile: Profile) -> str:
    return f"{profile.mean_words:,.0f} words a row on average"


def _criterion(free: Sequence[Profile]) -> Role:
    words = [profile for profile in free if profile.sample and not profile.numbers and profile.distinct > 1]
    named = _named([profile for profile in words if profile.filled == profile.rows], CRITERIA)
    if named is None:
        return Role(None, "No column is named like a criterion or the second text of a pair: texts stand alone.")
    return Role(named.name, f"By its name: {named.distinct:,} different ones; rows are (text, criterion) pairs.")


def _group(free: Sequence[Profile]) -> Role:
    named = _named([profile for profile in free if _groups_rows(profile, _FEWEST_GROUPS)], GROUPS) or next(
        (one for one in free if plain(one.name).endswith("id") and _groups_rows(one, _FEWEST_IDS)), None
    )
    if named is None:
        return Role(None, f"{_no_groups(free)}: every row is its own group.")
    return Role(
        named.name,
        f"By its name: {named.distinct:,} groups of {named.rows:,} rows, each on one side of the split.",
    )


def _groups_rows(profile: Profile, fewest: int) -> bool:
    if profile.filled < profile.rows or profile.fraction is not None or profile.mean_words >= 3:
        return False
    return fewest <= profile.distinct < profile.rows


def _no_groups(free: Sequence[Profile]) -> str:
    """Return why no column is taken for groups; a column that is named like groups is not passed over in silence."""
    # A column that differs in every row numbers them.
    passed = _named([profile for profile in free if profile.distinct < profile.rows], GROUPS)
    if passed is None:
        return "No column says which rows belong together"
    column = f"{passed.name!r} is named like groups, but"
    if passed.filled < passed.rows:
        return f"{column} {passed.rows - passed.filled:,} of its cells are blank"
    if passed.distinct < _FEWEST_GROUPS:
        return f"{column} holds only {passed.distinct} of them (--group {passed.name} takes it nevertheless)"
    return f"{column} holds texts or fractions"


def _named(candidates: Iterable[Profile], names: Sequence[str]) -> Profile | None:
    """Return the candidate with the likeliest of these names."""
    by_name = {plain(profile.name): profile for profile in reversed(list(candidates))}
    return next((by_name[name] for name in names if name in by_name), None)


def _evidence(free: Sequence[Profile], text: Profile) -> dict[str, Role]:
    by_name = {plain(profile.name): profile for profile in free}
    for start, end in EVIDENCE:
        if start in by_name and end in by_name and (count := _spans(by_name[start], by_name[end], text)):
            why = f"character offsets within the text in {count:,} of {text.rows:,} rows"
            return {
                "evidence_start": Role(by_name[start].name, f"By its name: {why}."),
                "evidence_end": Role(by_name[end].name, "Beside the start."),
            }
    return {}


def _spans(start: Profile, end: Profile, text: Profile) -> int:
    """Return the number of rows with a span; 0 if one is not within its text."""
    count = 0
    for first, last, cell in zip(start.cells(), end.cells(), text.cells(), strict=True):
        try:
            begins, ends = map(cells.integer, (first, last))
        except ValueError:
            return 0
        if begins is None and ends is None:
            continue
        if begins is None or ends is None or not 0 <= begins < ends <= len(str(cell)):
            return 0
        count += 1
    return count
