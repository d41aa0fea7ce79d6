"""Names of places in the words of queries, in five languages."""

from datetime import date

import pytest

from mmsearch.core import places as gazetteer
from mmsearch.search.understanding.reader import read_text

TODAY = date(2026, 11, 30)
KNOWN = {
    "Lisbon", "Portugal", "Porto", "Paris", "France", "Nice", "Rome", "Italy", "New York",
    "Granada", "Spain", "Munich", "Bavaria", "Germany", "Essen", "Tours", "Madeira", "Florence",
    "Turkey", "Brussels", "Belgium", "London", "United Kingdom", "Vienna", "Austria", "Jordan",
    "Milan", "Naples", "Madrid", "Barcelona", "Lyon", "Marseille", "Seville", "Pisa", "Venice",
    "Como", "Lombardy", "Tokyo", "Hawaii", "Brazil", "Normandy", "Geneva", "Switzerland",
    "Andalusia",
    "Tuscany", "Los Angeles", "United States", "Lima", "Parma", "Athens", "Salzburg", "Prague",
    "Brittany",
}  # fmt: skip
"""Places of which the library has pictures."""


def read(query, known=KNOWN, **options):
    """Return (place, near, text), or None if nothing is read."""

    def is_known(place, near):
        return place.name in known

    reading = read_text(query, TODAY, places=(gazetteer, is_known), **options)
    if reading is None:
        return None
    found = reading.understood()
    return found.place, found.near, found.text


@pytest.mark.parametrize(
    ("query", "place", "text"),
    [
        ("trams in Lisbon", "Lisbon", "trams"),
        ("Lisbon", "Lisbon", ""),
        ("lisbon at night", "Lisbon", "at night"),
        ("Straßenbahn in Lissabon", "Lisbon", "Straßenbahn"),
        ("nave nel porto di Lisbona", "Lisbon", "nave nel porto"),
        ("das Essen eines Kindes in Paris", "Paris", "das Essen eines Kindes"),
        ("les rues de Lisbonne", "Lisbon", "les rues"),
        ("tranvías en Lisboa", "Lisbon", "tranvías"),
        ("tram a Lisbona", "Lisbon", "tram"),
        ("Lisbon, Portugal", "Lisbon", ""),
        ("beach in Portugal", "Portugal", "beach"),
        ("Strand in Portugal letzten Sommer", "Portugal", "Strand"),
        ("ruines en Italie", "Italy", "ruines"),
        ("new york skyline", "New York", "skyline"),
        ("biergarten münchen", "Munich", "biergarten"),
        ("biergarten muenchen", "Munich", "biergarten"),
        ("sunset in Nice", "Nice", "sunset"),
        ("Zeche in Essen", "Essen", "Zeche"),
        ("hotel in Turkey", "Turkey", "hotel"),
        ("photos of Paris", "Paris", ""),
        ("trip to Turkey", "Turkey", "trip"),
        ("Nice, France", "Nice", ""),
        ("vacances suisse", "Switzerland", "vacances"),
        ("Roma, aprile", "Rome", "aprile"),
        ("Rom im Frühling", "Rome", "im Frühling"),
    ],
)
def test_places_are_read(query, place, text):
    assert read(query) == (place, False, text)


@pytest.mark.parametrize(
    ("query", "place", "text"),
    [
        ("lighthouse near Lisbon", "Lisbon", "lighthouse"),
        ("in und um Salzburg", "Salzburg", ""),
        ("alrededores de Granada", "Granada", ""),
        ("dintorni di Pisa", "Pisa", ""),
        ("lighthouse close to Lisbon", "Lisbon", "lighthouse"),
        ("Weinberge in der Nähe von Florenz", "Florence", "Weinberge"),
        ("château près de Tours", "Tours", "château"),
        ("pueblos cerca de Granada", "Granada", "pueblos"),
        ("agriturismo vicino a Firenze", "Florence", "agriturismo"),
    ],
)
def test_what_is_near_a_place_is_read(query, place, text):
    assert read(query) == (place, True, text)


@pytest.mark.parametrize(
    "query",
    [
        "nice view",
        "a nice beach",
        "in nice weather",
        "Essen auf dem Tisch",
        "tours de magie",
        "voiture orange",
        "turkey on a plate",
        "turkey sandwich",
        "montre suisse",
        "chocolat suisse",
        "navaja suiza",
        "cioccolato svizzera",
        "Salzburg Torte",
        "roast turkey",
        "Brussels sprouts",
        "choux de bruxelles au four",
        "melon au porto",
        "pizza napoli",
        "new york cheesecake",
        "mapa de Portugal",
        "Wiener Schnitzel",
        "Portuguese tiles",
        "hamburger",
        "granada abierta sobre la mesa",
        "a bottle of porto",
        "Paris Hilton",
        "waterfall in Iceland",
        "Paris oder Rom",
        "Paris or Rome",
        "from Paris to Rome",
        "holidays without Paris",
        '"Lisbon" tiles',
        "lisbon.jpg",
        "@lisbon",
        "Jordan sneakers",
        "map of Portugal",
        "reading a book",
        "lion",
        "Lion in the zoo",
        "rom",
        "a man reading in the sun",
    ],
)
def test_what_may_be_something_else_stays_text(query):
    assert read(query) is None


