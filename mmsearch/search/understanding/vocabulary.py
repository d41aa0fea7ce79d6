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
    ("une dizaine d'", 10, "fr"), ("une quinzaine de", 15, "fr"), ("une quinzaine d'", 15, "fr"),
    ("une vingtaine d'", 20, "fr"), ("une trentaine d'", 30, "fr"), ("une douzaine d'", 12, "fr"),
    ("una decina di", 10, "it"), ("una quindicina di", 15, "it"), ("una ventina di", 20, "it"),
    ("una trentina di", 30, "it"), ("una decena de", 10, "es"), ("una docena de", 12, "es"),
    ("couple of", 2, "en"), ("a couple of", 2, "en"), ("a couple", 2, "en"),
    ("un par de", 2, "es"), ("un paio di", 2, "it"),
    ("fifteen", 15, "en"), ("twenty", 20, "en"), ("thirty", 30, "en"),
    ("funfzehn", 15, "de"), ("zwanzig", 20, "de"), ("dreissig", 30, "de"),
    ("quinze", 15, "fr"), ("vingt", 20, "fr"), ("trente", 30, "fr"),
    ("quince", 15, "es"), ("veinte", 20, "es"), ("treinta", 30, "es"),
    ("quindici", 15, "it"), ("venti", 20, "it"), ("trenta", 30, "it"),
)  # fmt: skip

