"""Names of things that hold the name of a place, and words that make such names.

All are folded: in lower case, without accents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mmsearch.search.understanding.words import Word


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GENITIVES: Final = _words("""
    of from von vom aus de du d' des di da del dello della dell' dei degli delle do dos das el la
    las los l' le les der dem den the
""")
"""Folded words between a thing and the place that it is named after: *jambon de Bayonne*."""

FOOD: Final = _words("""
    almonds apples bacon bagel baguette bean beans beef beer biscuit biscuits brandy bread broth
    brownie bun butter cake candy caviar cheese cheeses chestnuts chicken chips chocolate chocolates
    cider cocktail coffee cookie cookies croissant croissants dates drink dumplings figs fish fries
    fruit gin goulash grapes ham hamburger honey icecream juice lamb lemon lemons liqueur meat
    meatballs milk muffin mussels mustard noodles nuts oil olives onions orange oranges oysters
    pastry pasta peaches pie pies pizza pork pretzel prawns pudding ragout rice rum salad salami
    salmon sandwich sauce sausage sausages schnapps shrimp soup spices spirits steak stew sushi tea
    toast tomatoes tuna vodka whisky whiskey wine wines yogurt
    apfel apfel birnen bier biere brot brotchen brezel butter eintopf eis fisch fleisch forelle
    gebaeck geback gewurze gulasch honig joghurt kaffee kase kaese kekse kirschen klosse knodel
    knoedel krapfen kuchen lachs lebkuchen likor likoer mandeln marmelade marzipan nudeln nusse obst
    ol olivenol oliven orangen orangensaft pfannkuchen pfirsiche pilze pralinen quark reis
    rindfleisch saft salami salz schinken schnaps schnitzel schokolade sekt senf spargel speck
    spatzle stollen suppe tee tomaten torte trauben wein weine weisswein rotwein wurst wurste
    wurstchen zitronen zwiebeln
    abricots agneau ail andouille andouillette artichauts asperges aubergines baba beignets betises
    beurre biere bieres biscuits boeuf b\u0153uf bonbons boudin bouillabaisse brandade brie brioche
    brochet cafe calissons calvados camembert canele caneles caramel caramels cassoulet champignon
    champignons chapon charcuterie chocolat chocolats choucroute cidre citron citrons clementines
    confiture cornichons coulommiers crepe crepes crevettes crottin dattes dragees eau fenouil
    ficelle figues flan foie fougasse fraises fromage fromages fruits galette galettes gateau
    gateaux gaufre gaufres glace gratin haricots homard huile huiles huitres jambon jambons jus lait
    langoustines lard lentilles liqueur macaron macarons madeleine madeleines marrons melon melons
    miel mirabelles moules moutarde mouton navets noisettes noix nougat oignons olives oranges
    orangettes pain pains pate pates patisseries petoncles piment pistache poisson poissons poivre
    pomme pommes poularde poulet poulets poutargue praline pralines pruneau pruneaux puree quenelle
    quenelles quiche raisin raisins rillettes riz rosette saint-jacques salade salades sardine
    sardines sauce saucisse saucisses saucisson saucissons saumon sel sirop socca sorbet soupe sucre
    tapenade tarte tartelette tartes the thon tomates tripes truffe truffes truite veau viande
    viandes vin vins vinaigre volaille yaourt
    aceite aceites aceituna aceitunas agua aguacates ajo albaricoques alcachofas alfajores almejas
    almendra almendras alubias anchoas arroz atun azafran bacalao berenjenas bizcocho bocadillo
    bombones boquerones botillo brandy butifarra cafe calamares caldo callos camarones caracoles
    caramelos carne carnes cava cecina cerezas cerveza cervezas chocolate chocolates chorizo
    chorizos chuleta chuleton churros ciruelas cochinillo cocido cordero croquetas datiles dulces
    embutido embutidos empanada empanadas ensaimada ensaimadas ensalada esparragos fabada fabes
    flan fresas fresones fruta gambas garbanzos gazpacho ginebra guisantes habas helado higos
    horchata
    huevos jamon jamones jerez judias langostinos leche lechazo lechuga lentejas licor limon limones
    lomo longaniza manchego mandarinas mantecados mantequilla manzanas manzanilla marisco mariscos
    mazapan mazapanes mejillones melocotones melon membrillo merluza miel migas mojama mojo
    mollete morcilla morcillas naranja naranjas nueces olivas olla ostras paella paellas pan papas
    pastel pasteles patatas pate percebes pescado pescaito pestinos pimenton pimiento pimientos
    pinchos pipas pisto platanos polvorones postre pulpo queso quesos rabo ron sal salchichas
    salchichon salmorejo sangria sardinas setas sidra sobaos sobrasada solomillo sopa tarta te
    ternera
    tocino tomate tomates torreznos torrija torta tortilla trucha trufas turron turrones uvas vermut
    vinagre vino vinos yemas zumo
    aceto acciughe acqua aglio agnello agnolotti amaretti amaro aragosta arance arancia arancine
    arancini asparagi baba baccala bagna biscotti birra bistecca bottarga branzino brodo bruschetta
    bucatini burrata burro caciocavallo cacciucco caffe cannoli cannolo cantucci caponata
    cappelletti
    capperi caprese carciofi carne castagne cavolo ceci ciambella ciliegie cioccolata cioccolatini
    cioccolato cipolla cipolle confetti coppa cotoletta cozze crema crostata culatello dolce dolci
    fagioli farina farinata fichi finocchio finocchiona focaccia formaggi formaggio fontina fragole
    friarielli frittata fritto frutta funghi gamberi gelato gianduia gnocchi gorgonzola grana grappa
    insalata lardo latte lenticchie limoncello limone limoni liquore liquirizia mandorle marroni
    marzapane mela mele melanzane miele minestra mortadella mostarda mozzarella mozzarelle 'nduja
    nocciole noci olio olive orecchiette ostriche ova pancetta panettone pandoro pane panelle
    panforte panino parmigiana parmigiano passito pasta pasticceria pasticciotto patate pecorino
    peperoncino peperoni pere pesce pesche pesto pecora piadina piadine pinoli pistacchi pistacchio
    pizza pizze polenta pollo polpette polpo pomodori pomodorini pomodoro porchetta porcini presunto
    prosciutti prosciutto prosecco provola ragu ravioli ribollita ricciarelli ricotta riso risotto
    salame salami sale salsiccia salsicce sarde seppie sfogliatella sfogliatelle sopressa spaghetti
    speck spritz spumante stracchino tagliatelle taralli tartufi tartufo te tiramisu tonno torrone
    torroni torta tortelli tortellini trippa trofie uva vini vino vongole zucchine zuppa
    pastis absinthe creme coquilles jacques tequila mezcal pisco coles repollo cavolini cavoletti
    granita granite cassata carbonara amatriciana piadine waffle waffles lobster lobsters scones
    arros vinho vinhos queijo pasteis bacalhau azulejo
