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
    bus tram autobus autocar tranvia
    peugeot bmw mazda fiat audi mercedes porsche ferrari toyota volvo renault
    citroen opel ford honda yamaha vespa lada skoda seat boeing airbus antonov tupolev
    concorde windows office word excel nokia iphone samsung canon nikon playstation xbox
    odyssey odyssee runner cyberpunk orwell race pin code copyright postleitzahl plz zip
    riesling spatlese auslese merlot rioja chianti bordeaux barolo malbec chardonnay champagne
    brunello beaujolais cabernet pinot prosecco
    wine wein vin vino vintage jahrgang millesime book buch livre libro novel roman film
    movie pelicula kalender calendar calendrier calendario album song game spiel jeu juego
    gioco poster plakat affiche cartel manifesto robot mach asteroid size grosse taille
    talla taglia watt liter volt psi rpm street hausnummer
""")
"""Folded words after which a number is no year."""

VERSIONS: Final = _words("""
    version versione ios android python java php firmware release kernel update ubuntu debian macos
    screw screws bolt bolts nut schraube schrauben vis boulon tornillo tornillos vite viti bullone
    order bestellung commande pedido ordine invoice rechnung facture factura fattura id serial tel
    phone telefon ticket
""")
"""Folded words after which digits that may be a day are the number of something."""

UNITS: Final = _words("""
    mm cm m km kg g l ml cl inch inches zoll pouces pulgadas pollici v volt w watt x cups
    mile miles meilen milles millas miglia metres meters meter metros metri kilometer kilometers
    kilometres kilometros chilometri steps schritte schritten pas pasos passi
""")
"""Folded units after digits that may be a day."""

PAST_PARTICIPLES: Final = _words("""
    born built made founded established printed published released painted designed written
    geboren gebaut erbaut gegrundet gemacht hergestellt gemalt gedruckt ne nee construit
    construite fonde fondee peint peinte imprime nacido nacida construido construida fundado
    fundada fabricado fabricada pintado pintada nato nata costruito costruita fondato
    fondata dipinto dipinta stampato dated datee fechada fechado datata datato datiert
""")
"""Folded words after which a year is that of a thing, not of a photograph."""

EVENTS: Final = _words("""
    vacation vacations holiday holidays trip trips wedding birthday graduation anniversary
    reunion olympics urlaub reise hochzeit geburtstag sommerurlaub skiurlaub ausflug feier
    vacances voyage mariage anniversaire vacaciones viaje boda cumpleanos vacanza vacanze
    viaggio matrimonio compleanno rentree kermesse carnaval carnevale karneval fasching festival
    prom christening baptism bapteme bautizo battesimo taufe comunion kommunion communion abitur
    graduacion laurea nozze noces bodas gita excursion croisiere crucero crociera kreuzfahrt
    marathon maraton maratona einschulung
""")
"""Folded words beside which a year is that of an event."""

EVENT_ENDINGS: Final = (
    "fest",
    "feier",
    "urlaub",
    "hochzeit",
    "reise",
    "geburtstag",
    "party",
    "ausflug",
    "freizeit",
    "ferien",
    "taufe",
    "markt",
    "konzert",
    "festival",
    "marathon",
)
"""Endings of such words in German: *Sommerfest*."""

STREETS: Final = _words("""
    street avenue boulevard square strasse platz allee rue place quai calle avenida plaza
    paseo via viale piazza piazzale corso ponte pont puente brucke bridge
""")
"""Folded words after which a day is part of the name of a street."""

OF_WORDS: Final = _words("of de du des del dello della dell' dei degli delle di d' von vom der")
"""Folded words between a street and what it is named after, without articles."""

BRIDGES: Final = _words("ponte pont puente brucke bridge")
"""Those of `STREETS` that are bridges."""

STYLES: Final = _words("""
    style look fashion clothes clothing outfit stil mode kleidung moda stile estilo ropa
""")
"""Folded words after which a decade is a style."""

THEMES: Final = _words("""
    party parties music songs disco hits hairstyle hair dress dresses diner decor interior car cars
    house building furniture wallpaper poster posters toy toys radio telephone phone tv
    fete musique disque disques chanson chansons decoration deco coiffure robe robes voiture
    voitures meuble meubles papier jouet jouets affiche affiches television
    fiesta fiestas musica cancion canciones peinado vestido vestidos coche coches mueble muebles
    decoracion juguete juguetes cartel carteles television discoteca
    festa feste canzone canzoni pettinatura vestiti auto mobili mobile arredamento giocattoli
    giocattolo manifesto televisore discoteca macchina
    feier musik lieder frisur kleider mobel moebel tapete spielzeug fernseher
