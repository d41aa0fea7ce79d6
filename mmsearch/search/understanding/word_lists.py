"""Words around dates and names that decide what these mean.

All are folded: in lower case, without accents.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBERED_THINGS: Final = _words("""
    room zimmer raum chambre salle habitacion camera stanza sala hall route highway autobahn
    number nummer nr no numero page seite pagina iso model modell modele modelo modello type
    typ tipo line linie ligne linea flight flug vol vuelo volo gate version locker zone area
    bus tram peugeot bmw mazda fiat audi mercedes porsche ferrari toyota volvo renault
    citroen opel ford honda yamaha vespa lada skoda seat boeing airbus antonov tupolev
    concorde windows office word excel nokia iphone samsung canon nikon playstation xbox
    odyssey odyssee runner cyberpunk orwell race pin code copyright postleitzahl plz zip
    wine wein vin vino vintage jahrgang millesime book buch livre libro novel roman film
    movie pelicula kalender calendar calendrier calendario album song game spiel jeu juego
    gioco poster plakat affiche cartel manifesto robot mach asteroid size grosse taille
    talla taglia watt liter volt psi rpm street hausnummer
""")
"""Folded words after which a number is no year."""

PAST_PARTICIPLES: Final = _words("""
    born built made founded established printed published released painted designed written
    geboren gebaut erbaut gegrundet gemacht hergestellt gemalt gedruckt ne nee construit
    construite fonde fondee peint peinte imprime nacido nacida construido construida fundado
    fundada fabricado fabricada pintado pintada nato nata costruito costruita fondato
    fondata dipinto dipinta stampato
""")
"""Folded words after which a year is that of a thing, not of a photograph."""

EVENTS: Final = _words("""
    vacation vacations holiday holidays trip trips wedding birthday graduation anniversary
    reunion olympics urlaub reise hochzeit geburtstag sommerurlaub skiurlaub ausflug feier
    vacances voyage mariage anniversaire vacaciones viaje boda cumpleanos vacanza vacanze
    viaggio matrimonio compleanno
""")
"""Folded words before which a year is that of an event."""

STREETS: Final = _words("""
    street avenue boulevard square strasse platz allee rue place quai calle avenida plaza
    paseo via viale piazza piazzale corso ponte pont puente brucke bridge
""")
"""Folded words after which a day is part of the name of a street."""

STYLES: Final = _words("""
    style look fashion clothes clothing outfit stil mode kleidung moda stile estilo ropa
""")
"""Folded words after which a decade is a style."""

AMBIGUOUS_MONTHS: Final = _words("""
    may march mars
""")
"""Months that are also other words."""

FRENCH: Final = _words("""
    les des du le la une au aux mes nos mon ma et avec chez dans sur notre l' d' photos
""")
"""Folded words that a French query has."""

GERMAN: Final = _words("""
    der die das und ist mit bei von wir ich im am auf nicht ein eine ohne unser war
""")
"""Folded words that a German query has."""

OBJECTS: Final = _words("""
    car auto voiture coche macchina dress kleid robe vestido vestito coin munze piece moneda
    moneta stamp briefmarke timbre sello francobollo map karte carte mapa mappa newspaper
    zeitung journal periodico giornale guitar gitarre guitare guitarra chitarra house haus
    maison casa building
""")
"""Folded words of things that may be from a year."""

YEAR_LINKS: Final = _words("""
    from of in im en nel aus von vom de del du d' di dal des the year jahr el
""")
"""Folded words between a year and what it is the year of."""

PREPOSITIONS: Final = _words("""
    in at on with by near to for and mit bei im am an auf zu und avec au aux dans en chez
    sur et con y e ed al alla nel nella dai da sul sulla los las
""")
"""Folded words that may follow a year."""

NAMES_AS_WORDS: Final = {
    "en": _words("""
        rose lily will dawn hope grace joy faith mark bill bob rob art jack frank pat
        sue drew chase hunter sky ruby amber pearl jade iris ivy daisy violet olive
        ginger heather hazel holly laurel basil summer autumn misty sandy rocky angel
        king prince guy miles page robin martin jay ray rex star stone wood brook glen
        cliff dale rich rod scout skip trip grant harry peter crystal melody destiny
        harmony dean earl duke patience charity constance prudence victor max
    """),
    "de": _words("""
        rosa mark ernst wolf heide rose engel falk linde
    """),
    "fr": _words("""
        rose claire marine celeste aurore prune fleur blanche violette olivier
        marguerite jasmine anemone perle constance clemence victoire ben pierre
    """),
    "es": _words("""
        rosa luz paz mar sol dolores pilar blanca alba aurora estrella paloma nieves
        consuelo mercedes angeles reyes leon linda violeta margarita bella
    """),
    "it": _words("""
        rosa bianca chiara serena vera viola gemma perla stella fiore margherita ben mia
        leone mai gioia grazia luce salvatore angelo bella celeste felice pace santa
        vita
    """),
}
"""Folded first names that are also words of a language."""

NAMES_WITH_CAPITALS: Final = _words("""
    april may june august florence paris victoria georgia virginia carolina austin dallas
    jordan india china asia savannah brooklyn chelsea israel lourdes roma milan verona
    vienna natale noel