@pytest.mark.parametrize(
    "query",
    [
        # sports clubs
        "Real Madrid", "AC Milan scarf", "Inter Mailand", "Bayern München Trikot",
        "bayern münchen fan", "sciarpa del Napoli", "maglia Napoli", "camiseta del Barcelona",
        "barcelona jersey", "FC Barcelona Trikot", "maillot Marseille", "Olympique de Marseille",
        "Austria Wien", "match Marseille Lyon", "atlético de madrid bufanda", "sevilla fc",
        # dishes, food and drinks
        "Toast Hawaii", "brazil nuts", "champignons de Paris", "camembert de Normandie",
        "saucisson de Lyon tranché", "prosciutto di Parma", "aceite de Andalucía",
        "vino di Toscana",
        "crêpe de Bretagne", "tarte aux pommes de Normandie", "Wein aus Portugal",
        "coffee from Brazil",
        "mozzarella di Napoli", "aceite de oliva de Andalucía", "caffè di Napoli",
        "Dubai Schokolade",
        # breeds, materials and things
        "brussels griffon puppy", "plaster of paris mask", "venice beach skaters",
        "Tokyo Hotel Konzert", "dentelle de Bruxelles", "ferrari california", "Seat Granada",
        "stockholm syndrome", "made in Italy", "king of Portugal", "roi de France",
        "tour de France",
        # stations, squares and streets
        "gare de Lyon", "métro place d'Italie", "piazza Venezia", "rue de Rome", "via Milano",
        "calle de Sevilla", "Plaza de España", "avenue d'Italie", "London Road",
        # words
        "niño que pisa un charco", "tequila con lima", "LA PLAYA", "como un león",
    ],
)  # fmt: skip
def test_places_in_names_of_things_stay_text(query):
    assert read(query) is None


@pytest.mark.parametrize(
    ("query", "place", "text"),
    [
        ("nyc skyline at night", "New York", "skyline at night"),
        ("sunset in L.A.", "Los Angeles", "sunset"),
        ("LA skyline", "Los Angeles", "skyline"),
        ("trip to the U.S.", "United States", "trip"),
        ("viaje a EE. UU.", "United States", "viaje"),
        ("pub in the uk", "United Kingdom", "pub"),
        ("flamenco andalucía", "Andalusia", "flamenco"),
        ("plage bretagne", "Brittany", "plage"),
        ("le jet d'eau à Genève, Suisse", "Geneva", "le jet d'eau"),
        ("lungolago di Como", "Como", "lungolago"),
        ("villa a Como", "Como", "villa"),
        ("cathédrale de Tours", "Tours", "cathédrale"),
        ("tour de Pise", "Pisa", "tour"),
        ("duomo di Milano", "Milan", "duomo"),
        ("sul lago di como", "Como", "sul lago"),
        ("lake como wedding", "Como", "lake wedding"),
        ("Gran Vía Madrid", "Madrid", "Gran Vía"),
        ("via del Corso roma", "Rome", "via del Corso"),
        ("Rom Kolosseum", "Rome", "Kolosseum"),
        ("marché de noël à vienne", "Vienna", "marché de noël"),
        ("granada spain", "Granada", ""),
        ("Paris, France", "Paris", ""),
        ("Piazza di Spagna roma", "Rome", "Piazza di Spagna"),
        ("Plaza de España en Sevilla", "Seville", "Plaza de España"),
        ("une rue de Paris", "Paris", "une rue"),
        ("les rues de Lyon", "Lyon", "les rues"),
        ("the castle of Prague", "Prague", "the castle"),
        ("pizza a Napoli", "Naples", "pizza"),
        ("wine tasting in Tuscany", "Tuscany", "wine tasting"),
        ("marché de Noël Vienne décembre 2022", "Vienna", "marché de Noël"),
    ],
)
def test_places_beside_such_words_are_read(query, place, text):
    assert read(query) == (place, False, text)


@pytest.mark.parametrize(
    ("query", "people", "place"),
    [
        ("anna venice 2015", ("Anna",), "Venice"),
        ("Ben en Londres", ("Ben",), "London"),
        ("Ben à la plage à Nice en juillet", ("Ben",), "Nice"),
        ("giulia praga 2015", ("Giulia",), "Prague"),
        ("paris anna", ("Anna",), "Paris"),
        ("los angeles anna", ("Anna",), "Los Angeles"),
        ("Anna in Los Angeles", ("Anna",), "Los Angeles"),
        ("Mia a Roma", ("Mia",), "Rome"),
        ("la mia casa a Roma", (), "Rome"),
        ("Anna Lyon", ("Anna",), "Lyon"),
        ("la photo où Pierre Dubois porte une chemise à Séville", ("Pierre Dubois",), "Seville"),
        ("Florence Martin à Florence", ("Florence Martin",), "Florence"),
        ("Anna Netrebko Salzburg", (), "Salzburg"),
        ("anna frank haus paris", (), "Paris"),
    ],
)
def test_first_names_beside_places_are_people(query, people, place):
    names = ("Anna", "Ben", "Mia", "Giulia", "Pierre Dubois", "Florence Martin")
    reading = read_text(
        query,
        TODAY,
        people=lambda: names,
        places=(gazetteer, lambda found, near: found.name in KNOWN),
    )
    assert (reading.understood().people, reading.understood().place) == (people, place)


def test_a_place_without_pictures_stays_text():
    assert read("trams in Lisbon", known={"Porto"}) is None
    assert read("trams in Lisbon 2019", known={"Porto"}) == (None, False, "trams in Lisbon")


def test_the_best_known_place_with_pictures_counts():
    assert read("Paris", known={"Paris"})[0] == "Paris"


def test_chips_of_places():
    reading = read_text(
        "trams close to Lisbon", TODAY, places=(gazetteer, lambda place, near: True)
    )
    assert [(chip.kind, chip.label, chip.words) for chip in reading.chips] == [
        ("place", "near Lisbon", "close to Lisbon")
    ]
