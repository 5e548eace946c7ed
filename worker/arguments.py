"""The arguments of each task. The API checks them before it sends a task, and the task checks them again."""

from pathlib import Path

# `Any` in this module: the arguments are unchecked JSON until pydantic has checked them.
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from worker import config

TALE = (
    "At four in the morning the harbour office is empty except for the clerk and the clock. A telegram "
    "comes in, one word at a time, and the clerk pins every word to the board the moment it arrives. "
    "People on their way to the boats look up at the board as they pass. Nobody asks the clerk what the "
    "telegram says; nobody has to wait until the last word has come. Those who arrive late read from "
    "the left and catch up. When the line goes dead the clerk writes down where it stopped, and when it "
    "hums again the telegram goes on from there, with no word lost and none pinned twice. Near six the "
    "last word comes in, and the clerk draws a line under it, so that everyone knows: this was all."
)


def inside(root: Path, value: str) -> Path:
    """Return the existing path `value` below `root`, with links resolved. Raises `ValueError` otherwise."""
    if ".." in Path(value).parts:
        raise ValueError("must not contain '..'")
    try:
        path = (root / value).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise ValueError("does not exist") from None
    if not path.is_relative_to(root.resolve()):
        raise ValueError("is outside the allowed root")
    return path


def _unicode(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("contains a lone surrogate, which is not a character") from None
    return value


def _upload(value: str) -> str:
    if not inside(config.settings.uploads, value).is_file():
        raise ValueError("is not a file")
    return value


def _folder(value: str) -> str:
    if not inside(config.settings.digest_root, value).is_dir():
        raise ValueError("is not a folder")
    return value


Text = Annotated[str, AfterValidator(_unicode)]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Return the arguments. Raises `ValueError`, because pydantic's own error cannot be pickled."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise ValueError("; ".join(f"{e['field']}: {e['message']}" for e in problems(error))) from None


def problems(error: ValidationError) -> list[dict[str, str]]:
    """Return what is wrong with each field, for the person who filled it in."""
    return [
        {
            "field": ".".join(str(part) for part in found["loc"]),
            "message": found["msg"].removeprefix("Value error, "),
        }
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


class ImportCsv(Arguments):
    path: Annotated[Text, Field(min_length=1, max_length=255), AfterValidator(_upload)]
    name: Annotated[Text, Field(max_length=255)] = ""


class DigestTree(Arguments):
    folder: Annotated[Text, Field(min_length=1, max_length=1024), AfterValidator(_folder)] = "."


class Narrate(Arguments):
    text: Annotated[Text, Field(min_length=1, max_length=4000)] = TALE
    delay: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = 0.04


BY_TASK: dict[str, type[Arguments]] = {
    "import_csv": ImportCsv,
    "digest_tree": DigestTree,
    "narrate": Narrate,
}
