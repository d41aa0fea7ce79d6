"""Stop words: words that say nothing about what a picture shows, in eight languages.

A word that English queries use as a noun, a verb or a name is left out, even if it is an article, a
pronoun or a preposition in another language: *hat*, *war* and *man* in German, *van*, *door* and
*dan* in Dutch, *son* and *pour* in French, *sin* in Spanish, *mia* and *come* in Italian.
"""

from __future__ import annotations

_ENGLISH = """
    a about anything everything something one find show after all also am an and any are as at
    be because been before being both but by can could did do does each every few for from had
    has have having he her here hers him his how i if in into is it its itself just me more most
    my near next no nor not now of off on onto or other our ours out over own per she should so
    some such than that the their theirs them then there these they this those through to too
    under until up upon us very was we were what when where which while who whom whose why with
    within without would you your yours
"""

_GERMAN = """
    aber als am an auch auf aus bei beim bis da damit das dass dem den der des die diese dieser
    dieses doch durch ein eine einem einen einer eines er es für gegen hinter ich ihr ihre im
    ins ist kein keine mein meine mit nach neben nicht noch nur oder ohne sein seine sich sie
    sind über um und uns unser unsere unter vom von vor waren wie wir wird zu zum zur zwischen
"""

_FRENCH = """
    à au aux avec ce ces cet cette chez dans de des du en entre est et eux il ils je la le les
    leur leurs ma mais mes mon ne nos notre nous ou où par pas qui que sa sans ses sont sous sur
    ta tes tu un une vers vos votre vous y
"""

_SPANISH = """
    al algo ante aquí como con contra cual cuando de del desde donde durante el en entre era es
    esa ese eso esta está este esto estos estas hacia hasta la las le les lo los más mi mis muy
    nos nuestra nuestro para pero por que qué se sobre su sus también tras tu un una unas uno
    unos y ya
"""

_ITALIAN = """
    agli ai al alla alle allo anche che chi con cui da dai dal dalla dalle degli dei del della
    delle dello di e è ed gli i il in io la le lo loro ma nei nel nella nelle non o per più
    quella quello questa questo se senza si sono sotto su sua sul sulla suo tra fra un una uno
"""

_DUTCH = """
    aan als bij dat de deze die dit een en er geen haar het hij hun ik in is je maar mijn naar
    niet nog of om onder ons onze ook op te tegen tot tussen uit voor waar wij ze zich zij zijn
    zonder
"""

_PORTUGUESE = """
    à ao aos as às até com como da das de dela dele do dos e é ela ele em entre era essa esse
    esta este eu foi isso isto já lhe mais mas me meu minha muito na nas não nem no nos o os ou
    para pela pelo por que quem se sem seu sobre sua são também tem um uma umas uns
"""

_ABOUT_PICTURES = """
    photo photos photograph photographs picture pictures pic pics image images img snapshot
    snapshots depicting depicts showing shows foto fotos fotografie fotografien aufnahme
    aufnahmen bild bilder photographie photographies fotografía fotografías fotografia
    fotografias imagen imágenes imagem imagens immagine immagini afbeelding afbeeldingen plaatje
    plaatjes фото фотография 사진 写真 画像 照片 图片 圖片 相片
"""

_UNSEGMENTED = "の は が を に で と も へ や 的 了 是 在 和 與 与"

STOP_WORDS = frozenset(
    word
    for words in (
        _ENGLISH,
        _GERMAN,
        _FRENCH,
        _SPANISH,
        _ITALIAN,
        _DUTCH,
        _PORTUGUESE,
        _ABOUT_PICTURES,
        _UNSEGMENTED,
    )
    for word in words.split()
)
"""Casefolded words that weigh nothing in a search."""