_MONTH_SPANS = (
    ("woche", "MONTH_WEEK"), ("wochenende", "MONTH_WEEKEND"), ("halfte", "MONTH_HALF"),
    ("haelfte", "MONTH_HALF"),
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
        "week": {"en": "week, weeks, wk, wks", "de": "woche, wochen",
                   "fr": "semaine, semaines, semaine - ci, semaine ci",
                 "es": "semana, semanas", "it": "settimana, settimane"},
        "weekend": {"en": "weekend", "de": "wochenende",
                   "fr": "week - end, weekend, week - end - ci, weekend - ci",
                    "es": "fin de semana, finde", "it": "fine settimana, weekend, week - end"},
        "month": {"en": "month, months", "de": "monat, monate, monaten, monats",
                   "fr": "mois, mois - ci, mois ci",
                  "es": "mes, meses", "it": "mese, mesi"},
        "year": {"en": "year, years, yr, yrs", "de": "jahr, jahre, jahren, jahres",
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
        "0": {"en": "today, this morning, this afternoon, this evening, tonight", "de": "heute",
              "fr": "aujourd'hui, ce matin, cet apres - midi, cet apres midi, ce midi",
              "es": "hoy, esta manana, esta tarde",
              "it": "oggi, stamattina, stamane, stasera, questa mattina, questo pomeriggio"},
        "1": {"en": "yesterday, last night", "de": "gestern, letzte nacht, vergangene nacht",
              "fr": "la nuit derniere, cette nuit", "es": "ayer, anoche",
              "it": "ieri, la notte scorsa, la scorsa notte, scorsa notte"},
        "2": {"en": "the day before yesterday, day before yesterday", "de": "vorgestern",
              "fr": "avant - hier, avant hier", "es": "anteayer, antes de ayer, antier",
              "it": "l' altro ieri, altro ieri, ieri l' altro"},
    },
    "HOLIDAY": {
        "christmas": {"en": "christmas, xmas, christmas time, christmastime",
                      "de": "weihnachten, weihnacht", "fr": "noel", "es": "navidad, navidades",
                      "it": "natale"},
        "christmas_eve": {"en": "christmas eve", "de": "heiligabend, heiliger abend,"
                          " heiligen abend, heilig abend",
                          "fr": "reveillon de noel, la veille de noel, veille de noel",
                          "es": "nochebuena", "it": "vigilia di natale, la vigilia di natale"},
        "christmas_day": {"en": "christmas day",
          "de": "1 . weihnachtstag, erster weihnachtstag, ersten weihnachtstag,"
          " 1 . weihnachtsfeiertag, erster weihnachtsfeiertag,"
          " ersten weihnachtsfeiertag, erste weihnachtsfeiertag", "fr": "jour de noel",
                          "es": "dia de navidad", "it": "giorno di natale"},
        "boxing_day": {"en": "boxing day, st stephen 's day, st stephens day,"
          " st . stephen 's day",
          "de": "2 . weihnachtstag, zweiter weihnachtstag, zweiten weihnachtstag,"
          " 2 . weihnachtsfeiertag, zweiter weihnachtsfeiertag,"
          " zweiten weihnachtsfeiertag, zweite weihnachtsfeiertag,"
          " stephanstag, stefanitag", "it": "santo stefano", "es": "san esteban"},
        "new_years_eve": {"en": "new year 's eve, new years eve, new year eve",
                          "de": "silvester, sylvester, silvesterabend",
                          "fr": "saint - sylvestre, saint sylvestre, st sylvestre,"
                          " la saint - sylvestre, la saint sylvestre, reveillon du nouvel an,"
                          " reveillon du jour de l' an",
                          "es": "nochevieja, noche vieja, fin de ano",
                            "it": "san silvestro, notte di san silvestro, ultimo dell' anno,"
                            " notte di capodanno"},
        "new_year": {"en": "new year, new years", "de": "neujahr",
                     "fr": "nouvel an, le nouvel an", "es": "ano nuevo", "it": "capodanno"},
        "new_years_day": {"en": "new year 's day, new years day", "de": "neujahrstag",
                          "fr": "jour de l' an, le jour de l' an", "es": "dia de ano nuevo",
                          "it": "giorno di capodanno"},
        "epiphany": {"en": "epiphany",
          "de": "dreikonigstag, heilige drei konige, heiligen drei konige,"
          " heilige drei koenige, heilig drei konig",
                     "es": "dia de reyes, reyes, los reyes, dia de los reyes, reyes magos,"
                       " epifania", "it": "epifania, befana",
                       "fr": "epiphanie, l' epiphanie, jour des rois, fete des rois"},
        "valentine": {"en": "valentine 's day, valentines day", "de": "valentinstag",
                      "fr": "saint - valentin, saint valentin, la saint - valentin,"
                        " la saint valentin, st valentin, la st valentin, st - valentin,"
                        " la st - valentin", "es": "san valentin, dia de san valentin",
                        "it": "san valentino, festa degli innamorati"},
        "easter": {"en": "easter, easter weekend",
                   "de": "ostern, osterfest, osterwochenende, osterfeiertage",
                   "fr": "paques, week - end de paques, weekend de paques",
                   "es": "pascua, pascuas", "it": "pasqua"},
        "holy_week": {"en": "holy week", "de": "karwoche", "fr": "semaine sainte",
                      "es": "semana santa", "it": "settimana santa"},
        "mothers_day_de_it": {"de": "muttertag", "it": "festa della mamma"},
        "mothers_day_fr": {"fr": "fete des meres, la fete des meres"},
        "mothers_day_es": {"es": "dia de la madre"},
        "fathers_day_fr": {"fr": "fete des peres, la fete des peres"},
        "st_joseph": {"it": "festa del papa", "es": "dia del padre"},
        "easter_sunday": {"en": "easter sunday", "de": "ostersonntag",
                          "fr": "dimanche de paques", "es": "domingo de pascua",
                          "it": "domenica di pasqua"},
        "easter_monday": {"en": "easter monday", "de": "ostermontag", "fr": "lundi de paques",
                          "es": "lunes de pascua", "it": "pasquetta, lunedi dell' angelo"},
        "good_friday": {"en": "good friday", "de": "karfreitag", "fr": "vendredi saint",
                        "es": "viernes santo", "it": "venerdi santo"},
        "whit_saturday": {"de": "pfingstsamstag"},
        "pentecost": {"en": "pentecost, whitsun", "de": "pfingsten, pfingstwochenende",
                      "fr": "pentecote, week - end de pentecote, week - end de la pentecote",
                      "es": "pentecostes", "it": "pentecoste"},
        "halloween": {"en": "halloween", "de": "halloween", "fr": "halloween",
                      "es": "halloween", "it": "halloween"},
        "all_saints": {"de": "allerheiligen", "fr": "toussaint, la toussaint",
                       "es": "todos los santos, dia de todos los santos", "it": "ognissanti"},
        "st_nicholas": {"de": "nikolaus, nikolaustag"},
        "st_patrick": {"en": "st patrick 's day, st . patrick 's day, saint patrick 's day,"
                       " st patricks day",
                         "fr": "saint patrick, saint - patrick, la saint - patrick",
                         "it": "san patrizio", "es": "san patricio"},
        "thanksgiving": {"en": "thanksgiving, thanksgiving day"},
        "independence_day": {"en": "4th of july, fourth of july, independence day"},
        "bastille_day": {"fr": "14 juillet, quatorze juillet, fete nationale, la fete nationale",
          "en": "bastille day"},
        "german_unity": {"de": "tag der deutschen einheit"},
        "may_day": {"de": "tag der arbeit, erster mai, ersten mai",
                    "fr": "fete du travail, premier mai",
                    "es": "dia del trabajo, primero de mayo, dia del trabajador",
                    "it": "festa dei lavoratori, primo maggio, festa del lavoro", "en": "may day"},
        "liberation_day": {"it": "festa della liberazione"},
        "candlemas": {"en": "candlemas", "fr": "chandeleur, la chandeleur", "de": "lichtmess",
                      "es": "dia de la candelaria", "it": "candelora"},
        "womens_day": {"en": "women 's day, womens day, international women 's day",
                       "de": "frauentag, weltfrauentag",
                         "fr": "journee de la femme, journee des femmes",
                       "es": "dia de la mujer", "it": "festa della donna"},
        "st_george": {"es": "sant jordi, dia de sant jordi, san jorge", "en": "st george 's day"},
        "walpurgis_night": {"de": "walpurgisnacht"},
        "republic_day": {"it": "festa della repubblica"},
        "st_john_eve": {"es": "noche de san juan", "it": "notte di san giovanni"},
        "st_john": {"fr": "saint - jean, la saint - jean, saint jean, la saint jean",
                    "de": "johannistag"},
        "day_of_the_dead": {"en": "day of the dead", "es": "dia de los muertos, dia de muertos"},
        "bonfire_night": {"en": "bonfire night, guy fawkes night, guy fawkes"},
        "st_martin": {"de": "martinstag, sankt martin",
          "en": "veterans day, remembrance day, armistice day,"
                      " martinmas", "fr": "armistice"},
        "immaculate_conception": {"es": "inmaculada, la inmaculada",
          "it": "immacolata, l' immacolata"},
        "hispanic_day": {"es": "dia de la hispanidad, dia del pilar"},
        "fat_thursday": {"de": "weiberfastnacht, altweiber", "it": "giovedi grasso",
                         "es": "jueves lardero", "fr": "jeudi gras"},
        "rose_monday": {"de": "rosenmontag", "es": "lunes de carnaval", "fr": "lundi gras",
                        "it": "lunedi grasso"},
        "shrove_tuesday": {"en": "shrove tuesday, pancake tuesday, pancake day, mardi gras,"
                           " fat tuesday",
                           "de": "faschingsdienstag, fastnachtsdienstag, veilchendienstag",
                           "fr": "mardi gras", "es": "martes de carnaval", "it": "martedi grasso"},
        "ash_wednesday": {"en": "ash wednesday", "de": "aschermittwoch",
                          "fr": "mercredi des cendres", "es": "miercoles de ceniza",
                          "it": "mercoledi delle ceneri"},
        "palm_sunday": {"en": "palm sunday", "de": "palmsonntag",
                        "fr": "dimanche des rameaux, rameaux, les rameaux",
                        "es": "domingo de ramos", "it": "domenica delle palme"},
        "maundy_thursday": {"en": "maundy thursday, holy thursday", "de": "grundonnerstag",
                            "fr": "jeudi saint", "es": "jueves santo", "it": "giovedi santo"},
        "holy_saturday": {"en": "holy saturday, easter saturday", "de": "karsamstag, ostersamstag",
                          "fr": "samedi saint", "es": "sabado santo", "it": "sabato santo"},
        "ascension": {"en": "ascension day", "de": "christi himmelfahrt, himmelfahrt,"
                      " himmelfahrtstag, vatertag", "fr": "ascension, l' ascension, jeudi de"
                      " l' ascension", "it": "ascensione"},
        "whit_sunday": {"en": "whit sunday", "de": "pfingstsonntag"},
        "whit_monday": {"en": "whit monday", "de": "pfingstmontag", "fr": "lundi de pentecote",
                        "it": "lunedi di pentecoste", "es": "lunes de pentecostes"},
        "corpus_christi": {"en": "corpus christi", "de": "fronleichnam", "fr": "fete - dieu,"
                           " fete dieu", "es": "corpus christi, corpus", "it": "corpus domini"},
        "martin_luther_king_day": {"en": "martin luther king day, mlk day"},
        "memorial_day": {"en": "memorial day"},
        "labor_day": {"en": "labor day"},
        "columbus_day": {"en": "columbus day, indigenous peoples day"},
        "advent_1": {"de": "1 . advent, erster advent, ersten advent, erste advent"},
        "advent_2": {"de": "2 . advent, zweiter advent, zweiten advent, zweite advent"},
        "advent_3": {"de": "3 . advent, dritter advent, dritten advent, dritte advent"},
        "advent_4": {"de": "4 . advent, vierter advent, vierten advent, vierte advent"},
        "ferragosto": {"en": "assumption day", "de": "maria himmelfahrt, mariae himmelfahrt",
                       "fr": "assomption, l' assomption, 15 aout, quinze aout, le quinze aout",
                         "es": "dia de la asuncion",
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
    # Early May, Mitte 2019, a finales de 2018, late summer 2019.
    "PART": {
        "early": {
            "en": "early, early in, beginning of, start of, beginning of the year",
            "de": "anfang, anfang des, anfang der, anfangs, anfang des jahres, beginn, beginn des,"
            " beginn der",
            "fr": "debut, debut de, debut du, debut d', debut de l', debut des, debut de l' annee",
            "es": "principios de, principios del, principio de, principio del, comienzos de,"
            " comienzos del, comienzo de, comienzo del, inicios de, inicios del, inicio de,"
            " inicio del, primeros de, principios del ano",
            "it": "inizio, inizio di, inizio del, inizio dell', inizio degli, inizi di, inizi del,"
            " inizi dell', inizi degli, primi di, inizio dell' anno",
        },
        "mid": {
            "en": "mid, mid-, middle of, middle of the year",
            "de": "mitte, mitte des, mitte der, mitte des jahres",
            "fr": "mi, mi-, milieu de, milieu du, milieu d', milieu de l', milieu des,"
            " milieu de l' annee",
            "es": "mediados de, mediados del, mediados del ano",
            "it": "meta, meta di, meta del, meta dell', meta degli, meta dell' anno",
        },
        "late": {
            "en": "late, late in, end of, end of the year",
            "de": "ende, ende des, ende der, ende des jahres",
            "fr": "fin, fin de, fin du, fin d', fin de l', fin des, fin de l' annee",
            "es": "finales de, finales del, final de, final del, fines de, fines del, fin de,"
            " fin del, finales del ano",
            "it": "fine, fine di, fine del, fine dell', fine degli, fine dell' anno",
        },
    },
    "PART_OF_SEASON": {
        "early spring": {"de": "vorfruhling, vorfruehling"},
        "early summer": {"de": "fruhsommer, fruehsommer"},
        "mid summer": {"de": "hochsommer", "en": "midsummer"},
        "late summer": {"de": "spatsommer, spaetsommer"},
        "early autumn": {"de": "fruhherbst, fruehherbst"},
        "late autumn": {"de": "spatherbst, spaetherbst"},
        "mid winter": {"en": "midwinter"},
        "late winter": {"de": "spatwinter, spaetwinter"},
    },
    "TURN_OF_YEAR": {"": {"de": "silvester, sylvester, jahreswechsel, neujahr",
                          "en": "new year 's eve, new years eve, new year",
                          "fr": "saint - sylvestre, saint sylvestre, nouvel an",
                          "es": "nochevieja", "it": "capodanno"}},
    "HALF_YEAR": {"": {"en": "half a year", "de": "einem halben jahr, nem halben jahr",
                       "es": "medio ano", "fr": "une demi - annee", "it": "mezzo anno"}},
    "DAY_NAME": {
        str(number): {"en": words[0], "de": words[1], "fr": words[2], "es": words[3],
                      "it": words[4]}
        for number, words in enumerate((
            ("first", "ersten, erster, erste", "premier", "primero, uno", "primo"),
            ("second", "zweiten, zweiter, zweite", "deux", "dos", "due"),
            ("third", "dritten, dritter, dritte", "trois", "tres", "tre"),
            ("fourth", "vierten, vierter, vierte", "quatre", "cuatro", "quattro"),
            ("fifth", "funften, funfter, funfte", "cinq", "cinco", "cinque"),
            ("sixth", "sechsten, sechster, sechste", "six", "seis", "sei"),
            ("seventh", "siebten, siebter, siebte", "sept", "siete", "sette"),
            ("eighth", "achten, achter, achte", "huit", "ocho", "otto"),
            ("ninth", "neunten, neunter, neunte", "neuf", "nueve", "nove"),
            ("tenth", "zehnten, zehnter, zehnte", "dix", "diez", "dieci"),
        ), 1)
    },
    "END_OF": {"": {"en": "end of", "de": "ende", "fr": "fin de, fin du, fin", "es": "final de,"
                    " finales de, fin de", "it": "fine di, fine del, fine"}},
    "INCLUSIVE": {"": {"en": "inclusive, included", "de": "einschliesslich, inklusive, inkl",
                       "fr": "inclus, compris", "es": "incluido, inclusive",
                       "it": "incluso, inclusa, compreso, compresa"}},
    # First week of June, zweite Augusthälfte, 2e trimestre 2021.
    "NTH": {
        str(number): {"en": words[0], "de": words[1], "fr": words[2], "es": words[3],
                      "it": words[4]}
        for number, words in enumerate((
            ("first, 1st, the first", "erste, ersten, erster, 1 .",
             "premier, premiere, 1er, 1ere, 1re", "primera, primer, 1a, 1er", "prima, primo, 1a"),
            ("second, 2nd, the second", "zweite, zweiten, zweites, 2 .",
             "deuxieme, second, seconde, 2e, 2eme", "segunda, segundo, 2a, 2o",
             "seconda, secondo, 2a, 2o"),
            ("third, 3rd, the third", "dritte, dritten, drittes, 3 .", "troisieme, 3e, 3eme",
             "tercera, tercer, 3a, 3er", "terza, terzo, 3a, 3o"),
            ("fourth, 4th, the fourth", "vierte, vierten, viertes, 4 .", "quatrieme, 4e, 4eme",
             "cuarta, cuarto, 4a, 4o", "quarta, quarto, 4a, 4o"),
        ), 1)
    } | {"-1": {"en": "last, the last", "de": "letzte, letzten, letztes",
                "fr": "derniere, dernier", "es": "ultima, ultimo", "it": "ultima, ultimo"}},
    "SPAN": {
        "week": {"en": "week of, week in", "de": "woche, woche im, woche des",
                 "fr": "semaine de, semaine d'", "es": "semana de", "it": "settimana di"},
        "weekend": {"en": "weekend of, weekend in", "de": "wochenende im, wochenende",
                    "fr": "week - end de, weekend de, week - end d'", "es": "fin de semana de",
                    "it": "weekend di, fine settimana di"},
        "half": {"en": "half of", "de": "halfte, halfte des, haelfte", "fr": "moitie de,"
                 " moitie d', quinzaine de, quinzaine d'", "es": "mitad de, quincena de",
                 "it": "meta di, meta del, quindicina di"},
    },
    "QUARTER": {"": {"en": "quarter, quarter of", "de": "quartal", "fr": "trimestre",
                     "es": "trimestre, trimestre de", "it": "trimestre, trimestre del"}},
    "SHORT_QUARTER": {str(number): dict.fromkeys(LANGUAGES, f"q{number}")
                      for number in range(1, 5)},
    "SHORT_WEEKDAY": {"": {
        "en": "mon, tue, tues, wed, thu, thur, thurs, fri, sat, sun",
        "de": "mo, di, mi, do, fr, sa, so", "fr": "lun, mar, mer, jeu, ven, sam, dim",
        "es": "lun, mar, mie, jue, vie, sab, dom", "it": "lun, mar, mer, gio, ven, sab, dom"}},
    # Abbreviations that are words, too, for days with a year.
    "DAY_MONTH": {
        "3": {"en": "mar", "de": "mar, mrz, maer", "es": "mar", "it": "mar"},
        "5": {"es": "may", "it": "mag"}, "8": {"es": "ago", "it": "ago"},
        "9": {"it": "set", "es": "set"},
    },
    "DAYTIME": {"": {"en": "morning, evening, night, afternoon", "de": "morgen, abend, nacht",
                     "fr": "matin, soir, au matin, au soir", "it": "mattina, sera, notte",
                     "es": "por la manana, por la noche"}},
    # Feasts before them are days, as in Christmas dinner 2018; a Christmas tree stands for weeks.
    "OCCASION": {"": {"en": "dinner, lunch, breakfast, brunch, meal, party, mass, walk, hike,"
                      " gathering, celebration, celebrations, feast, picnic, parade, fireworks"}},
    "TODAY": {"": {"en": "today", "de": "heute", "fr": "aujourd'hui, jour pour jour",
                   "es": "hoy", "it": "oggi"}},
    "ABOUT": {"": {
        "en": "about, around, roughly, some, almost, nearly, over, just over, more than",
        "de": "gut, etwa, ungefahr, ungefaehr, circa, ca, ca ., rund, fast, knapp, uber, ueber",
        "fr": "environ, presque, a peu pres, plus d', plus de, bien",
        "es": "unos, unas, casi, aproximadamente, mas de", "it": "circa, quasi, piu di"}},
    "DAY_BEFORE": {"": {
        "en": "the day before, day before, eve of, the eve of",
        "de": "tag vor, vorabend von, vorabend zu",
        "fr": "veille de, veille du, veille d', la veille de, la veille du, la veille d'",
        "es": "vispera de, la vispera de, dia antes de, el dia antes de",
        "it": "vigilia di, la vigilia di, il giorno prima di, giorno prima di"}},
    "DAY_AFTER": {"": {
        "en": "the day after, day after", "de": "tag nach",
        "fr": "lendemain de, lendemain du, le lendemain de, le lendemain du",
        "es": "dia despues de, el dia despues de, dia siguiente a, el dia siguiente a",
        "it": "il giorno dopo, giorno dopo"}},
    "SEASONS": {
        "spring": {"en": "springs", "de": "fruhlingen", "fr": "printemps", "es": "primaveras",
                   "it": "primavere"},
        "summer": {"en": "summers", "de": "sommern", "fr": "etes", "es": "veranos",
                   "it": "estati"},
        "autumn": {"en": "autumns, falls", "de": "herbsten", "fr": "automnes", "es": "otonos",
                   "it": "autunni"},
        "winter": {"en": "winters", "de": "wintern", "fr": "hivers", "es": "inviernos",
                   "it": "inverni"},
    },
    "UNIT_OF": {
        "week": {"en": "week of, week around", "de": "woche vom, woche um den",
                 "fr": "semaine du", "es": "semana del", "it": "settimana del"},
        "weekend": {"en": "weekend of, weekend around", "de": "wochenende vom, wochenende um den",
                    "fr": "week - end du, weekend du", "es": "fin de semana del, finde del",
                    "it": "weekend del, fine settimana del"},
    },
    "AT": {"": {"en": "in, in the, at, at the, on, over, during",
                "de": "im, an, am, zu, uber, ueber", "fr": "a, en, au, a la, pendant, pour",
                "es": "en, en la, por, para", "it": "a, in, per, durante"}},
    # Prepositions and small words, by what they do in a date.
    "OF": {"": {"en": "of, in, of the year", "de": "des jahres, im jahr",
                "fr": "de, en, de l' annee",
                "es": "de, del, del ano, en, de el", "it": "del, nel, dell' anno, dell', di"}},
    "DAY_OF": {"": {"en": "of", "es": "de"}},
    "IN_YEAR": {"": {
        "en": "in, in the year, during, from the year, of the year, back in",
        "de": "in, im jahr, im jahre, aus dem jahr, aus dem jahre, vom jahr",
        "fr": "en, en l' an, en l' annee, dans l' annee, de l' annee, courant",
        "es": "en, en el ano, en el, del ano, alla por, alla por el",
        "it": "nel, nell' anno, dell' anno, nel lontano"}},
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
                "it": "al, all', alla, a, ad, fino al, fino alla, fino all', -"}},
    "SINCE": {"": {"en": "since, starting from", "de": "seit, ab, seit dem jahr",
                   "fr": "depuis, a partir de, a partir du, a partir d', a compter de,"
                   " a compter du, depuis l'",
                   "es": "desde, a partir de, a partir del, desde el",
                   "it": "dal, da, dall', dalla, dallo, a partire dal, a partire da,"
                   " a partire dalla, a partire dall'"}},
    "BEFORE": {"": {"en": "before, earlier than, prior to", "de": "vor",
                    "fr": "avant, avant l'", "es": "antes de, antes del, anterior a",
                    "it": "prima del, prima di, prima dell'"}},
    "AFTER": {"": {"en": "after, later than", "de": "nach", "fr": "apres",
                   "es": "despues de, despues del", "it": "dopo, dopo il, dopo l'"}},
    "UNTIL": {"": {"en": "until, up to, till, up until, up to and including, until and including",
                   "de": "bis, bis zum, bis zur, bis einschliesslich, bis inklusive, bis inkl,"
                   " bis inkl ., bis einschl, bis einschl ., bis und mit",
                   "fr": "jusqu' en, jusqu' a, jusqu' au, jusqu' aux, jusqu'",
                   "es": "hasta", "it": "fino al, fino a, fino alla, fino all', fino ad,"
                   " fino agli, sino al, sino a, sino alla"}},
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
    for number, name in enumerate(_MONTHS["de"].split(), 1):
        # Letzte Juliwoche, zweite Augusthälfte.
        yield from ((f"{name}{end}", kind, number, "de") for end, kind in _MONTH_SPANS)
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