""") - _words(
    "dates fish candy drink drinks fruit eis glace crema dulces dolce dolci the te ceci pere"
    " sale ron rosette coppa baba"
)
"""Folded dishes, food and drinks that are named after a place with *of* or the like."""

CRAFTS: Final = _words("""
    plaster lace linen glass crystal porcelain china pottery perfume soap carpet rug tapestry
    gips spitze porzellan kristall seife parfum teppich keramik glas
    savon savons faience faiences porcelaine cristal dentelle dentelles parfum eau tapisserie
    tapis toile indienne soie soieries chapeau gants bleu rouge jaune vert blanc platre dogue
    griffon
    encaje encajes porcelana cristal jabon colonia alfombra ceramica azulejos seda sombrero mantilla
    abanico toro toros burro azul rojo
    merletto merletti porcellana cristallo sapone vetro ceramica ceramiche seta terra blu cappello
    bambola maschera marmo
""") - _words(
    "cristal rouge bleu blanc vert jaune azul rojo blu toro toros burro glass glas cappello"
)
"""Folded materials and wares that are named after a place."""

WEARS_OF_CLUBS: Final = _words("""
    jersey jerseys shirt shirts tshirt kit scarf scarves fan fans supporter supporters ultras
    hooligans match derby footballer
    trikot trikots schal schals fanschal fanblock fanschals anhanger spieler spiel heimspiel torwart
    maillot maillots echarpe supporteur supportrice supportrices joueur
    camiseta camisetas bufanda bufandas hincha hinchas aficion aficionado aficionados partido
    jugador equipacion ultra
    maglia maglie maglietta magliette sciarpa sciarpe tifoso tifosa tifosi tifoserie partita divisa
    giocatore
