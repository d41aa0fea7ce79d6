"""Words of dates in English, German, French, Spanish and Italian.

Python tables instead of a data file: a query reads them at every start of the command, and parsing
TOML would take longer than the search. Words are folded: lower case, without accents. A phrase
may have several words; an apostrophe ends a word (``l' ete``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

LANGUAGES: Final = ("en", "de", "fr", "es", "it")

Entry: TypeAlias = tuple[tuple[str, ...], str, Any, int]
"""The words of a phrase, its class, its value, and its languages as bits."""

_MONTHS = {
    "en": "january february march april may june july august september october november december",
    "de": "januar februar marz april mai juni juli august september oktober november dezember",
    "fr": "janvier fevrier mars avril mai juin juillet aout septembre octobre novembre decembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre"
    " diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre"
    " dicembre",
}

_SHORT_MONTHS = {
    "en": {
        "jan": 1, "feb": 2, "apr": 4, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "sept": 9,
        "oct": 10, "nov": 11, "dec": 12,
    },
    "de": {
        "jan": 1, "feb": 2, "apr": 4, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "sept": 9,
        "okt": 10, "nov": 11, "dez": 12,
    },
    "fr": {"janv": 1, "fevr": 2, "avr": 4, "juil": 7, "sept": 9, "oct": 10, "nov": 11, "dec": 12},
    "es": {"ene": 1, "feb": 2, "abr": 4, "jun": 6, "jul": 7, "sept": 9, "oct": 10, "nov": 11,
           "dic": 12},
    "it": {"genn": 1, "gen": 1, "feb": 2, "apr": 4, "giu": 6, "lug": 7, "sett": 9, "ott": 10,
           "nov": 11, "dic": 12},
}  # fmt: skip
"""Abbreviations, without those that are common words: *mar*, *ago*, *set*."""

_WEEKDAYS = {
    "en": "monday tuesday wednesday thursday friday saturday sunday",
    "de": "montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "es": "lunes martes miercoles jueves viernes sabado domingo",
    "it": "lunedi martedi mercoledi giovedi venerdi sabato domenica",
}

_NUMBERS = {
    "en": "a/an/one two three four five six seven eight nine ten eleven twelve",
    "de": "ein/eine/einem/einer/einen zwei drei vier funf sechs sieben acht neun zehn elf zwolf",
    "fr": "un/une deux trois quatre cinq six sept huit neuf dix onze douze",
    "es": "un/una dos tres cuatro cinco seis siete ocho nueve diez once doce",
    "it": "un/una/un' due tre quattro cinque sei sette otto nove dieci undici dodici",
}

_MORE_NUMBERS = (
    ("fifteen", 15, "en"), ("twenty", 20, "en"), ("thirty", 30, "en"),
    ("funfzehn", 15, "de"), ("zwanzig", 20, "de"), ("dreissig", 30, "de"),
    ("quinze", 15, "fr"), ("vingt", 20, "fr"), ("trente", 30, "fr"),
    ("quince", 15, "es"), ("veinte", 20, "es"), ("treinta", 30, "es"),
    ("quindici", 15, "it"), ("venti", 20, "it"), ("trenta", 30, "it"),
)  # fmt: skip

_WORDS: dict[str, dict[str, dict[str, str]]] = {
    # A value, and the words for it in each language, separated by commas.
    "SEASON": {
        "spring": {"en": "spring", "de": "fruhling, fruhjahr, fruehling, fruehjahr",
                   "fr": "printemps",
                   "es": "primavera", "it": "primavera"},
        "summer": {"en": "summer", "de": "sommer", "fr": "ete, ete - ci", "es": "verano",
                   "it": "estate"},
        "autumn": {"en": "autumn, fall", "de": "herbst", "fr": "automne", "es": "otono",
                   "it": "autunno"},
        "winter": {"en": "winter", "de": "winter", "fr": "hiver, hiver - ci", "es": "invierno",
                   "it": "inverno"},
    },
    "UNIT": {
        "day": {"en": "day, days", "de": "tag, tage, tagen", "fr": "jour, jours",
                "es": "dia, dias", "it": "giorno, giorni"},
        "week": {"en": "week, weeks", "de": "woche, wochen",
                   "fr": "semaine, semaines, semaine - ci, semaine ci",
                 "es": "semana, semanas", "it": "settimana, settimane"},
        "weekend": {"en": "weekend", "de": "wochenende",
                   "fr": "week - end, weekend, week - end - ci, weekend - ci",
                    "es": "fin de semana, finde", "it": "fine settimana, weekend, week - end"},
        "month": {"en": "month, months", "de": "monat, monate, monaten, monats",
                   "fr": "mois, mois - ci, mois ci",
                  "es": "mes, meses", "it": "mese, mesi"},
        "year": {"en": "year, years", "de": "jahr, jahre, jahren, jahres",
                 "fr": "an, ans, annee, annees, annee - ci, annee ci", "es": "ano, anos",
                   "it": "anno, anni"},
    },
    "LAST": {
        "": {"en": "last, past, previous",
             "de": "letzte, letzten, letzter, letztes, letztem, vorige, vorigen, voriger, voriges,"
             " vorigem, vergangene, vergangenen, vergangener, vergangenes, vergangenem",
             "fr": "dernier, derniere, derniers, dernieres, passe, passee",
             "es": "pasado, pasada, pasados, pasadas, ultimo, ultima, ultimos, ultimas",
             "it": "scorso, scorsa, scorsi, scorse, passato, passata, ultimo, ultima, ultimi,"
             " ultime"},
    },
    "BEFORE_LAST": {
        "": {"de": "vorletzte, vorletzten, vorletzter, vorletztes, vorletztem",
             "fr": "avant - dernier, avant - derniere, avant dernier, avant derniere",
             "es": "antepasado, antepasada, penultimo, penultima",
             "it": "penultimo, penultima"},
    },
    "THIS": {
        "": {"en": "this", "de": "diese, diesen, dieser, dieses, diesem", "fr": "ce, cet, cette",
             "es": "este, esta", "it": "questo, questa, quest'"},
    },
    "RELATIVE_DAY": {
        "0": {"en": "today", "de": "heute", "fr": "aujourd'hui", "es": "hoy", "it": "oggi"},
        "1": {"en": "yesterday", "de": "gestern", "es": "ayer", "it": "ieri"},
        "2": {"en": "the day before yesterday, day before yesterday", "de": "vorgestern",
              "fr": "avant - hier, avant hier", "es": "anteayer, antes de ayer, antier",
              "it": "l' altro ieri, altro ieri, ieri l' altro"},
    },
    "HOLIDAY": {
        "christmas": {"en": "christmas, xmas, christmas time, christmastime",
                      "de": "weihnachten", "fr": "noel", "es": "navidad, navidades",
                      "it": "natale"},
        "christmas_eve": {"en": "christmas eve", "de": "heiligabend, heiliger abend,"
                          " heiligen abend, heilig abend",
                          "fr": "reveillon de noel, la veille de noel, veille de noel",
                          "es": "nochebuena", "it": "vigilia di natale, la vigilia di natale"},
        "christmas_day": {"en": "christmas day", "de": "1 . weihnachtstag,"
                          " erster weihnachtstag, ersten weihnachtstag", "fr": "jour de noel",
                          "es": "dia de navidad", "it": "giorno di natale"},
        "boxing_day": {"en": "boxing day", "de": "2 . weihnachtstag, zweiter weihnachtstag,"
                       " zweiten weihnachtstag", "it": "santo stefano"},
        "new_years_eve": {"en": "new year 's eve, new years eve, new year eve",
                          "de": "silvester, sylvester, silvesterabend",
                          "fr": "saint - sylvestre, saint sylvestre, st sylvestre,"
                          " la saint - sylvestre, la saint sylvestre, reveillon du nouvel an,"
                          " reveillon du jour de l' an",
                          "es": "nochevieja, noche vieja, fin de ano", "it": "san silvestro,"
                          " notte di san silvestro"},
        "new_year": {"en": "new year 's day, new years day, new year, new years",
                     "de": "neujahr, neujahrstag",
                     "fr": "nouvel an, le nouvel an, jour de l' an, le jour de l' an",
                     "es": "ano nuevo, dia de ano nuevo", "it": "capodanno"},
        "epiphany": {"en": "epiphany", "de": "dreikonigstag, heilige drei konige",
                     "es": "dia de reyes", "it": "epifania, befana"},
        "valentine": {"en": "valentine 's day, valentines day", "de": "valentinstag",
                      "fr": "saint - valentin, saint valentin, la saint - valentin,"
                      " la saint valentin", "es": "san valentin", "it": "san valentino"},
        "easter": {"en": "easter, holy week", "de": "ostern, osterfest, karwoche",
                   "fr": "paques, semaine sainte",
                   "es": "pascua, pascuas, semana santa",
                   "it": "pasqua, settimana santa"},
        "easter_sunday": {"en": "easter sunday", "de": "ostersonntag",
                          "fr": "dimanche de paques", "es": "domingo de pascua",
                          "it": "domenica di pasqua"},
        "easter_monday": {"en": "easter monday", "de": "ostermontag", "fr": "lundi de paques",
                          "es": "lunes de pascua", "it": "pasquetta, lunedi dell' angelo"},
        "good_friday": {"en": "good friday", "de": "karfreitag", "fr": "vendredi saint",
                        "es": "viernes santo", "it": "venerdi santo"},
        "pentecost": {"en": "pentecost, whitsun", "de": "pfingsten", "fr": "pentecote",
                      "es": "pentecostes", "it": "pentecoste"},
        "halloween": {"en": "halloween", "de": "halloween", "fr": "halloween",
                      "es": "halloween", "it": "halloween"},
        "all_saints": {"de": "allerheiligen", "fr": "toussaint, la toussaint",
                       "es": "todos los santos, dia de todos los santos", "it": "ognissanti"},
        "st_nicholas": {"de": "nikolaus, nikolaustag"},
        "st_patrick": {"en": "st patrick 's day, st . patrick 's day, saint patrick 's day,"
                       " st patricks day"},
        "thanksgiving": {"en": "thanksgiving, thanksgiving day"},
        "independence_day": {"en": "4th of july, fourth of july, independence day"},
        "bastille_day": {"fr": "14 juillet, quatorze juillet", "en": "bastille day"},
        "german_unity": {"de": "tag der deutschen einheit"},
        "may_day": {"de": "tag der arbeit, erster mai, ersten mai",
                    "fr": "fete du travail, premier mai",
                    "es": "dia del trabajo, primero de mayo",
                    "it": "festa dei lavoratori, primo maggio"},
        "liberation_day": {"it": "festa della liberazione"},
        "ferragosto": {"en": "assumption day", "de": "maria himmelfahrt, mariae himmelfahrt",
                       "fr": "assomption, l' assomption", "es": "dia de la asuncion",
                       "it": "ferragosto"},
    },
    "TENS": {
        "50": {"en": "fifties", "de": "funfzigern, funfziger jahren", "fr": "cinquante",
               "es": "cincuenta", "it": "cinquanta"},
        "60": {"en": "sixties", "de": "sechzigern, sechziger jahren", "fr": "soixante",
               "es": "sesenta", "it": "sessanta"},
        "70": {"en": "seventies", "de": "siebzigern, siebziger jahren",
               "fr": "soixante - dix, soixante dix", "es": "setenta", "it": "settanta"},
        "80": {"en": "eighties", "de": "achtzigern, achtziger jahren",
               "fr": "quatre - vingt, quatre - vingts, quatre vingt, quatre vingts",
               "es": "ochenta", "it": "ottanta"},
        "90": {"en": "nineties", "de": "neunzigern, neunziger jahren",
               "fr": "quatre - vingt - dix, quatre vingt dix", "es": "noventa",
               "it": "novanta"},
    },
    # Prepositions and small words, by what they do in a date.
    "OF": {"": {"en": "of, in, of the year", "de": "des jahres, im jahr",
                "fr": "de, en, de l' annee",
                "es": "de, del, del ano, en, de el", "it": "del, nel, dell' anno, dell', di"}},
    "DAY_OF": {"": {"en": "of", "es": "de"}},
    "IN_YEAR": {"": {
        "en": "in, in the year, during, from the year, of the year",
        "de": "in, im jahr, im jahre, aus dem jahr, aus dem jahre, vom jahr",
        "fr": "en, en l' an, en l' annee, dans l' annee, de l' annee",
        "es": "en, en el ano, en el, del ano", "it": "nel, nell' anno, dell' anno"}},
    "IN_MONTH": {"": {
        "en": "in, during, in the month of", "de": "im, im monat",
        "fr": "en, au mois de, au mois d', pendant le mois de, du mois de",
        "es": "en, en el mes de, del mes de", "it": "in, a, ad, nel mese di"}},
    "ON_DAY": {"": {"en": "on, on the", "de": "am, vom, den", "fr": "le, du",
                    "es": "el, del", "it": "il, del, l', dell'"}},
    "IN_DECADE": {"": {
        "en": "in the, during the", "de": "in den, wahrend der, wahrend den",
        "fr": "dans les annees, pendant les annees, durant les annees",
                   "es": "en los anos, durante los anos, en los, durante los",
        "it": "negli anni, durante gli anni"}},
    "DECADE_OF": {"": {
        "en": "the, from the, of the", "de": "die, der, aus den, den",
        "fr": "annees, les annees, des annees", "es": "anos, los anos, de los anos, los, de los",
        "it": "anni, gli anni, degli anni"}},
    "THIS_YEAR": {"": {"de": "heuer"}},
    "ON": {"": {"en": "on, onward, onwards", "de": "an"}},
    "YEARS": {"": {"de": "jahren, jahre, - jahren, - jahre"}},
    "PHOTOS": {"": {
        "en": "photo, photos, picture, pictures, pics, images, shots, snapshots, photographs",
        "de": "foto, fotos, bild, bilder, aufnahmen, fotografien",
        "fr": "photo, photos, image, images, cliches", "es": "foto, fotos, fotografias, imagenes",
        "it": "foto, fotografie, immagini, scatti"}},
    "BETWEEN": {"": {"en": "between", "de": "zwischen", "fr": "entre", "es": "entre",
                     "it": "tra, fra, tra il, fra il, tra l', fra l'"}},
    "AND": {"": {"en": "and, &", "de": "und, &", "fr": "et, &", "es": "y, e, y el, &",
                 "it": "e, e il, ed, e l', &"}},
    "FROM": {"": {"en": "from", "de": "von, vom", "fr": "de, du, d'", "es": "de, desde, del",
                  "it": "dal, dall', da"}},
    "TO": {"": {"en": "to, until, till, through, -", "de": "bis, bis zum, -",
                "fr": "a, au, jusqu' en, jusqu' a, jusqu' au, -", "es": "a, hasta, al, -",
                "it": "al, all', a, ad, fino al, -"}},
    "SINCE": {"": {"en": "since, starting from", "de": "seit, ab, seit dem jahr",
                   "fr": "depuis, a partir de, depuis l'", "es": "desde, a partir de, desde el",
                   "it": "dal, da, dall', a partire dal"}},
    "BEFORE": {"": {"en": "before, earlier than, prior to", "de": "vor",
                    "fr": "avant, avant l'", "es": "antes de, antes del, anterior a",
                    "it": "prima del, prima di, prima dell'"}},
    "AFTER": {"": {"en": "after, later than", "de": "nach", "fr": "apres",
                   "es": "despues de, despues del", "it": "dopo, dopo il, dopo l'"}},
    "UNTIL": {"": {"en": "until, up to, till", "de": "bis", "fr": "jusqu' en, jusqu' a",
                   "es": "hasta", "it": "fino al, fino a"}},
    "AGO_BEFORE": {"": {"de": "vor", "fr": "il y a", "es": "hace"}},
    "AGO_AFTER": {"": {"en": "ago", "it": "fa"}},
    "THE": {"": {"en": "the", "de": "die, den, der, das, dem", "fr": "le, la, les, l'",
                 "es": "el, la, los, las", "it": "il, lo, la, l', gli, le, i"}},
}  # fmt: skip


def _iter_phrases() -> Iterator[tuple[str, str, Any, str]]:
    """Yield each phrase with its class, its value and its language."""
    for kind, rows in (("MONTH", _MONTHS), ("WEEKDAY", _WEEKDAYS), ("NUMBER", _NUMBERS)):
        for language, line in rows.items():
            for number, words in enumerate(line.split(), kind != "WEEKDAY"):
                yield from ((word, kind, number, language) for word in words.split("/"))
    for language, months in _SHORT_MONTHS.items():
        yield from ((word, "SHORT_MONTH", number, language) for word, number in months.items())
    yield from (("janner", "MONTH", 1, "de"), ("jaenner", "MONTH", 1, "de"))
    yield from (("maerz", "MONTH", 3, "de"), ("setiembre", "MONTH", 9, "es"))
    yield ("sonnabend", "WEEKDAY", 5, "de")
    yield from ((word, "NUMBER", number, code) for word, number, code in _MORE_NUMBERS)
    for kind, values in _WORDS.items():
        for value, by_language in values.items():
            for language, phrases in by_language.items():
                yield from ((phrase, kind, value, language) for phrase in phrases.split(", "))


def _build_entries() -> dict[str, list[Entry]]:
    merged: dict[tuple[tuple[str, ...], str, Any], int] = {}
    for phrase, kind, value, language in _iter_phrases():
        key = (tuple(phrase.split()), kind, value)
        merged[key] = merged.get(key, 0) | 1 << LANGUAGES.index(language)
    entries: dict[str, list[Entry]] = {}
    for (words, kind, value), bits in merged.items():
        entries.setdefault(words[0], []).append((words, kind, value, bits))
    return entries


ENTRIES: Final = _build_entries()
"""Phrases by their first word."""
