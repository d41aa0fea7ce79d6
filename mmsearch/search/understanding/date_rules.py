"""Rules of dates in five languages, for a day: years, months, days, seasons, holidays, ranges.

The names of rules are those of the checks in `dates`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache, partial
from typing import Any

from mmsearch.search.understanding import calendar
from mmsearch.search.understanding.calendar import DAY, Period
from mmsearch.search.understanding.matcher import MIN_YEAR, Rule, make_rule


@lru_cache(maxsize=2)
def get_rules(today: date) -> Mapping[str, Sequence[Rule]]:
    """Return the rules of a day, by the names of symbols; dates are matches of ``DATE``."""
    romance = "fr es it"
    past = partial(_Past, today)
    seasons = [
        make_rule(
            "SEASON OF? YEAR", lambda s, _, y: calendar.season_period(y, s), "", "named_year"
        ),
        make_rule("SEASON OF? SHORT_YEAR", lambda s, _, y: calendar.season_period(y, s)),
        make_rule("SEASON YEAR_PAIR", _winter, "", "named_year"),
        make_rule("SEASON SHORT_PAIR", _winter, "", "named_year"),
        make_rule(
            "SEASON OF? BARE_YEAR", lambda s, _, y: calendar.season_period(y, s), "", "bare_year"
        ),
        make_rule("PART_OF_SEASON OF? YEAR", lambda s, _, y: _season_part(y, s)),
    ]
    holidays = [
        make_rule(
            "HOLIDAY OF? YEAR", lambda h, _, y: calendar.holiday_period(y, h), "", "named_year"
        ),
        make_rule("HOLIDAY OF? SHORT_YEAR", lambda h, _, y: calendar.holiday_period(y, h)),
        make_rule(
            "HOLIDAY OF? BARE_YEAR", lambda h, _, y: calendar.holiday_period(y, h), "", "bare_year"
        ),
        make_rule(
            "HOLIDAY OCCASION YEAR",
            lambda h, _, y: calendar.holiday_period(y, h),
            "",
            "feast_before_occasion",
        ),
        make_rule("HOLIDAY DAYTIME OF? YEAR", lambda h, _, __, y: calendar.holiday_period(y, h)),
        make_rule(
            "DAY_BEFORE HOLIDAY OF? YEAR",
            lambda _, h, __, y: calendar.holiday_neighbour(y, h, -1),
        ),
        make_rule(
            "DAY_AFTER HOLIDAY OF? YEAR",
            lambda _, h, __, y: calendar.holiday_neighbour(y, h, 1),
        ),
        make_rule("TURN_OF_YEAR YEAR_PAIR", lambda _, years: _turn_of_year(years)),
        make_rule("TURN_OF_YEAR SHORT_PAIR", lambda _, years: _turn_of_year(years)),
    ]
    months = [
        make_rule("NUMERIC_MONTH", lambda found: calendar.month_period(*found)),
        make_rule("MON ,? OF? YEAR", lambda m, _, y: calendar.month_period(y, m), "", "month_year"),
        make_rule("MON OF? SHORT_YEAR", lambda m, _, y: calendar.month_period(y, m)),
        make_rule(
            "MONTH OF? BARE_YEAR", lambda m, _, y: calendar.month_period(y, m), "", "bare_year"
        ),
    ]
    days = [
        make_rule("NUMERIC_DAY", lambda found: _day(*found)),
        make_rule("DAY .? DAY_OF? MON ,? OF? YEAR", lambda d, _, m, __, y: _day(y, m, d[0])),
        make_rule("MON THE? DAY ,? YEAR", lambda m, _, d, y: _day(y, m, d[0]), "en"),
        make_rule("SHORT_NUMERIC_DAY", lambda found: _day(*found), "", "short_day"),
        make_rule(
            "DAY .? DAY_OF? DAY_MONTH .? DAY_OF? YEAR",
            lambda d, _, m, __, y: _day(y, int(m), d[0]),
        ),
        make_rule("DAY_NAME DAY_OF? MON OF? YEAR", lambda d, _, m, __, y: _day(y, m, int(d))),
    ]
    parts = _part_rules(today)
    relative = [
        make_rule("RELATIVE_DAY", past("RELATIVE_DAY"), "", "today"),
        make_rule("hier", lambda: calendar.unit_period(today, "day", 1), "fr", "hier"),
        make_rule("ABOUT? COUNT UNIT AGO_AFTER", lambda _, n, u, __: _ago(today, n, u)),
        make_rule("COUNT UNIT AGO_AFTER ABOUT", lambda n, u, *_: _ago(today, n, u), "it"),
        make_rule("AGO_BEFORE ABOUT? COUNT UNIT", lambda _, __, n, u: _ago(today, n, u)),
        make_rule("COUNT UNIT AGO_AFTER TODAY", lambda n, u, *_: _this_day_ago(today, n, u)),
        make_rule("TODAY COUNT UNIT AGO_AFTER", lambda _, n, u, __: _this_day_ago(today, n, u)),
        make_rule("TODAY AGO_BEFORE COUNT UNIT", lambda _, __, n, u: _this_day_ago(today, n, u)),
        make_rule("AGO_BEFORE COUNT UNIT TODAY", lambda _, n, u, __: _this_day_ago(today, n, u)),
        make_rule("THE? LAST COUNT UNIT", lambda _, __, n, u: calendar.last_units(today, u, n)),
        make_rule("THE? COUNT LAST UNIT", lambda _, n, __, u: calendar.last_units(today, u, n)),
        make_rule("ABOUT? COUNT SEASONS AGO_AFTER", lambda _, n, s, __: _seasons_ago(today, n, s)),
        make_rule("AGO_BEFORE ABOUT? COUNT SEASONS", lambda _, __, n, s: _seasons_ago(today, n, s)),
        make_rule("UNIT_OF THE? FULL_DAY", lambda unit, _, day: _unit_of(unit, day)),
        make_rule("THIS_YEAR", lambda _: calendar.year_period(today.year)),
        make_rule("HALF_YEAR AGO_AFTER", lambda *_: _ago(today, 6, "month")),
        make_rule("AGO_BEFORE HALF_YEAR", lambda *_: _ago(today, 6, "month")),
        make_rule("WEEKDAY ,? THE? FULL_DAY", lambda _, __, day: day),
        make_rule("SHORT_WEEKDAY .? ,? THE? FULL_DAY", lambda _, __, day: day),
    ]
    for kind, make in (
        ("SEASON", calendar.season_period),
        ("HOLIDAY", calendar.holiday_period),
        ("MON", calendar.month_period),
    ):
        # Christmas last year, im Juli letzten Jahres.
        relative.append(
            make_rule(
                f"{kind} ,? OF? RELATIVE_YEAR",
                lambda value, _, year, make=make: _begun(today, make(year, value)),
                "",
                "named_year",
            )
        )
        if kind == "MON":
            continue
        # Last year at Christmas, 2019 im Sommer.
        relative += [
            make_rule(
                f"RELATIVE_YEAR ,? AT? {kind}",
                lambda year, _, value, make=make: _begun(today, make(year, value)),
            ),
            make_rule(
                f"YEAR ,? AT {kind}",
                lambda year, _, value, make=make: make(year, value),
                "",
                "year_at",
            ),
        ]
    for kind in ("UNIT", "SEASON", "MONTH", "WEEKDAY", "HOLIDAY"):
        name = "last_unit" if kind == "UNIT" else ""
        last, before_last, this = past(kind, 1), past(kind, 2), _This(today, kind)
        relative += [
            make_rule(f"LAST {kind}", lambda _, v, make=last: make(v), "", name),
            make_rule(f"THE? {kind} LAST", lambda _, v, __, make=last: make(v), romance, name),
            make_rule(f"BEFORE_LAST {kind}", lambda _, v, make=before_last: make(v), "", name),
            make_rule(
                f"THE? {kind} BEFORE_LAST", lambda _, v, __, make=before_last: make(v), romance
            ),
            make_rule(f"THE? {kind} before last", lambda _, v, make=before_last: make(v), "en"),
            make_rule(f"THIS {kind}", lambda _, v, make=this: make(v), "", name),
        ]
    point = [*days, *months, *seasons, *holidays, *relative, *parts]

    def year_ago(number: int, unit: str) -> int | None:
        return today.year - number if unit == "year" else None

    return {
        "RELATIVE_YEAR": [
            make_rule("LAST UNIT", lambda _, unit: year_ago(1, unit)),
            make_rule("THE? UNIT LAST", lambda _, unit, __: year_ago(1, unit), romance),
            make_rule("THIS UNIT", lambda _, unit: year_ago(0, unit)),
            make_rule("BEFORE_LAST UNIT", lambda _, unit: year_ago(2, unit)),
            make_rule("THE? UNIT BEFORE_LAST", lambda _, unit, __: year_ago(2, unit), romance),
            make_rule("THE? UNIT before last", lambda _, unit: year_ago(2, unit), "en"),
            make_rule("COUNT UNIT AGO_AFTER", lambda n, unit, _: year_ago(n, unit)),
            make_rule("AGO_BEFORE COUNT UNIT", lambda _, n, unit: year_ago(n, unit)),
        ],
        "DAY_OR_MONTH": [*days, *months],
        "FULL_DAY": days,
        "MON": [
            make_rule("MONTH", lambda month: month),
            make_rule("SHORT_MONTH .?", lambda month: month),
        ],
        "PERIOD": [
            *point,
            make_rule("THE? YEAR", lambda _, year: calendar.year_period(year)),
            make_rule("YEARS_RANGE", _years),
        ],
        "TENS_OR_DECADE": [
            make_rule("DECADE YEARS?", lambda decade, _: decade),
            make_rule("TENS_NUMBER", lambda decade: decade, romance),
        ],
        "DATE": [
            *point,
            *_range_rules(today),
            make_rule("IN_YEAR YEAR", lambda _, y: calendar.year_period(y), "", "in_year"),
            make_rule("IN_YEAR SHORT_YEAR", lambda _, y: calendar.year_period(y), "", "in_year"),
            make_rule("IN_MONTH DAY_OR_MONTH", lambda _, period: period),
            make_rule("ON_DAY DAY_OR_MONTH", lambda _, period: period),
            make_rule(
                "IN_MONTH MON OF? RELATIVE_YEAR",
                lambda _, month, __, year: calendar.month_period(year, month),
            ),
            make_rule("IN_MONTH MONTH", lambda _, m: Period(months=(m,)), "", "in_month"),
            make_rule(
                "IN_MONTH MONTH AND MONTH",
                lambda _, m, __, n: Period(months=tuple(sorted({m, n}))),
                "",
                "in_month",
            ),
            make_rule(
                "ON_DAY? DAY .? DAY_OF? MONTH",
                lambda _, d, __, m: _last_day(today, m, d[0]),
                "",
                "day",
            ),
            make_rule(
                "ON_DAY? MONTH THE? DAY", lambda _, m, __, d: _last_day(today, m, d[0]), "en", "day"
            ),
            make_rule("ON_DAY DAY_AND_MONTH", lambda _, found: _last_day(today, *found), "de"),
            make_rule("ON_DAY DAY_NAME MONTH", lambda _, d, m: _last_day(today, m, int(d)), "de"),
            make_rule(
                "PART THE? DECADE YEARS?",
                lambda part, _, d, __: _decade_part(today, d, part),
                "",
                "in_decade",
            ),
            make_rule(
                "PART DECADE_OF TENS_OR_DECADE",
                lambda part, _, d: _decade_part(today, d, part),
                "",
                "in_decade",
            ),
            make_rule("IN_DECADE TENS_OR_DECADE", lambda _, d: _decade(d), "", "in_decade"),
            make_rule("DECADE_OF? DECADE YEARS?", lambda _, d, __: _decade(d), "", "of_decade"),
            make_rule("DECADE_OF TENS_NUMBER", lambda _, d: _decade(d), romance, "of_decade"),
        ],
    }


def _part_rules(today: date) -> list[Rule]:
    """Return the rules of parts of months, seasons and years: *late May 2019*, *Anfang 2018*."""
    return [
        make_rule("PART MON ,? OF? YEAR", lambda p, m, _, y: calendar.month_part(y, m, p)),
        make_rule("PART MON OF? SHORT_YEAR", lambda p, m, _, y: calendar.month_part(y, m, p)),
        make_rule("PART MON OF? RELATIVE_YEAR", lambda p, m, _, y: calendar.month_part(y, m, p)),
        make_rule("PART THE? MONTH", lambda p, _, m: _last_part(today, m, p), "", "part_of_month"),
        make_rule(
            "PART THE? SEASON OF? YEAR", lambda p, _, s, __, y: calendar.season_part(y, s, p)
        ),
        make_rule(
            "PART THE? SEASON OF? RELATIVE_YEAR",
            lambda p, _, s, __, y: calendar.season_part(y, s, p),
        ),
        make_rule(
            "NTH SPAN MON ,? OF? YEAR",
            lambda n, span, m, _, y: calendar.month_span(y, m, span, int(n)),
        ),
        make_rule("NTH MONTH_WEEK YEAR", lambda n, m, y: calendar.month_span(y, m, "week", int(n))),
        make_rule(
            "NTH MONTH_WEEKEND YEAR", lambda n, m, y: calendar.month_span(y, m, "weekend", int(n))
        ),
        make_rule("NTH MONTH_HALF YEAR", lambda n, m, y: calendar.month_span(y, m, "half", int(n))),
        make_rule("NTH SPAN THE? YEAR", lambda n, span, _, y: _half_year(y, span, int(n))),
        make_rule("NTH QUARTER OF? YEAR", lambda n, _, __, y: _quarter(y, int(n))),
        make_rule("SHORT_QUARTER OF? YEAR", lambda n, _, y: _quarter(y, int(n))),
        make_rule("PART THE? YEAR", lambda p, _, y: calendar.year_part(y, p), "", "part_of_year"),
        make_rule("PART THE? RELATIVE_YEAR", lambda p, _, y: calendar.year_part(y, p)),
    ]


def _range_rules(today: date) -> list[Rule]:
    def months_of_year(first: int, last: int, year: int) -> Period | None:
        return calendar.month_period(year, first, last - first + 1) if first < last else None

    def days_of_month(first: int, last: int, month: int, year: int) -> Period | None:
        return _between(_day(year, month, first), _day(year, month, last))

    def months(first: int, last: int) -> Period | None:
        if first == last:
            return None
        return Period(
            months=tuple((first + n - 1) % 12 + 1 for n in range((last - first) % 12 + 1))
        )

    rules = [
        make_rule("YEARS_RANGE", _years),
        make_rule("NUMERIC_DAYS", lambda days: _between(_day(*days[0]), _day(*days[1]))),
        make_rule("PERIOD TO THE? PERIOD", lambda a, _, __, b: _between(a, b)),
        make_rule("YEAR AND YEAR", lambda a, _, b: _years((a, b)) if b == a + 1 else None),
        make_rule("SINCE THE? PERIOD", lambda _, __, p: Period(p.after) if p.after else None),
        make_rule("FROM PERIOD ON", lambda _, p, __: Period(p.after) if p.after else None),
        make_rule("SINCE MONTH", lambda _, m: Period(_last_month(today, m).after)),
        make_rule(
            "BEFORE THE? PERIOD", lambda _, __, p: Period(None, p.after) if p.after else None
        ),
        make_rule("AFTER THE? PERIOD", lambda _, __, p: Period(p.before) if p.before else None),
        make_rule(
            "UNTIL THE? PERIOD INCLUSIVE?",
            lambda _, __, p, ___: Period(None, p.before) if p.before else None,
        ),
        make_rule(
            "UNTIL THE? END_OF THE? PERIOD",
            lambda _, __, ___, ____, p: Period(None, p.before) if p.before else None,
        ),
        make_rule(
            "DAY_PAIR DAY_OF? MON ,? OF? YEAR",
            lambda days, _, m, __, y: days_of_month(days[0], days[1], m, y),
        ),
        make_rule(
            "ON_DAY? DAY .? AND DAY .? DAY_OF? MON OF? YEAR",
            lambda _, a, __, b, ___, m, ____, y: (
                days_of_month(a[0], b[0], m, y) if b[0] == a[0] + 1 else None
            ),
        ),
        make_rule(
            "MONTH_PAIR OF? YEAR", lambda months, _, y: months_of_year(months[0], months[1], y)
        ),
        make_rule(
            "MON AND MON OF? YEAR",
            lambda a, _, b, __, y: months_of_year(a, b, y) if b == a + 1 else None,
        ),
        make_rule(
            "BETWEEN HOLIDAY AND HOLIDAY OF? YEAR",
            lambda _, a, __, b, ___, y: _between_holidays(y, a, b),
        ),
        make_rule(
            "FROM? DAY .? TO DAY .? DAY_OF? MON OF? YEAR",
            lambda _, a, __, b, ___, m, ____, y: days_of_month(a[0], b[0], m, y),
        ),
        make_rule("MON TO MON OF? YEAR", lambda a, _, b, __, y: months_of_year(a, b, y)),
    ]
    for first, second in (("BETWEEN", "AND"), ("FROM", "TO")):
        rules += [
            make_rule(
                f"{first} THE? DAY .? {second} THE? DAY .? DAY_OF? MON OF? YEAR",
                lambda _, __, a, ___, ____, b, _____, m, ______, y: days_of_month(a[0], b[0], m, y),
            ),
            make_rule(
                f"{first} THE? DAY .? DAY_OF? MON {second} THE? DAY .? DAY_OF? MON OF? YEAR",
                lambda *v: _between(_day(v[11], v[4], v[2][0]), _day(v[11], v[9], v[7][0])),
            ),
            make_rule(
                f"{first} THE? PERIOD {second} THE? PERIOD",
                lambda _, __, a, ___, ____, b: _between(a, b),
            ),
            make_rule(
                f"{first} MON {second} MON OF? YEAR",
                lambda _, a, __, b, ___, y: months_of_year(a, b, y),
            ),
            make_rule(f"{first} MONTH {second} MONTH", lambda _, a, __, b: months(a, b)),
        ]
    return rules


class _Past:
    """The last season, month, weekday, holiday or calendar unit that is over on a day."""

    def __init__(self, today: date, kind: str, back: int = 1) -> None:
        self._today, self._kind, self._back = today, kind, back

    def __call__(self, value: Any) -> Period | None:
        today, back = self._today, self._back
        if self._kind == "RELATIVE_DAY":
            return calendar.unit_period(today, "day", int(value))
        if self._kind == "UNIT":
            # The last day of the holidays is no date.
            return None if value == "day" else calendar.unit_period(today, value, back)
        if self._kind == "WEEKDAY":
            days = (today.weekday() - value - 1) % 7 + 1 + 7 * (back - 1)
            return calendar.unit_period(today, "day", days)
        return calendar.last_over(today, _yearly(self._kind, value), back)


class _This:
    """The season, month, holiday or calendar unit of this year, unless it is still to come."""

    def __init__(self, today: date, kind: str) -> None:
        self._today, self._kind = today, kind

    def __call__(self, value: Any) -> Period | None:
        today = self._today
        if self._kind == "UNIT":
            if value == "day":
                return None
            period = calendar.unit_period(today, value, 0)
            return period if period.after is not None and period.after <= today else None
        if self._kind == "WEEKDAY":
            return None
        make = _yearly(self._kind, value)
        period = make(today.year)
        if value == "winter" and today.month <= 2:
            period = make(today.year - 1)
        return period if period.after is not None and period.after <= today else None


def _yearly(kind: str, value: Any) -> Callable[[int], Period]:
    """Return the function from a year to a season, month or holiday in it."""
    if kind == "SEASON":
        return lambda year: calendar.season_period(year, value)
    if kind == "MONTH":
        return lambda year: calendar.month_period(year, value)
    return lambda year: calendar.holiday_period(year, value)


def _day(year: int, month: int, day: int) -> Period | None:
    return calendar.whole_day(calendar.make_date(year, month, day))


def _last_day(today: date, month: int, day: int) -> Period | None:
    """Return the last such day of any year, which may be today."""
    for year in range(today.year, today.year - 9, -1):
        found = calendar.make_date(year, month, day)
        if found is not None and found <= today:
            return calendar.whole_day(found)
    return None


def _last_part(today: date, month: int, part: str) -> Period | None:
    """Return the last such part of a month of any year that has begun."""
    period = calendar.month_part(today.year, month, part)
    if period.after is not None and period.after > today:
        period = calendar.month_part(today.year - 1, month, part)
    return period


def _begun(today: date, period: Period) -> Period | None:
    return period if period.after is not None and period.after <= today else None


def _seasons_ago(today: date, number: int, season: str) -> Period | None:
    """Return the last season that is over (1), the one before (2) and so on."""
    if number > today.year - MIN_YEAR:
        return None
    return calendar.last_over(today, _yearly("SEASON", season), number)


def _unit_of(unit: str, day: Period | None) -> Period | None:
    """Return the week or the weekend around a day."""
    return None if day is None or day.after is None else calendar.unit_period(day.after, unit, 0)


def _half_year(year: int, span: str, number: int) -> Period | None:
    if span != "half" or number not in (1, 2):
        return None
    return calendar.month_period(year, 6 * number - 5, 6)


def _quarter(year: int, number: int) -> Period | None:
    return calendar.month_period(year, 3 * number - 2, 3) if number > 0 else None


def _this_day_ago(today: date, number: int, unit: str) -> Period | None:
    """Return the same day some units ago: *a year ago today*."""
    if unit in ("day", "weekend"):
        return None
    found = calendar.last_units(today, unit, number)
    return None if found is None else calendar.whole_day(found.after)


def _season_part(year: int, named: str) -> Period:
    part, season = named.split()
    return calendar.season_part(year, season, part)


def _turn_of_year(years: tuple[int, int]) -> Period:
    return calendar.holiday_period(years[0], "new_years_eve")


def _between_holidays(year: int, first: str, last: str) -> Period | None:
    """Return the days between two holidays of a year; New Year is at its end."""
    start, end = calendar.holiday_period(year, first), calendar.holiday_period(year, last)
    if start.after is not None and end.after is not None and end.after < start.after:
        end = calendar.holiday_period(year + 1, last)
    return _between(start, end)


def _last_month(today: date, month: int) -> Period:
    """Return the last such month that has begun."""
    return calendar.month_period(today.year - (month > today.month), month)


def _ago(today: date, number: int, unit: str) -> Period | None:
    if unit == "weekend" or (unit == "year" and number > today.year - MIN_YEAR):
        return None
    return calendar.unit_period(today, unit, number)


def _winter(season: str, years: tuple[int, int]) -> Period | None:
    return calendar.season_period(years[0], season) if season == "winter" else None


def _years(years: tuple[int, int]) -> Period:
    return Period(date(years[0], 1, 1), date(years[1] + 1, 1, 1))


def _decade(first: int) -> Period:
    return Period(date(first, 1, 1), date(first + 10, 1, 1))


def _decade_part(today: date, first: int, part: str) -> Period | None:
    period = calendar.decade_part(first, part)
    return period if period.after is not None and period.after <= today else None


def _between(first: Period | None, last: Period | None) -> Period | None:
    if first is None or last is None or first.after is None or last.before is None:
        return None
    if last.after is None or first.after > last.after or first.after + DAY > last.before:
        return None
    return Period(first.after, last.before)
