"""Parts of periods, ranges, feasts and misspelt dates in the words of queries."""

from datetime import date

import pytest

from mmsearch.search.understanding.anchors import may_have_date, split_folded
from mmsearch.search.understanding.calendar import holiday_period
from mmsearch.search.understanding.reader import read_text

TODAY = date(2026, 11, 30)
"""A Monday."""


def read(query):
    """Return the dates as ``after/before`` or as months, and the text; None if nothing is read."""
    reading = read_text(query, TODAY)
    if reading is None:
        return None
    found = reading.understood()
    days = f"{found.after or ''}/{found.before or ''}"
    return "+".join(map(str, found.months)) or days, found.text


EARLY_MAY = "2019-05-01/2019-05-11"
MID_MAY = "2019-05-11/2019-05-21"
LATE_MAY = "2019-05-21/2019-06-01"
EARLY_2019 = "2019-01-01/2019-04-01"
MID_2019 = "2019-05-01/2019-09-01"
LATE_2019 = "2019-10-01/2020-01-01"
LATE_SUMMER = "2019-08-01/2019-09-01"
EARLY_NINETIES = "1990-01-01/1994-01-01"
LATE_EIGHTIES = "1987-01-01/1990-01-01"
UNTIL_3_MAY = "/2019-05-04"
SINCE_3_MAY = "2019-05-03/"
JUNE_AND_JULY = "2019-06-01/2019-08-01"
THREE_DAYS = "2019-12-24/2019-12-27"
DAY = "2019-05-03/2019-05-04"
JULY_2025 = "2025-07-01/2025-08-01"
YESTERDAY = "2026-11-29/2026-11-30"
TODAY_ONLY = "2026-11-30/2026-12-01"


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("early May 2019", EARLY_MAY),
        ("at the beginning of May 2019", EARLY_MAY),
        ("Anfang Mai 2019", EARLY_MAY),
        ("début mai 2019", EARLY_MAY),
        ("au début de mai 2019", EARLY_MAY),
        ("a principios de mayo de 2019", EARLY_MAY),
        ("a inicios de mayo de 2019", EARLY_MAY),
        ("inizio maggio 2019", EARLY_MAY),
        ("ai primi di maggio 2019", EARLY_MAY),
        ("mid-May 2019", MID_MAY),
        ("mid May 2019", MID_MAY),
        ("in the middle of May 2019", MID_MAY),
        ("Mitte Mai 2019", MID_MAY),
        ("à la mi-mai 2019", MID_MAY),
        ("mi mai 2019", MID_MAY),
        ("mediados de mayo de 2019", MID_MAY),
        ("a metà maggio 2019", MID_MAY),
        ("late May 2019", LATE_MAY),
        ("end of May 2019", LATE_MAY),
        ("gegen Ende Mai 2019", LATE_MAY),
        ("fin mai 2019", LATE_MAY),
        ("a finales de mayo de 2019", LATE_MAY),
        ("fine maggio 2019", LATE_MAY),
        ("late 2019", LATE_2019),
        ("Ende 2019", LATE_2019),
        ("fin 2019", LATE_2019),
        ("finales de 2019", LATE_2019),
        ("alla fine del 2019", LATE_2019),
        ("early 2019", EARLY_2019),
        ("Anfang des Jahres 2019", EARLY_2019),
        ("Anfang 2019", EARLY_2019),
        ("début 2019", EARLY_2019),
        ("inizio 2019", EARLY_2019),
        ("mid 2019", MID_2019),
        ("mid-2019", MID_2019),
        ("Mitte 2019", MID_2019),
        ("mi-2019", MID_2019),
        ("late last year", "2025-10-01/2026-01-01"),
        ("Ende letzten Jahres", "2025-10-01/2026-01-01"),
        ("a finales del año pasado", "2025-10-01/2026-01-01"),
        ("late summer 2019", LATE_SUMMER),
        ("Spätsommer 2019", LATE_SUMMER),
        ("fin de l'été 2019", LATE_SUMMER),
        ("finales del verano de 2019", LATE_SUMMER),
        ("fine estate 2019", LATE_SUMMER),
        ("Frühsommer 2019", "2019-06-01/2019-07-01"),
        ("in the early 90s", EARLY_NINETIES),
        ("Anfang der 90er", EARLY_NINETIES),
        ("début des années 90", EARLY_NINETIES),
        ("principios de los 90", EARLY_NINETIES),
        ("inizio anni '90", EARLY_NINETIES),
        ("late 1980s", LATE_EIGHTIES),
        ("Ende der 80er Jahre", LATE_EIGHTIES),
        ("fine anni ottanta", LATE_EIGHTIES),
        # the last one that has begun
        ("Ende Oktober", "2026-10-21/2026-11-01"),
        ("late december", "2025-12-21/2026-01-01"),
        ("à la mi-août", "2026-08-11/2026-08-21"),
        ("metà ottobre", "2026-10-11/2026-10-21"),
    ],
)
def test_parts_of_months_seasons_years_and_decades(query, days):
    assert may_have_date(query, split_folded(query))
    assert read(query) == (days, "")


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("until 3 May 2019", UNTIL_3_MAY),
        ("up to and including 3 May 2019", UNTIL_3_MAY),
        ("bis zum 3. Mai 2019", UNTIL_3_MAY),
        ("bis einschließlich 3. Mai 2019", UNTIL_3_MAY),
        ("jusqu'au 3 mai 2019", UNTIL_3_MAY),
        ("jusqu'au 3 mai 2019 inclus", UNTIL_3_MAY),
        ("hasta el 3 de mayo de 2019", UNTIL_3_MAY),
        ("fino al 3 maggio 2019", UNTIL_3_MAY),
        ("until the end of 2018", "/2019-01-01"),
        ("bis Ende 2018", "/2019-01-01"),
        ("jusqu'à fin 2018", "/2019-01-01"),
        ("hasta finales de 2018", "/2019-01-01"),
        ("fino alla fine del 2018", "/2019-01-01"),
        ("bis Mitte Mai 2019", "/2019-05-21"),
        ("fino all'estate 2019", "/2019-09-01"),
        ("since the 3rd of May 2019", SINCE_3_MAY),
        ("seit dem 3. Mai 2019", SINCE_3_MAY),
        ("à partir du 3 mai 2019", SINCE_3_MAY),
        ("depuis le 3 mai 2019", SINCE_3_MAY),
        ("a partir del 3 de mayo de 2019", SINCE_3_MAY),
        ("a partire dal 3 maggio 2019", SINCE_3_MAY),
        ("vor dem 3. Mai 2019", "/2019-05-03"),
        ("avant le 3 mai 2019", "/2019-05-03"),
        ("after the summer of 2019", "2019-09-01/"),
        ("June and July 2019", JUNE_AND_JULY),
        ("Juni/Juli 2019", JUNE_AND_JULY),
        ("juin et juillet 2019", JUNE_AND_JULY),
        ("junio y julio de 2019", JUNE_AND_JULY),
        ("giugno e luglio 2019", JUNE_AND_JULY),
        ("24-26 December 2019", THREE_DAYS),
        ("24.-26. Dezember 2019", THREE_DAYS),
        ("24.-26.12.2019", THREE_DAYS),
        ("24-26 décembre 2019", THREE_DAYS),
        ("24.12.-26.12.2019", THREE_DAYS),
        ("24.12.-1.1.2020", "2019-12-24/2020-01-02"),
        ("3 and 4 May 2019", "2019-05-03/2019-05-05"),
        ("el 3 y 4 de mayo de 2019", "2019-05-03/2019-05-05"),
        ("between Christmas and New Year 2019", "2019-12-24/2020-01-02"),
        ("zwischen Weihnachten und Neujahr 2019", "2019-12-24/2020-01-02"),
        ("entre Noël et nouvel an 2019", "2019-12-24/2020-01-02"),
        ("winter 20/21", "2020-12-01/2021-03-01"),
        ("Silvester 21/22", "2021-12-31/2022-01-02"),
        ("Jahreswechsel 2021/22", "2021-12-31/2022-01-02"),
    ],
)
def test_ends_and_ranges(query, days):
    assert read(query) == (days, "")


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("Saturday 3 May 2019", DAY),
        ("Samstag, 3. Mai 2019", DAY),
        ("am Samstag, dem 3. Mai 2019", DAY),
        ("samedi 3 mai 2019", DAY),
        ("el sábado 3 de mayo de 2019", DAY),
        ("3.5.19", DAY),
        ("03/05/19", DAY),
        ("20190503", DAY),
        ("the third of May 2019", DAY),
        ("am dritten Mai 2019", DAY),
        ("tres de mayo de 2019", DAY),
        ("cinco de mayo de 2019", "2019-05-05/2019-05-06"),
        ("05.2019", "2019-05-01/2019-06-01"),
        ("2019/05", "2019-05-01/2019-06-01"),
        ("in '98", "1998-01-01/1999-01-01"),
        ("nel '98", "1998-01-01/1999-01-01"),
        ("estate del '98", "1998-06-01/1998-09-01"),
        ("verano del 98", "1998-06-01/1998-09-01"),
        ("Sommer 98", "1998-06-01/1998-09-01"),
        ("juillet 98", "1998-07-01/1998-08-01"),
        ("last year in July", JULY_2025),
        ("letztes Jahr im Juli", JULY_2025),
        ("l'an dernier en juillet", JULY_2025),
        ("el año pasado en julio", JULY_2025),
        ("l'anno scorso a luglio", JULY_2025),
        ("a couple of weeks ago", "2026-11-16/2026-11-23"),
        ("hace un par de semanas", "2026-11-16/2026-11-23"),
        ("un paio di settimane fa", "2026-11-16/2026-11-23"),
        ("vor einem halben Jahr", "2026-05-01/2026-06-01"),
        ("2 yrs ago", "2024-01-01/2025-01-01"),
        ("last night", YESTERDAY),
        ("letzte Nacht", YESTERDAY),
        ("la nuit dernière", YESTERDAY),
        ("anoche", YESTERDAY),
        ("this morning", TODAY_ONLY),
        ("ce matin", TODAY_ONLY),
        ("stamattina", TODAY_ONLY),
    ],
)
def test_days_and_years_in_other_forms(query, days):
    assert may_have_date(query, split_folded(query))
    assert read(query) == (days, "")


