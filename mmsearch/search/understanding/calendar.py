"""Periods of the calendar: seasons, holidays, and periods relative to a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

DAY: Final = timedelta(days=1)

SEASON_MONTHS: Final = {"spring": 3, "summer": 6, "autumn": 9, "winter": 12}
"""First month of each season of three months, in the north. A winter is named by the year in which
it begins."""

FIXED_HOLIDAYS: Final = {
    "christmas": (12, 24, 3),
    "christmas_eve": (12, 24, 1),
    "christmas_day": (12, 25, 1),
    "boxing_day": (12, 26, 1),
    "new_years_eve": (12, 31, 2),
    "new_years_day": (1, 1, 1),
    "epiphany": (1, 6, 1),
    "candlemas": (2, 2, 1),
    "valentine": (2, 14, 1),
    "womens_day": (3, 8, 1),
    "st_patrick": (3, 17, 1),
    "st_george": (4, 23, 1),
    "liberation_day": (4, 25, 1),
    "walpurgis_night": (4, 30, 1),
    "may_day": (5, 1, 1),
    "republic_day": (6, 2, 1),
    "st_john_eve": (6, 23, 2),
    "st_john": (6, 24, 1),
    "independence_day": (7, 4, 1),
    "bastille_day": (7, 14, 1),
    "ferragosto": (8, 15, 1),
    "german_unity": (10, 3, 1),
    "halloween": (10, 31, 1),
    "all_saints": (11, 1, 1),
    "day_of_the_dead": (11, 1, 2),
    "bonfire_night": (11, 5, 1),
    "st_martin": (11, 11, 1),
    "st_nicholas": (12, 6, 1),
    "immaculate_conception": (12, 8, 1),
    "hispanic_day": (10, 12, 1),
    "st_joseph": (3, 19, 1),
}
"""Month, day, and number of days of holidays. New Year's Eve lasts into the new year."""

EASTER_HOLIDAYS: Final = {
    "fat_thursday": (-52, 1),
    "rose_monday": (-48, 1),
    "shrove_tuesday": (-47, 1),
    "ash_wednesday": (-46, 1),
    "palm_sunday": (-7, 1),
    "holy_week": (-7, 8),
    "maundy_thursday": (-3, 1),
    "good_friday": (-2, 1),
    "easter": (-2, 4),
    "holy_saturday": (-1, 1),
    "easter_sunday": (0, 1),
    "easter_monday": (1, 1),
    "ascension": (39, 1),
    "pentecost": (49, 2),
    "whit_saturday": (48, 1),
    "whit_sunday": (49, 1),
    "whit_monday": (50, 1),
    "corpus_christi": (60, 1),
}
"""Days after Easter Sunday, and number of days, of holidays that move with it."""

WEEKDAY_HOLIDAYS: Final = {
    "martin_luther_king_day": (1, 0, 3),
    "memorial_day": (5, 0, -1),
    "labor_day": (9, 0, 1),
    "columbus_day": (10, 0, 2),
    "mothers_day_es": (5, 6, 1),
    "mothers_day_de_it": (5, 6, 2),
    "mothers_day_fr": (5, 6, -1),
    "fathers_day_fr": (6, 6, 3),
    "thanksgiving": (11, 3, 4),
}
"""Month, weekday from 0 for Monday, and which one of the month, of holidays; -1 is the last."""

MAIN_DAYS: Final = {
    "christmas": "christmas_day",
    "easter": "easter_sunday",
    "pentecost": "whit_sunday",
    "new_year": "new_years_day",
}
"""The main day of holidays of several days."""

ADVENT_SUNDAYS: Final = ("advent_1", "advent_2", "advent_3", "advent_4")
"""The four Sundays before Christmas Day."""

PART_DAYS: Final = {"early": (1, 10), "mid": (11, 20), "late": (21, 31)}
"""First and last day of the parts of a month."""

PART_MONTHS: Final = {"early": (1, 3), "mid": (5, 4), "late": (10, 3)}
"""First month and number of months of the parts of a year."""

PART_YEARS: Final = {"early": (0, 4), "mid": (4, 3), "late": (7, 3)}
"""First year and number of years of the parts of a decade."""

PARTS: Final = tuple(PART_DAYS)
"""The parts, in order; each is a month of a season."""


@dataclass(frozen=True)
class Period:
    """Days on which a picture may be taken. All that is set must be true.

    Attributes:
        after: First day; None without a bound.
        before: Day after the last one; None without a bound.
        months: Months of any year, from 1; empty for all.
    """

    after: date | None = None
    before: date | None = None
    months: tuple[int, ...] = ()


def make_date(year: int, month: int, day: int = 1) -> date | None:
    """Return a day; None if there is no such day."""
    try:
        return date(year, month, day)
    except ValueError:
        return None


def whole_day(day: date | None) -> Period | None:
    """Return a day as a period; None for None."""
    return None if day is None else Period(day, day + DAY)


def year_period(year: int) -> Period:
    """Return a calendar year."""
    return Period(date(year, 1, 1), date(year + 1, 1, 1))