""")
"""Folded words beside which the name of a city is that of its sports club."""

MATCHES: Final = _words("""
    match derby partita partido heimspiel auswartsspiel pokalspiel finale champions
""")
"""Folded words in a query in which names of cities are those of sports clubs."""

CLUBS_BEFORE: Final = _words("""
    real fc ac ssc afc cf inter borussia eintracht hertha arminia fortuna olympique atletico
    athletic
    sporting deportivo dynamo dinamo lokomotive lokomotiv ajax rapid vfb vfl rcd ogc girondins
    feyenoord alba hellas stade benfica maccabi hapoel partizan slavia sparta legia wisla spartak
    zska
    cska hsv bsc tsv fsv osc
""")
"""Folded words before a city that make it the name of a sports club."""

CLUBS_AFTER: Final = _words("""
    fc cf afc sc united wanderers rovers hotspur calcio yankees knicks mets lakers clippers dodgers
    49ers niners celtics bruins phillies raptors canadiens canucks oilers mavericks astros texans
    spurs seahawks mariners broncos nuggets pistons packers bucks brewers timberwolves braves
    hornets
    steelers cavaliers bengals colts pacers chiefs royals orioles wizards sox blackhawks suns
""")
"""Folded words after a city that make it the name of a sports club."""

COUNTRY_ADJECTIVES: Final = _words("suisse suiza svizzera argentina argentine")
"""Folded names of countries that are adjectives, too: *montre suisse*, *carne argentina*."""

ADJECTIVE_HEADS: Final = (
    FOOD
    | CRAFTS
    | _words("""
    montre couteau vache banque reloj navaja vaca banco orologio coltellino coltello mucca banca
    tango bandera bandiera
    """)
)
"""Folded words before such an adjective that a thing of a country has."""

STREETS_BEFORE: Final = _words("""
    gare rue avenue boulevard bd quai square impasse faubourg chaussee porte place
    piazza piazzale piazzetta viale via corso vicolo largo porta rione
    calle plaza plazuela avenida paseo glorieta carretera ronda puerta callejon
    rua praca platz
""")
"""Folded words before a place that make it the name of a street, a square or a station."""

STREETS_AFTER: Final = _words("""
    road lane avenue boulevard rd
""")
"""Folded words after a place that make it the name of a street."""

INDEFINITE_ARTICLES: Final = _words("""
    a an une un una uno eine einer
""")
"""Folded articles before a street that is in a place, not named after it: *une rue de Paris*."""

MADE: Final = _words("""
    made hecho hecha fabrique fabriquee fatto fatta prodotto prodotta hergestellt gemacht fabricado
    fabricada produced
""")
"""Folded words before *in* and a place where a thing is from."""

RULERS: Final = _words("""
    king queen prince princess duke duchess emperor empress president bank church
    konig konigin prinz prinzessin herzog herzogin kaiser kaiserin prasident
    roi reine prince princesse duc duchesse comte comtesse empereur president pucelle
    rey reina principe princesa duque duquesa emperador emperatriz presidente
    re regina principe principessa duca duchessa imperatore presidente
    equipe selection seleccion nazionale nationalmannschaft
""")
"""Folded words before *of* and a place that make the name of a person, a team or an office."""

CARS: Final = _words("""
    seat opel ford kia hyundai ferrari vw volkswagen chevrolet chevy dodge chrysler pontiac
    cadillac maserati fiat lancia dacia skoda toyota nissan suzuki ducati triumph porsche renault
    peugeot citroen audi volvo lincoln buick gmc