@pytest.mark.parametrize(
    ("query", "day"),
    [
        ("Rosenmontag 2024", "2024-02-12"),
        ("Mardi Gras 2024", "2024-02-13"),
        ("martedì grasso 2024", "2024-02-13"),
        ("Aschermittwoch 2024", "2024-02-14"),
        ("Palm Sunday 2024", "2024-03-24"),
        ("jueves santo 2024", "2024-03-28"),
        ("procesión de viernes santo 2024", "2024-03-29"),
        ("Ascension 2024", "2024-05-09"),
        ("Christi Himmelfahrt 2024", "2024-05-09"),
        ("lundi de Pentecôte 2024", "2024-05-20"),
        ("Fronleichnam 2024", "2024-05-30"),
        ("reyes 2024", "2024-01-06"),
        ("New Year's Day 2024", "2024-01-01"),
        ("jour de l'an 2024", "2024-01-01"),
        ("memorial day 2024", "2024-05-27"),
        ("labor day 2024", "2024-09-02"),
        ("Thanksgiving 2024", "2024-11-28"),
        ("2. Weihnachtsfeiertag 2024", "2024-12-26"),
        ("1. Advent 2024", "2024-12-01"),
        ("vierter Advent 2022", "2022-12-18"),
        ("Walpurgisnacht 2024", "2024-04-30"),
        ("festa della Repubblica 2024", "2024-06-02"),
        ("Muttertag 2019", "2019-05-12"),
        ("Vatertag 2019", "2019-05-30"),
        ("fête des mères 2019", "2019-05-26"),
        ("fête des mères 2020", "2020-06-07"),
        ("fête des pères 2019", "2019-06-16"),
        ("día de la madre 2019", "2019-05-05"),
        ("día del padre 2019", "2019-03-19"),
        ("festa della mamma 2019", "2019-05-12"),
        ("festa del papà 2019", "2019-03-19"),
    ],
)
def test_feasts_of_one_day(query, day):
    days, _ = read(query)
    assert days.split("/")[0] == day
    assert date.fromisoformat(days.split("/")[1]).toordinal() == (
        date.fromisoformat(day).toordinal() + 1
    )


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("first week of June 2020", "2020-06-01/2020-06-08"),
        ("erste Juniwoche 2020", "2020-06-01/2020-06-08"),
        ("première semaine de juin 2020", "2020-06-01/2020-06-08"),
        ("primera semana de junio de 2020", "2020-06-01/2020-06-08"),
        ("prima settimana di giugno 2020", "2020-06-01/2020-06-08"),
        ("letzte Juliwoche 2022", "2022-07-25/2022-08-01"),
        ("last weekend of July 2022", "2022-07-30/2022-08-01"),
        ("première quinzaine d'août 2020", "2020-08-01/2020-08-16"),
        ("zweite Augusthälfte 2020", "2020-08-16/2020-09-01"),
        ("first half of 2019", "2019-01-01/2019-07-01"),
        ("third quarter 2021", "2021-07-01/2021-10-01"),
        ("Q3 2021", "2021-07-01/2021-10-01"),
        ("3. Quartal 2021", "2021-07-01/2021-10-01"),
        ("2e trimestre 2021", "2021-04-01/2021-07-01"),
        ("segundo trimestre de 2021", "2021-04-01/2021-07-01"),
        ("secondo trimestre 2021", "2021-04-01/2021-07-01"),
        ("christmas morning 2018", "2018-12-24/2018-12-27"),
        ("la veille de Pâques 2017", "2017-04-15/2017-04-16"),
        ("la víspera de Reyes 2019", "2019-01-05/2019-01-06"),
        ("vigilia di Pasqua 2017", "2017-04-15/2017-04-16"),
        ("the day after Christmas 2019", "2019-12-26/2019-12-27"),
        ("der Tag nach Weihnachten 2019", "2019-12-26/2019-12-27"),
        ("lendemain de Noël 2019", "2019-12-26/2019-12-27"),
        ("Pfingstsamstag 2019", "2019-06-08/2019-06-09"),
        ("Osterwochenende 2018", "2018-03-30/2018-04-03"),
        ("last year at Christmas", "2025-12-24/2025-12-27"),
        ("letztes Jahr an Weihnachten", "2025-12-24/2025-12-27"),
        ("l'année dernière à Noël", "2025-12-24/2025-12-27"),
        ("el año pasado en Navidad", "2025-12-24/2025-12-27"),
        ("l'anno scorso a Natale", "2025-12-24/2025-12-27"),
        ("vorletztes Jahr im Herbst", "2024-09-01/2024-12-01"),
        ("the year before last in summer", "2024-06-01/2024-09-01"),
        ("this year at Easter", "2026-04-03/2026-04-07"),
        ("2019 im Sommer", "2019-06-01/2019-09-01"),
        ("2019 at Christmas", "2019-12-24/2019-12-27"),
        ("two summers ago", "2025-06-01/2025-09-01"),
        ("vor zwei Sommern", "2025-06-01/2025-09-01"),
        ("il y a deux étés", "2025-06-01/2025-09-01"),
        ("hace dos veranos", "2025-06-01/2025-09-01"),
        ("due estati fa", "2025-06-01/2025-09-01"),
        ("the weekend of 14 July 2018", "2018-07-14/2018-07-16"),
        ("le week-end du 14 juillet 2018", "2018-07-14/2018-07-16"),
        ("la semaine du 12 juillet 2018", "2018-07-09/2018-07-16"),
        ("a year ago today", "2025-11-30/2025-12-01"),
        ("heute vor einem Jahr", "2025-11-30/2025-12-01"),
        ("hoy hace un año", "2025-11-30/2025-12-01"),
        ("oggi un anno fa", "2025-11-30/2025-12-01"),
        ("about two years ago", "2024-01-01/2025-01-01"),
        ("vor gut zwei Jahren", "2024-01-01/2025-01-01"),
        ("il y a environ deux ans", "2024-01-01/2025-01-01"),
        ("hace unos dos años", "2024-01-01/2025-01-01"),
        ("circa due anni fa", "2024-01-01/2025-01-01"),
        ("il y a une dizaine d'années", "2016-01-01/2017-01-01"),
        ("una decina di anni fa", "2016-01-01/2017-01-01"),
        ("wed 4 mar 2020", "2020-03-04/2020-03-05"),
        ("Sa 12.3.2022", "2022-03-12/2022-03-13"),
        ("sam. 12 mars 2022", "2022-03-12/2022-03-13"),
        ("sáb 12/03/2022", "2022-03-12/2022-03-13"),
        ("sab 12 marzo 2022", "2022-03-12/2022-03-13"),
        ("zwischen 3. und 10. August 2021", "2021-08-03/2021-08-11"),
        ("entre le 3 et le 10 août 2021", "2021-08-03/2021-08-11"),
        ("vom 20. Juli bis 3. August 2021", "2021-07-20/2021-08-04"),
        ("del 20 de julio al 3 de agosto de 2021", "2021-07-20/2021-08-04"),
        ("courant 2018", "2018-01-01/2019-01-01"),
        ("allá por 2007", "2007-01-01/2008-01-01"),
        ("nel lontano 2007", "2007-01-01/2008-01-01"),
    ],
)
def test_weeks_quarters_eves_and_abbreviations(query, days):
    assert may_have_date(query, split_folded(query))
    assert read(query) == (days, "")