""")
"""Folded first names that are also months, holidays or places, which have capitals as well."""

TITLES: Final = _words("""
    saint st sankt santa san sainte queen king princess lady big arche arca ave mamma
""")
"""Folded words before which a first name is that of somebody or something else."""

KINSHIP: Final = _words("""
    oma opa omi opi tante onkel mama papa mutti vati nonna nonno zia zio mamma babbo mamie papi papy
    tata tonton abuela abuelo tia tio grandma grandpa granny grandad mom mum dad mommy daddy aunt
    auntie uncle cousin
""")
"""Folded words before the first name of a relative."""

NEGATIONS: Final = _words("""
    without not except no ohne nicht ausser kein keine sans sauf pas sin excepto senza
    tranne eccetto non
""")
"""Folded words after which nothing is read."""

ALTERNATIVES: Final = _words("""
    or oder ou o u oppure
""")
"""Folded words beside which nothing is read."""

CONJUNCTIONS: Final = _words("""
    and und et y e ed & + ,
""")
"""Folded words and marks between two filters."""

ARTICLES: Final = _words("""
    the a an der die das den dem ein eine einen le la les l' un une el los las il lo gli i
""")
"""Folded articles."""

EVERYTHING: Final = _words("""
    all everything alles alle tout toutes tous todo todos todas tutto tutte tutti
""")
"""Folded words that describe no picture."""

LINKS: Final = (
    CONJUNCTIONS
    | ARTICLES
    | _words("""
    of from in on at during with by for to since mit von vom im am aus bei beim an auf zu
    zum zur fur de du des d' en au aux a avec chez pour dans par del al con por para di
    dell' della dello dei degli delle nel nell' nella nello negli all' alla da dal dall'
    dalla per tra fra und and pendant durante durant wahrend over my mein meine meiner mon ma mes
    mi mio mia
""")
)
"""Folded words that tie a filter to the rest of a query, and mean nothing without it."""

PLACE_PREPOSITIONS: Final = _words("""
    to from nach aus through across in at near around bei im nach um a au aux en dans vers
    vicino nel nella nell' nei negli ad
""")
"""Folded words before the name of a place."""

WEAK_PLACE_PREPOSITIONS: Final = _words("""
    of over von uber durch de du d' des par di da dal dalla dell'
    del della por hacia
""")
"""Folded words before the name of a place or of something else."""

NEAR_PHRASES: Final = tuple(
    tuple(phrase.split())
    for phrase in (
        "near",
        "near to",
        "close to",
        "nearby",
        "around",
        "not far from",
        "outside of",
        "outside",
        "in der nahe von",
        "in der nahe des",
        "in der nahe",
        "nahe",
        "nahe bei",
        "bei",
        "unweit von",
        "rund um",
        "um",
        "pres de",
        "pres d'",
        "pres du",
        "autour de",
        "autour d'",
        "aux environs de",
        "non loin de",
        "cerca de",
        "cerca del",
        "alrededor de",
        "en los alrededores de",
        "no lejos de",
        "vicino a",
        "vicino",
        "vicino ad",
        "nei pressi di",
        "nei dintorni di",
        "intorno a",
    )
)
"""Folded words that say that something is near to the place after them."""

NO_PLACES: Final = _words("""
    lion lions
""")
"""Folded names of places in other languages that are words in one of the five."""

PLACES_AS_WORDS: Final = _words("""
    granada porto madeira panama cologne toledo parma bologna valencia siena hamburg kiel cuba
    cordoba orlando
""")
"""Folded names of places that mean something else in lower case without a preposition."""

THINGS_AFTER_PLACES: Final = _words("""
    sandwich sandwiches sprouts sneakers shoes club salad sauce cheese sausage beer wine steak
    fries toast muffin style flag map hilton jersey bulldog terrier hat carpet rug leather
    chair airlines times post sprout vase plate bowl leg breast burger roll flats poster
    syndrome express hoodie shirt tshirt cap mug magnet sticker souvenir cheesecake bagel
    sausages schnitzel protocol convention postcard curry kebab steaks cheeses
""")
"""Folded words that make the name of a place before them that of a thing."""

THINGS_BEFORE_PLACES: Final = _words("""
    pizza salade salat insalata ensalada choux chou spaghetti flag fahne flagge drapeau bandera
    bandiera map karte carte mapa mappa landkarte stadtplan frasco agua acqua eau savon jambon
    queso fromage kase prosciutto lord lady duke tarta torta mortadella parmigiano naranja
    naranjas arancia arance paella ragu turron jamon tarte moutarde
""")
"""Folded words that make the name of a place after them that of a thing."""