""")
"""Folded words of things that are of a decade as a style, or were made in it."""

FAMILY: Final = _words("""
    family families kids children grandparents parents relatives school class wedding weddings
    childhood vacation vacations holiday holidays memories
    familie kinder grosseltern eltern verwandte kindheit klasse hochzeit urlaub ferien
    famille enfants grands grand parents enfance ecole classe mariage mariages vacances
    familia ninos hijos abuelos padres infancia escuela colegio boda bodas vacaciones
    famiglia bambini figli nonni genitori infanzia scuola matrimonio vacanze vacanza
""")
"""Folded words after a decade that is when pictures were taken, not a style."""

MEDIA: Final = _words("""
    slide slides negative negatives polaroid polaroids snapshot snapshots video videos film films
    footage scan scans portrait portraits pic pics
    dia dias negativ negative abzug abzuge scan scans videos filme schnappschuss schnappschusse
    diapo diapos diapositive diapositives negatif negatifs tirage tirages cliche cliches argentique
    diapositiva diapositivas negativo negativos retrato retratos postales recuerdos
    diapositive negativi ritratto ritratti scatto scatti ricordi souvenirs erinnerungen memories
""")
"""Folded words for pictures that describe them, too."""

EVES: Final = _words("""
    nochevieja silvester sylvester sylvestre silvestro capodanno nochebuena heiligabend
    halloween eve santo saint ramos rameaux palme ceniza ceneri cendres gras grasso juan
""")
"""Folded names of holidays of one night, which are the date in *uvas de nochevieja 2021*, too."""

OCCASIONS: Final = _words("""
    repas diner dejeuner messe cena comida almuerzo desayuno misa fiesta pranzo cenone colazione
    messa festa soiree brunch fete
""")
"""Folded words before a feast that are on its days: *cena de Navidad 2019*."""

SEASONS_OF_THINGS: Final = _words("""
    hot mineral thermal natural coil free rain snow water night indian prague arab box real housing
    country council wine industrial family hunting prager arabischer arabische pasta fresh cold
    vivaldi botticelli printanier arabe rolls rouleaux rouleau matriculation
""")
"""Folded words before a season that make it a thing: *hot spring*, *real estate*, *free fall*."""

AMBIGUOUS_MONTHS: Final = _words("""
    may march mars
""")
"""Months that are also other words."""

FRENCH: Final = _words("""
    les des du le la une au aux mes nos mon ma et avec chez dans sur notre l' d' photos soir matin
    midi nuit
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

DATED_THINGS: Final = _words("""
    song songs lied lieder schlager chanson chansons cancion canciones canzone canzoni
    newspaper newspapers zeitung zeitungen journal journaux periodico periodicos giornale giornali
    magazine zeitschrift revista rivista calendar kalender calendrier calendario
""")
"""Folded words before a date that is theirs, not that of a photograph."""

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
        sunny eve gene jean penny candy honey bunny kit buck cash chip pepper poppy rusty
        sage sierra storm river reed heath forest clay flint ash lance major mercy merry
        christian lotus tulip coral diamond opal jewel piper porter archer carter mason
        taylor tucker cooper fisher parker pierce wade woody don gay ernest earnest curt dot
        nick jenny peg josh bud cat lane drake birdie wren lark bear fox wolf leo sterling
        colt gale marina melon clementine willow fern bay rain snow winter
    """),
    "de": _words("""
        will art rosa mark ernst wolf heide rose engel falk linde viola iris jasmin till kai erle
    reiner
        hell heiter franz sommer winter august tom ute frank wanda erika dahlie
    """),
    "fr": _words("""
        rose claire marine celeste aurore prune fleur blanche violette olivier
        marguerite jasmine anemone perle constance clemence victoire pierre
        marin colombe ange aimee desiree prudence grace lilas capucine iris hortense cerise
        myrtille clementine mirabelle amandine etoile luce france reine modeste juste laurier
        valentin romane roman soleil dore lune neige ambre olive opale jade saison mai
        melodie harmonie esperance
    """),
    "es": _words("""
        rosa luz paz mar sol dolores pilar blanca alba aurora estrella paloma nieves
        consuelo mercedes angeles reyes leon linda violeta margarita bella
        rocio gloria esperanza flor flora luna perla coral marina candela vera clara azucena
        jacinto jazmin camelia iris oliva olivo cruz salvador victoria milagros remedios soledad
        piedad caridad nieve domingo santos inocente mora asuncion concepcion trinidad fe amor
        amparo socorro ventura pura jade selva valle rubio angel plata amada lirio dalia
    """),
    "it": _words("""
        rosa bianca chiara serena vera viola gemma perla stella fiore margherita mia
        leone mai gioia grazia luce salvatore angelo bella celeste felice pace santa
        vita alba aurora luna sole speranza gloria vittoria fede fiamma ambra marina mora pia
        rocco primo secondo libero neve dalia camelia ginestra ortensia iris mimosa nero
        rossa azzurra marino cielo italia domenica pasquale franco benedetta costanza
        letizia diamante onda mare marea fortunato
    """),
}
"""Folded first names that are also words of a language."""

FAMILY_EVENTS: Final = _words("""
    birthday wedding graduation christening baptism anniversaire mariage bapteme geburtstag hochzeit
    taufe cumpleanos boda bautizo compleanno matrimonio battesimo nozze