@pytest.mark.parametrize("year", [2022, 2023, 2028])
def test_the_fourth_advent_is_the_last_sunday_before_christmas_day(year):
    sunday = holiday_period(year, "advent_4").after
    assert sunday.weekday() == 6
    assert 18 <= sunday.day <= 24


@pytest.mark.parametrize(
    ("query", "days", "text"),
    [
        ("garden in novmber 2020", "2020-11-01/2020-12-01", "garden"),
        ("septmber 2021", "2021-09-01/2021-10-01", ""),
        ("agosot 2019", "2019-08-01/2019-09-01", ""),
        ("novimbre de 2020", "2020-11-01/2020-12-01", ""),
        ("weinachten 2020", "2020-12-24/2020-12-27", ""),
        ("haloween 2020", "2020-10-31/2020-11-01", ""),
        ("last sumer", "2026-06-01/2026-09-01", ""),
        ("last staurday", "2026-11-28/2026-11-29", ""),
        # other words
        ("junior 2019", "2019-01-01/2020-01-01", "junior"),
        ("julia 2019", "2019-01-01/2020-01-01", "julia"),
        ("augusta 2019", "2019-01-01/2020-01-01", "augusta"),
        ("winner 2019", "2019-01-01/2020-01-01", "winner"),
        ("Saint-Sylvestre 2023", "2023-12-31/2024-01-02", ""),
        ("feria de abril 2018", "2018-01-01/2019-01-01", "feria de abril"),
    ],
)
def test_misspelt_names_beside_a_year_or_last(query, days, text):
    assert read(query) == (days, text)