""")
"""Folded brands of cars before a place that make it the name of a model."""

THINGS_BEFORE_PLACES: Final = (
    WEARS_OF_CLUBS
    | CLUBS_BEFORE
    | CARS
    | _words("""
    pizza salade salat insalata ensalada choux chou spaghetti flag fahne flagge drapeau bandera
    bandiera map karte carte mapa mappa landkarte stadtplan frasco savon jambon
    queso fromage kase prosciutto lord lady duke tarta torta mortadella parmigiano naranja
    naranjas arancia arance paella ragu turron jamon tarte moutarde toast saucisson saucisse
    camembert champignons champignon mozzarella
    """)
)
"""Folded words that make the name of a place after them that of a thing, also without *of*."""

THINGS_AFTER_PLACES: Final = (
    WEARS_OF_CLUBS
    | CLUBS_AFTER
    | STREETS_AFTER
    | _words("""
    sandwich sandwiches sprouts sneakers shoes club salad sauce cheese sausage beer wine steak
    fries toast muffin style flag map hilton jersey bulldog terrier terriers hat hats carpet rug
    leather chair airlines times post sprout vase plate bowl leg breast burger roll flats poster
    syndrome express hoodie cap mug magnet sticker souvenir cheesecake bagel
    sausages schnitzel protocol convention postcard curry kebab steaks cheeses
    blinds griffon griffons coon retriever boots shorts cocktail cocktails mule libre nut nuts ham
    mustard bean beans oranges marmalade mahogany parrot collie spaniel hound mastiff hairless
    rottweiler rex pinscher reds
    pizza soap butter lace waffle waffles ham chocolate chocolates porcelain cigar cigars rum yellow
    slammer national
    salat suppe torte flagge fahne karte schinken senf wurst toasts marzipan christstollen stollen
    """)
)
"""Folded words that make the name of a place before them that of a thing."""

_FIXED = """
    hugo boss,hugo chavez,victor hugo,jonas brothers,jonas kaufmann,chloe bag,chloe handbag
    chloe perfume,chloe parfum,alfa romeo giulia,giulia quadrifoglio,marc jacobs,giorgio armani
    roter milan,rote milane,schwarzer milan,schwarze milane,milan royal,milan noir,milans royaux
    real madrid,ac milan,as roma,as monaco,inter mailand,inter milan,inter de milan,inter milano
    bayern munchen,bayern muenchen,bayern munich,fc bayern,bayern monaco,bayern de munich
    paris saint germain,paris saint - germain,paris sg,paris fc,red bull salzburg,rb salzburg
    rb leipzig,austria wien,austria vienna,austria salzburg,1860 munchen,1860 munich,hamburger sv
    borussia dortmund,athletic bilbao,atletico de madrid,atletico madrid,real sociedad
    manchester city,leeds united,newcastle united,west ham,om marseille,olympique lyon
    new york giants,new york jets,new york rangers,new york islanders,new york nets,brooklyn nets
    chicago bears,chicago bulls,chicago cubs,detroit lions,detroit tigers,miami heat,miami dolphins
    pittsburgh penguins,pittsburgh pirates,cleveland browns,los angeles rams,los angeles kings
    los angeles angels,la rams,la kings,la lakers,la galaxy,la dodgers,la clippers
    san francisco giants,golden state warriors,dallas cowboys,dallas stars,boston red
    philadelphia eagles,minnesota vikings,minnesota twins,new england patriots,new orleans saints
    tampa bay lightning,arizona cardinals,st louis blues,toronto maple,washington capitals
    carolina panthers,florida panthers,atlanta hawks,utah jazz,orlando magic,oklahoma city thunder
    union berlin,death in venice,tod in venedig,mort a venise,muerte en venecia,morte a venezia
    merchant of venice,kaufmann von venedig,marchand de venise,mercader de venecia
    mercante di venezia,when in rome,tokyo drift,california dreaming,california dreamin
    brittany spears,britney spears,sydney sweeney,florence nightingale,florence and the machine
    leaving las vegas,viva las vegas,vicky cristina barcelona,gangs of new york,rio film
    escape from new york,to rome with love,letters from iwo jima,manchester by the sea
    madagascar film,pinguine aus madagascar,london has fallen,paris je t' aime,rome series
    an englishman in new york,englishman in new york,barbiere di siviglia,barber of seville
    barbier von sevilla,barbier de seville,barbero de sevilla,carmen sevilla,jesus of nazareth
    bremer stadtmusikanten,pont d' avignon,bruges la morte,passage to india,lost in austen
    tour de france,giro d' italia,giro de italia,vuelta a espana,la vuelta espana,air france
    stade de france,ile de france trikot,miss italia,miss france,miss germany,miss espana,miss usa
    venice beach,long beach,virginia beach,miami vice,beverly hills cop,sunset boulevard
    tokyo hotel,paris hilton,orient express,orient - express,little italy,little italia,little india
    little tokyo,little venice,petite france,petite venise,petit paris,kleine venedig,klein venedig
    piccola venezia,new mexico,hong kong phooey,little havana,little britain,captain america
    bank of america,bank of england,church of england,prince of wales,lawrence of arabia
    plaster of paris,platre de paris,dogue de bordeaux,terra di siena
    terre de sienne,siena gebrannt,eau de cologne,agua de colonia,acqua di colonia,kolnisch wasser
    panama hat,panama hut,panama hats,jardin du luxembourg,jardins du luxembourg
    palais du luxembourg
    luxembourg gardens,bois de boulogne,hotel de paris,hotel de rome,hotel de londres
    hotel de france,hotel de inglaterra,hotel d' angleterre,hotel bristol,hotel de suede
    gare du nord,estacion de francia,estacio de franca,estacion de atocha,gare d' austerlitz
    paris brest,paris - brest,banana split,split pea,split screen,split level,split ring
    moscow mule,cuba libre,manhattan cocktail,long island iced,irish coffee,singapore sling
    boston terrier,boston cream,boston cream pie,boston baked,buffalo wings,buffalo mozzarella
    philadelphia cheese,philadelphia cream,philly cheesesteak,philly cheese,manhattan clam
    new york cheesecake,new york strip,new england clam,chicago deep,chicago style,kansas city bbq
    london broil,lima bean,lima beans,brussels sprout,brussels sprouts,brussels lace,brazil nut
    brazil nuts,brazilian nuts,java sparrow,java coffee,java tea,guinea pig,guinea pigs
    guinea fowl,turkey vulture,turkey leg,turkey breast,turkey dinner,bengal tiger,bengal cat
    siam cat,persian cat,madagascar cat,labrador retriever,newfoundland dog,maine coon,maine coons
    maine lobster,maine lobsters,nova scotia duck,rhode island red,rhode island reds,jersey cow
    jersey cows,guernsey cow,guernsey cows,shetland pony,shetland ponies,shetland pullover
    shetland sheepdog,iceland pony,iceland poppy,norfolk terrier,norwich terrier,yorkshire terrier
    yorkshire pudding,yorkshire puddings,bordeaux mastiff,bordeaux dogge
    toast hawaii,hawaii toast,pizza hawaii,hawaiian pizza,hawaii pizza,hawaii hemd,hawaii shirt
    chemise hawaii,camisa hawaii,camicia hawaii,bermuda shorts,bermuda grass
    chelsea boots,chelsea boot,chelsea bun,chelsea buns,oxford shoes,oxford shoe,oxford shirt
    oxford hemd,capri pants,capri hose,capri hosen,capri sun,capri sonne,norfolk jacket
    norway spruce,norway maple,norway rat,norway lobster,norway pullover,lima limon,cologne bottle
    damascus steel,damascus knife,japan lack,delft blue,prussian blue,china rose,china porcelain
    milano biscuits,milano cookies,milano cookie,vienna sausages,vienna sausage,wien schnitzel
    frankfurt sausage,frankfurt sausages,wiener wurstchen,nurnberg bratwurst,salsa verde
    baked alaska,alaska pollock,california roll,california rolls,mississippi mud,kentucky fried
    kentucky bourbon,tennessee whiskey,texas toast,texas longhorn,texas instruments,hotel california
    virginia creeper,virginia ham,virginia woolf,indiana jones,hannah montana
    dakota johnson,dakota fanning,tennessee williams,jack london,london grammar
    berlin alexanderplatz
    babylon berlin,emily in paris,midnight in paris,an american in paris,last tango in paris
    ein amerikaner in paris,minuit a paris,un americain a paris,brugge sehen
    sleepless in seattle,notre - dame de paris musical,casablanca film,film casablanca
    casablanca lilies,casablanca lily,casablanca poster,chicago musical,musical chicago
    philadelphia film,munich film,roma film,nashville film,paris texas,
    cafe de paris,sauce cafe de paris,cafe paris butter
    boeuf bourguignon,sauce hollandaise,
    peking duck,pekin duck,canard de pekin,pato de pekin,peking ente,anatra di pechino
    tandoori delhi,mumbai sandwich,saigon roll,new yorker magazine,london fog,london dry
    london gin,london dry gin,dublin bay prawn,dublin bay prawns,dover sole,cornwall pasty
    cornish pasty,bakewell tart,bath bun,bath buns,bath salts,bath bomb,bath towel,bath tub
    eton mess,cheddar cheese,stilton cheese,worcester sauce,wiener melange,linzer torte
    linz torte,black forest cake,black forest gateau,black forest ham,foret noire gateau
    hamburg steak,frankfurter kranz,leipziger allerlei,leipzig allerlei,dresden china
    dresden porcelain,meissen porcelain,meissen porzellan,delft porcelain,sevres porcelain
    murano glass,vetro di murano,bohemian crystal,bohemia crystal,bohemia glas
    ibiza seat,toledo steel,cordoba leather,jerez sherry,rioja wein,rioja wine
    santiago calatrava,santiago bernabeu,valencia orange,valencia oranges,seville orange
    seville oranges,malaga eis,malaga wein,vino malaga,helado de malaga,ron de malaga
    tahiti vanilla,tahiti dusche,fa tahiti,manila mango,manila envelope,manila folder,java moss
    bombay sapphire,bombay mix,madras curry,madras shirt,calcutta cup,bengal lights,ceylon tea
    assam tea,darjeeling tea,darjeeling tee,assam tee,ceylon tee,ceylon zimt,ceylon cinnamon
    kashmir sweater,kashmir goat,angora rabbit,angora cat,angora goat,angora kaninchen
    ankara cat,suez crisis,dubai chocolate,dubai schokolade,chocolat dubai
    chocolate dubai,chocolate de dubai,cioccolato dubai,schokolade dubai,mocha latte,mokka kaffee
    leonardo da vinci,francesco d' assisi
    franz von assisi,francis of assisi,francois d' assise,francisco de asis,caterina da siena
    catherine of siena,catalina de siena,antonio de padua,antonio da padova,anthony of padua
    santo antonio de lisboa,jeanne d' arc,erasmo da rotterdam,erasmus von rotterdam
    erasmus of rotterdam,teresa de avila,theresa von avila,juan de austria,helen of troy
    wizard of oz,robin des bois,catalina de aragon,leonor de aquitania,eleanor of aquitaine
    william of orange,guillermo de orange,wilhelm von oranien,margaret of austria
    duke of york,duchess of cambridge,duke of edinburgh,earl of sandwich,mayor of london
    burgermeister von berlin,maire de paris,alcalde de madrid,sindaco di roma
    berlin syndrome,stockholm syndrome,stockholm syndrom
    syndrome de stockholm,sindrome de estocolmo,sindrome di stoccolma,jerusalem artichoke
    jerusalem artichokes,lima syndrome,helsinki syndrome,geneva convention,geneva conventions
    genfer konvention,kyoto protocol,kyoto protokoll,protocole de kyoto,protocolo de kioto
    paris agreement,accord de paris,acuerdo de paris,accordi di parigi,bologna process
    bologna prozess,spaghetti bologna,sandwich bologna,bologna sandwich,bologna sausage
    fried bologna,parma ham,parma schinken,parma violets,lasagne bologna,ragu bologna
    napoli salami,pizza napoli,pizza milano,pizza roma,pizza venezia,pizza palermo,pizza parma
    spaghetti napoli,penne napoli,salsa napoli,sauce napoli,sugo napoli,salami milano,salame milano
    salame napoli,risotto milano,gnocchi sorrento,insalata capri
    monaco grand,havana club,havana cat,havana zigarre,habana puro
    puro de la habana,cigare de la havane,sigaro dell' avana,havana cigar,havana cigars
    paris match,new york times,the new york times,la nacion,le monde
    berlin zeitung,frankfurter allgemeine,washington post,boston globe,chicago tribune
    corriere della sera,british airways,ben & jerry 's,ben and jerry 's,ben hur,ben nevis
    ben - hur,anna karenina,anna frank,anne frank,anna netrebko,anna magnani,anna wintour
    anna kournikova
    anna kendrick,anna seghers,anna pavlova,emma watson,emma stone,emma thompson,emma bovary
    emma peel,maria callas,maria sharapova,maria magdalena,maria stuart,mary stuart,maria theresia
    maria teresa,maria himmelfahrt,maria carey,sofia loren,sophia loren,sofia coppola,sofia vergara
    luca toni,luca modric,luka modric,noah arche,noah 's ark,noahs arche,arche noah,arca noe
    bjorn borg,ben stiller,ben affleck,ben kingsley,ben harper,ben 10,big ben,uncle ben
    uncle ben 's,ben howard,paolo maldini,paolo rossi,paolo conte,paolo coelho,paolo nutini
    jose mourinho
    jose carreras,jose saramago,jose marti,lily allen,lily james,lily collins,will smith
    will ferrell,tom cruise,tom hanks,tom waits,tom sawyer,tom yum,tom tom,tom and jerry,tom & jerry
    paul mccartney,paul klee,paul cezanne,paul gauguin,paul newman,max planck,max frisch,max ernst
    max verstappen,leo messi,leo tolstoi,leo tolstoy,laura palmer,laura pausini,lena meyer
    clara schumann,clara bow,frida kahlo,pablo picasso,pablo neruda,pablo escobar,diego maradona
    diego rivera,diego velazquez,carmen electra,carmen miranda,peter pan,peter rabbit,peter parker
    lucas film,jan vermeer,jan van eyck,hans zimmer,hans christian,marie curie,marie antoinette
    marie - antoinette,marie biscuit,pierre cardin,pierre herme,pierre richard,jean paul,jean reno
    claude monet,claude debussy,camille claudel,edith piaf,louis vuitton,louis armstrong
    charlotte bronte,charlotte rampling,marco polo,marco pantani,andrea bocelli,andrea pirlo
    giulia roberts,julia roberts,giulietta e romeo,romeo e giulietta,romeo und julia
    romeo and juliet,romeo et juliette,romeo y julieta,adam and eve,adam und eva,adam et eve
    adan y eva,adamo ed eva,hansel und gretel,max und moritz,alice in wonderland,alice cooper
    alice im wunderland,alice au pays,alicia en el pais,alice nel paese,bob marley,bob dylan
    david bowie,david beckham,david di michelangelo
    michael jackson,michael jordan,michael schumacher,martin luther,johnny cash,jimmy choo
    jane austen,jane fonda,grace kelly,grace jones,victoria beckham,victoria 's secret
    victoria falls,victoria lake,queen victoria,queen mary,queen elizabeth,oscar wilde
    felix the cat,felix katze,luna park,jack daniels,jack daniel 's
    jack russell,jack o,jack sparrow,jack nicholson,jack wolfskin,harry potter,harry styles
"""


def _build_fixed() -> dict[str, list[tuple[str, ...]]]:
    fixed: dict[str, list[tuple[str, ...]]] = {}
    for name in _FIXED.replace("\n", ",").split(","):
        if words := tuple(name.split()):
            fixed.setdefault(words[0], []).append(words)
    return fixed


FIXED_NAMES: Final = _build_fixed()
"""Names of things, teams and people of the world by their first folded word."""


def find_fixed_names(words: Sequence[Word]) -> set[int]:
    """Return the positions of the words of names of things, teams and people of the world."""
    found: set[int] = set()
    for start, word in enumerate(words):
        for name in FIXED_NAMES.get(word.folded, ()):
            if tuple(other.folded for other in words[start : start + len(name)]) == name:
                found.update(range(start, start + len(name)))
    return found