""")
"""Folded words before *of* and the name of a person."""

NAMES_WITH_CAPITALS: Final = _words("""
    april may june august florence paris victoria georgia virginia carolina austin dallas
    jordan india china asia savannah brooklyn chelsea israel lourdes roma milan verona
    vienna natale noel rosa viola azzurra marron naranja
""")
"""Folded first names that are also months, holidays, places or colours, which have capitals as
well."""

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

SCENES: Final = _words("""
    birthday party wedding garden beach school baby dog cat bike snow zoo pool mountains hiking ski
    skiing selfie portrait christmas easter graduation baptism holiday holidays vacation dancing
    smiling laughing swimming
    geburtstag feier hochzeit garten strand schule baby hund katze fahrrad schnee zoo see meer berge
    berg pool wanderung wandern ski skifahren portrat portraet einschulung taufe urlaub weihnachten
    ostern kindergarten abitur abschluss konfirmation kommunion firmung sommer winter kuchen
    schlitten boot auto haus balkon terrasse wald park flughafen bahnhof selfie klavier gitarre
    anniversaire mariage jardin plage ecole bebe chien chat velo neige piscine montagne montagnes
    randonnee portrait bapteme vacances noel paques communion remise gateau bateau foret parc piano
    guitare rentree naissance foot mer lac
    cumpleanos boda jardin playa colegio escuela bebe perro gato bici bicicleta nieve piscina
    montana
    excursion retrato bautizo vacaciones navidad comunion graduacion tarta barco bosque parque
    piano guitarra nacimiento futbol lago surf tennis tenis kayak judo karate yoga hockey basket
    volley danza sci nuoto vela escalada baloncesto natacion escalade natation judo reiten fussball
    klettern schwimmen turnen tanzen angeln football climbing fishing soccer dance
    compleanno matrimonio nozze giardino spiaggia scuola bimbo cane gatto bici bicicletta neve
    piscina
    montagna montagne escursione gita ritratto battesimo vacanza vacanze natale pasqua comunione
    laurea
    torta barca bosco parco pianoforte chitarra nascita calcio mare lago
""")
"""Folded words after a first name that are no surname, also with a capital."""

VERBS: Final = _words("""
    talks hugs kisses talking hugging playing eating sleeping running parla bacia abbraccia saluta
    habla besa abraza saluda parle embrasse serre salue spricht kusst umarmt winkt telefoniert
    plays eats sleeps laughs runs swims dances sings reads wears jumps climbs draws cries smiles
    sits stands walks rides holds opens makes looks cooks
    spielt isst schlaft schlaeft lacht rennt schwimmt tanzt singt liest tragt traegt springt
    klettert
    malt weint lachelt laechelt sitzt steht geht fahrt faehrt halt haelt offnet oeffnet macht schaut
    kocht backt blast blaest hat liegt trinkt feiert reitet wandert beim als
    joue mange dort rit court nage danse chante lit porte saute grimpe dessine pleure sourit souffle
    boit marche fait regarde cuisine ouvre tient monte apprend fete petit petite quand
    juega come duerme rie corre nada baila canta lee lleva salta trepa dibuja llora sonrie sopla
    bebe
    camina hace mira cocina abre tiene monta aprende celebra pequeno pequena cuando jugando
    durmiendo comiendo bailando cantando corriendo nadando leyendo riendo soplando
    gioca mangia dorme ride nuota balla legge porta arrampica disegna piange sorride soffia
    beve cammina guarda cucina apre tiene impara festeggia piccolo piccola quando
""")
"""Folded words in lower case after a first name that are no surname."""

NEGATIONS: Final = _words("""
    without not except no ohne nicht ausser kein keine sans sauf pas sin excepto senza
    tranne eccetto non ni ne nor neither weder noch menos meno salvo excluding minus hormis
    excepte excepto salvi fuorche
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