def month_period(year: int, month: int, months: int = 1) -> Period:
    """Return some months from one on; months below 1 and above 12 are of other years."""
    first, last = year * 12 + month - 1, year * 12 + month - 1 + months
    return Period(date(first // 12, first % 12 + 1, 1), date(last // 12, last % 12 + 1, 1))


def season_period(year: int, season: str) -> Period:
    """Return the season that begins in a year."""
    return month_period(year, SEASON_MONTHS[season], 3)


def easter_sunday(year: int) -> date:
    """Return Easter Sunday in the Gregorian calendar, by the algorithm of Meeus."""
    century, rest = divmod(year, 100)
    golden = year % 19
    shift = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * golden + century - century // 4 - shift + 15) % 30
    weekday = (32 + 2 * (century % 4) + 2 * (rest // 4) - epact - rest % 4) % 7
    correction = (golden + 11 * epact + 22 * weekday) // 451
    month, day = divmod(epact + weekday - 7 * correction + 114, 31)
    return date(year, month, day + 1)


def holiday_period(year: int, holiday: str) -> Period:
    """Return the days of a holiday in a year.

    New Year is New Year's Eve of the year before and New Year's Day.
    """
    if holiday == "new_year":
        year, holiday = year - 1, "new_years_eve"
    if holiday in FIXED_HOLIDAYS:
        month, day, days = FIXED_HOLIDAYS[holiday]
        first = date(year, month, day)
    elif holiday in EASTER_HOLIDAYS:
        offset, days = EASTER_HOLIDAYS[holiday]
        first = easter_sunday(year) + offset * DAY
    elif holiday in ADVENT_SUNDAYS:
        fourth = date(year, 12, 24)
        fourth -= (fourth.weekday() + 1) % 7 * DAY
        first, days = fourth - 7 * (3 - ADVENT_SUNDAYS.index(holiday)) * DAY, 1
    else:
        first, days = nth_weekday(year, *WEEKDAY_HOLIDAYS[holiday]), 1
        if holiday == "mothers_day_fr" and first == easter_sunday(year) + 49 * DAY:
            # On Pentecost, it is a week later (code de l'action sociale, D215-1).
            first += 7 * DAY
    return Period(first, first + days * DAY)


def nth_weekday(year: int, month: int, weekday: int, number: int) -> date:
    """Return the first (1), second (2) and so on, or last (-1), such weekday of a month."""
    if number < 0:
        last = date(year + month // 12, month % 12 + 1, 1) - DAY
        return last - (last.weekday() - weekday) % 7 * DAY
    first = date(year, month, 1)
    return first + ((weekday - first.weekday()) % 7 + 7 * (number - 1)) * DAY


def month_part(year: int, month: int, part: str) -> Period:
    """Return the ``early``, ``mid`` or ``late`` third of a month."""
    whole = month_period(year, month)
    first, last = PART_DAYS[part]
    end = whole.before if part == "late" else date(year, month, last) + DAY
    return Period(date(year, month, first), end)


def month_span(year: int, month: int, span: str, number: int) -> Period | None:
    """Return a week of seven days, a weekend or a half of a month; number -1 is the last."""
    whole = month_period(year, month)
    first, end = date(year, month, 1), whole.before
    if end is None or number == 0:
        return None
    if span == "half":
        middle = date(year, month, 16)
        return {1: Period(first, middle), 2: Period(middle, end)}.get(number)
    if span == "weekend":
        saturday = nth_weekday(year, month, 5, number)
        return Period(saturday, saturday + 2 * DAY) if saturday < end else None
    if number < 0:
        return Period(end - 7 * DAY, end)
    return Period(first + 7 * (number - 1) * DAY, first + 7 * number * DAY)


def holiday_neighbour(year: int, holiday: str, days: int) -> Period | None:
    """Return the day before (-1) or after (1) the main day of a holiday."""
    first = holiday_period(year, MAIN_DAYS.get(holiday, holiday)).after
    return None if first is None else Period(first + days * DAY, first + (days + 1) * DAY)


def year_part(year: int, part: str) -> Period:
    """Return the first or the last quarter of a year, or May to August for ``mid``."""
    return month_period(year, *PART_MONTHS[part])


def season_part(year: int, season: str, part: str) -> Period:
    """Return the first, second or third month of the season that begins in a year."""
    return month_period(year, SEASON_MONTHS[season] + PARTS.index(part))


def decade_part(first: int, part: str) -> Period:
    """Return the first four, the next three or the last three years of a decade."""
    offset, years = PART_YEARS[part]
    return Period(date(first + offset, 1, 1), date(first + offset + years, 1, 1))


def unit_period(today: date, unit: str, ago: int) -> Period:
    """Return the day, week, weekend, month or year that is some of them ago.

    Weeks begin on Monday. A weekend is the Saturday and the Sunday of a week.
    """
    monday = today - today.weekday() * DAY
    if unit == "day":
        first = today - ago * DAY
        return Period(first, first + DAY)
    if unit == "week":
        first = monday - 7 * ago * DAY
        return Period(first, first + 7 * DAY)
    if unit == "weekend":
        first = monday + (5 - 7 * ago) * DAY
        return Period(first, first + 2 * DAY)
    if unit == "month":
        return month_period(today.year, today.month - ago)
    return year_period(today.year - ago)


def last_units(today: date, unit: str, number: int) -> Period | None:
    """Return the days from a number of units ago on, without an end."""
    if unit in ("day", "week"):
        return Period(today - number * (7 if unit == "week" else 1) * DAY)
    if unit == "weekend":
        return None
    months = today.year * 12 + today.month - 1 - number * (12 if unit == "year" else 1)
    year, month = divmod(months, 12)
    if year < 1:
        return None
    for day in range(today.day, 27, -1):
        # 31 August has no day in June.
        if (first := make_date(year, month + 1, day)) is not None:
            return Period(first)
    return Period(date(year, month + 1, today.day))


def last_over(today: date, make: Callable[[int], Period], back: int = 1) -> Period:
    """Return the last yearly period that is over on a day, or the one ``back`` - 1 before it.

    Args:
        today: The day.
        make: Returns the period of a year.
        back: 1 for the last one, 2 for the one before.
    """
    year = today.year
    while (period := make(year)).before is None or period.before > today:
        year -= 1
    return make(year - back + 1)
