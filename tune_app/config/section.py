"""Base class of the sections of a configuration."""

import unicodedata

from pydantic import BaseModel, ConfigDict, field_validator


class Section(BaseModel):
    """Group of settings. YAML's types are not converted: "3" is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        """Refuse values that no setting can mean and that would break files, databases or torch."""
        if isinstance(value, str) and any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value):
            raise ValueError("holds a control character or half a surrogate pair; leave it out")
        if isinstance(value, str) and not value.strip():
            raise ValueError("is blank; write something, or leave the setting out")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError("is too large; give a smaller number")
        return value


_LARGEST = 2**63 - 1


class FieldError(ValueError):
    """Error of one setting that conflicts with others of its section."""

    def __init__(self, field: str, value: object, problem: str) -> None:
        super().__init__(problem)
        self.field = field
        self.value = value