@pytest.mark.parametrize(
    ("query", "days", "text"),
    [
        ("the 90s family portraits", "1990-01-01/2000-01-01", "family portraits"),
        ("anni '60 nonni", "1960-01-01/1970-01-01", "nonni"),
        ("in den Achtzigern Familie im Garten", "1980-01-01/1990-01-01", "Familie im Garten"),
        ("photos taken in July 2022", "2022-07-01/2022-08-01", ""),
        ("photos prises en juillet 2022", "2022-07-01/2022-08-01", ""),
        ("foto scattate a luglio 2022", "2022-07-01/2022-08-01", ""),
        ("meta 2019", "2019-01-01/2020-01-01", "meta"),
        ("train 2019", "2019-01-01/2020-01-01", "train"),
        ("rentrée 2019 cartable", "2019-01-01/2020-01-01", "rentrée cartable"),
        ("boxing day walk 2019", "2019-12-26/2019-12-27", "walk"),
        ("christmas dinner 2018 at grandma's", "2018-12-24/2018-12-27", "dinner at grandma's"),
        ("christmas tree 2018", "2018-01-01/2019-01-01", "christmas tree"),
        ("la cena de navidad 2019", "2019-12-24/2019-12-27", "la cena"),
        ("repas de Noël 2019", "2019-12-24/2019-12-27", "repas"),
        ("pranzo di Natale 2019", "2019-12-24/2019-12-27", "pranzo"),
        ("albero di Natale 2019", "2019-01-01/2020-01-01", "albero di Natale"),
        ("2019 in summer dresses", "2019-01-01/2020-01-01", "in summer dresses"),
        ("2019 in summer", "2019-06-01/2019-09-01", ""),
        ("2019 im Sommer Wandern", "2019-06-01/2019-09-01", "Wandern"),
        ("procesión semana santa 2022", "2022-04-10/2022-04-18", "procesión"),
        ("Karwoche 2022 Prozession", "2022-04-10/2022-04-18", "Prozession"),
        ("semaine sainte 2022 à Rome", "2022-04-10/2022-04-18", "à Rome"),
        ("settimana santa 2022 processione", "2022-04-10/2022-04-18", "processione"),
        ("mother's day 2019", "2019-01-01/2020-01-01", "mother's day"),
        ("Herbstferien 2022 Drachen", "2022-01-01/2023-01-01", "Herbstferien Drachen"),
        ("mi 2020 en fotos", "2020-01-01/2021-01-01", ""),
    ],
)
def test_words_around_a_date(query, days, text):
    assert read(query) == (days, text)


@pytest.mark.parametrize(
    "query",
    """
    novmber
    sumer
    80s wedding dress
    early 90s diner
    années 70 voiture de papa
    in the 80s style
    canzone 4 marzo 1943
    chanson 14 juillet 2019
    Zeitung vom 9. November 1989
    newspaper 11 September 2001
    late for the bus
    end of the world
    fine wine
    fin de semana
    début de soirée
    python 3.10.21
    version 3.10.21
    24-26 cm
    3-4 people
    summer 99 cents
    silvester 21/23
    Mitte
    midsummer
    mid-century chair
    mi-temps
    lettre datée de 1912
    carta fechada en 1912
    lettera datata 1912
    autobus 2022 alla fermata
    last week of school
    first half of the match
    zweite Hälfte
    q3 oil
    day after day
    last night of the proms
    Spätlese 2019
    barolo 2015
    summers
    2 summers
    12.5.20 mm
    screw 3.5.12
    Schraube 3.5.12
    end of 2000 miles
    fin de 2000 milles
    """.strip().split("\n    "),
)
def test_what_may_be_something_else_stays_text(query):
    assert read(query.strip()) is None
