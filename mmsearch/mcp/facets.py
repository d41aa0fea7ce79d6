"""The tool that counts pictures: its arguments, its result, and the result as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field

from mmsearch.core.display import display_path
from mmsearch.core.facets import FACET_FIELDS, Facet, Facets
from mmsearch.core.query import Band
from mmsearch.mcp.schemas import (
    FoldArgument,
    LikeIds,
    LiteralArgument,
    TextList,
    UnlikeIds,
    add_filters,
    as_list,
    format_understood,
)
from mmsearch.server.schemas import BoundedText, StrictModel

MAX_VALUES = 50
"""Maximum number of values of a field: a model reads all of them."""

FACETS_DESCRIPTION = """\
Count the pictures of the user's collection by year, month, place, person, camera, folder, \
format, kind, keyword or rating. Use it for "which years?", "where was I?", "how many of Anna?", \
and to see how a search with many results can be narrowed. Each value has the arguments that \
narrow search_images to it: pass them beside the query and the other filters. Without a query, \
all pictures that pass the filters count; with one, its best 1,000 matches without weak ones, if \
there are others. Ask for the fields that you need.\
"""

if TYPE_CHECKING:
    FieldName = str
else:
    FieldName = Literal[tuple(FACET_FIELDS)]


class FacetsOptions(StrictModel):
    """Arguments of ``facets`` except filters."""

    by: Annotated[list[FieldName], BeforeValidator(as_list)] = Field(
        min_length=1, max_length=len(FACET_FIELDS), description="What to count by."
    )
    query: BoundedText = Field(
        "", description="What the pictures show, in English; leave it out to count all pictures."
    )
    limit: int = Field(
        20, ge=1, le=MAX_VALUES, description="Maximum number of values of each field."
    )
    fold: FoldArgument = True
    literal: LiteralArgument = False
    without: TextList = Field(
        [], description="What the pictures should not show; one thing per entry."
    )
    like: LikeIds = Field([])
    unlike: UnlikeIds = Field([])
    mode: Literal["vector", "text", "hybrid"] | None = Field(
        None, description="As for search_images; leave it out unless one of them is meant."
    )


if TYPE_CHECKING:
    FacetsArguments = FacetsOptions
else:
    FacetsArguments = add_filters(FacetsOptions, "FacetsArguments", "facets")


class FacetValueInfo(BaseModel):
    """A value and the number of its pictures."""

    value: str
    count: int
    filter: dict[str, Any] | None = Field(
        description="Arguments of search_images that narrow it to these pictures, in place of "
        "arguments of the same names; null without any."
    )


class FacetInfo(BaseModel):
    """The values of a field."""

    field: str
    values: list[FacetValueInfo]
    missing: int = Field(description="Pictures without a value.")
    more_values: int = Field(description="Further values, which are not listed.")

    @classmethod
    def from_facet(cls, facet: Facet) -> Self:
        """Make the information from a facet."""
        values = [
            FacetValueInfo(
                value=display_path(value.label),
                count=value.count,
                filter=None if value.filter is None else dict(value.filter),
            )
            for value in facet.values
        ]
        return cls(
            field=facet.field,
            values=values,
            missing=facet.missing,
            more_values=facet.distinct - len(facet.values),
        )


class FacetsOutput(BaseModel):
    """Numbers of pictures by the values of fields."""

    counted: int = Field(description="Pictures that are counted.")
    of: int = Field(description="Pictures that pass the filters, each duplicate among them.")
    facets: list[FacetInfo]
    only_weak: bool = Field(
        description="True if the query has only weak matches, which then count: say so."
    )
    understood: dict[str, Any] | None = Field(
        description="Filters that were read in the words of the query."
    )

    @classmethod
    def from_facets(cls, found: Facets) -> Self:
        """Make the output from facets."""
        facets = [FacetInfo.from_facet(facet) for facet in found.facets]
        understood = None if found.understood is None else found.understood.to_dict()
        return cls(
            counted=found.counted,
            of=found.of,
            facets=facets,
            only_weak=found.match is Band.UNLIKELY,
            understood=understood,
        )


def format_facets(output: FacetsOutput) -> str:
    """Return the output as text for a model."""
    lines = list(format_understood(output.understood))
    lines.append(
        f"{output.counted:,} pictures are counted, of {output.of:,} that pass the filters."
    )
    if output.only_weak:
        lines.append("All of them are weak matches: perhaps no picture shows this.")
    for facet in output.facets:
        lines.append(f"{FACET_FIELDS[facet.field]}:")
        lines += _format_values(facet)
    return "\n".join(lines)


def _format_values(facet: FacetInfo) -> Iterator[str]:
    for value in facet.values:
        yield f"   {value.value}: {value.count:,}{_format_arguments(value.filter)}"
    if facet.more_values:
        yield f"   and {facet.more_values:,} more values"
    if facet.missing or not facet.values:
        yield f"   without: {facet.missing:,}"


def _format_arguments(narrowing: Mapping[str, Any] | None) -> str:
    if not narrowing:
        return ""
    return " (" + display_path(", ".join(f"{k}={v!r}" for k, v in narrowing.items())) + ")"