JOINED_ARTICLES: Final = ARTICLES | _words("""
    im am zum vom beim au aux du des del al nel nello nella nell' al allo alla all' dal dallo
    dalla dall' sul sulla sull' dello della dell'
""")
"""Folded articles, and prepositions with one, which stand before no name of a city."""

EVERYTHING: Final = _words("""
    all everything alles alle tout toutes tous todo todos todas tutto tutte tutti
""")
"""Folded words that describe no picture."""

TAKEN: Final = _words("""
    taken shot made aufgenommen gemacht entstanden geschossen prise prises faite faites tomada
    tomadas hecha hechas sacada sacadas scattata scattate fatta fatte
""")
"""Folded words between *photos* and a filter that mean nothing without it."""

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
        "in and around",
        "in und um",
        "surroundings of",
        "umgebung von",
        "in der umgebung von",
        "umland von",
        "environs de",
        "environs d'",
        "alrededores de",
        "los alrededores de",
        "a las afueras de",
        "dintorni di",
        "i dintorni di",
        "nella zona di",
    )
)
"""Folded words that say that something is near to the place after them."""

NO_PLACES: Final = _words("""
    lion lions brest brujas rioja
""")
"""Folded names of places in other languages that are words in one of the five."""

PLACES_AS_WORDS: Final = _words("""
    granada porto madeira panama cologne toledo parma bologna valencia siena kiel cuba
    cordoba orlando bermuda salta quito malta colonia mosca marche lione petra macao bari
    manhattan chihuahua cayenne samoa mali niger oman togo tonga china chad chile guinea
    bremen dover montana cochin dakar
""")
"""Folded names of places that mean something else in lower case without a preposition."""

WORDS_OF_LANGUAGES: Final = {
    "pisa": ("es",),
    "lima": ("es", "it", "fr"),
    "como": ("es",),
    "salta": ("es", "it"),
    "marche": ("fr",),
    "mosca": ("es", "it"),
    "colonia": ("es", "it"),
    "bari": ("fr",),
    "rom": ("en",),
    "rio": ("es", "it"),
    "sydney": (),
    "petra": (),
}
"""Folded names of places that are words of some languages in lower case."""

PLACES_AND_PEOPLE: Final = _words("""
    jordan chelsea austin georgia brooklyn charlotte madison lincoln jackson savannah victoria
    virginia carolina nancy essen israel santiago rosario regina lourdes diego washington hamilton
    kent devon dakota
""")
"""Folded names of places that are a name or a word after *of*, too."""

NAMESAKES: Final = _words("""
    sydney london sofia adelaide alice phoenix rio kyoto tokyo oslo bruno lola
""")
"""More folded names of places that people and animals have."""

WORDS_AFTER_PREPOSITIONS: Final = _words("""
    vienne cannes florence florencia genes brest nancy rio ginebra bordeaux
""")
"""Folded common words that are places after a preposition in lower case, too: *à vienne*."""

SIGHTS: Final = _words("""
    bus metro subway tram trip skyline vacation holiday holidays museum zoo airport station harbour
    harbor christmas market cathedral castle street streets canal canals rooftops sunset night
    urlaub reise hafen dom altstadt flughafen bahnhof kolosseum pyramiden strand weihnachten
""")
"""Folded words with a capital after the name of a place that do not make it another name."""

ABBREVIATIONS: Final = {
    ("US",): "United States",
    ("U", ".", "S", "."): "United States",
    ("U", ".", "S", ".", "A", "."): "United States",
    ("U", ".", "S", ".", "A"): "United States",
    ("U", ".", "S"): "United States",
    ("E", ".", "U", "."): "United States",
    ("EE", ".", "UU", "."): "United States",
    ("EE", ".", "UU"): "United States",
    ("EE", "UU"): "United States",
    ("EEUU",): "United States",
    ("U", ".", "K", "."): "United Kingdom",
    ("U", ".", "K"): "United Kingdom",
    ("GB",): "United Kingdom",
    ("LA",): "Los Angeles",
    ("L", ".", "A", "."): "Los Angeles",
    ("L", ".", "A"): "Los Angeles",
    ("SF",): "San Francisco",
    ("S", ".", "F", "."): "San Francisco",
    ("NY",): "New York",
    ("N", ".", "Y", "."): "New York",
    ("N", ".", "Y", ".", "C", "."): "New York",
    ("DC",): "Washington",
    ("HK",): "Hong Kong",
    ("NZ",): "New Zealand",
    ("KL",): "Kuala Lumpur",
    ("BCN",): "Barcelona",
    ("U", ".", "A", ".", "E", "."): "United Arab Emirates",
}
"""Abbreviations of places in capitals, as words and marks, and the English names."""
